"""What stands in a table, whatever the format: titles, values, the best of a row, how far from the paper."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from gaussad_cli.evaluation.evaluate import SUM
from gaussad_cli.tables.cells import MEAN, Cell, Table, is_partial

ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", 7: "VII", 8: "VIII"}
NOTHING = "-"
DAGGER = "†"  # of a mean over fewer categories than the table's
POINTS = 2.0  # what stands for the SEM in judging a difference, where the paper has none
_WORKING_POINTS = 4  # its columns are rates of the same thing, none of them better than the next
_LEARN_FROM_ANOMALIES = ("classifier", "ood")  # and are tested on other folds: upper bounds, no competitors


class Size(StrEnum):
    """How far a measured cell is from the paper's."""

    CLOSE = "close"  # within its SEM
    NEAR = "near"  # within twice
    FAR = "far"  # beyond


class Value(NamedTuple):
    """What a cell reads; each part may be empty, `NOTHING` stands for what there is not."""

    mean: str
    sem: str = ""
    mark: str = ""

    def __str__(self) -> str:
        return self.mean + (f" ±{self.sem}" if self.sem else "") + self.mark


def printable(text: str) -> str:
    """Replace what no line of a table can hold: names come from folders and files, and may have escape codes."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def title_of(table: Table) -> str:
    """Return the table's title with the paper's number."""
    return f"Table {ROMAN[table.number]}. {printable(table.title)}"


def row_names(table: Table) -> list[str]:
    """Return the rows' names as they are shown."""
    return [printable(name.capitalize() if name == MEAN or name.startswith(SUM) else name) for name in table.rows]


def column_titles(table: Table) -> list[str]:
    """Return the columns' titles as they are shown."""
    return [printable(column.title) for column in table.columns]


def measured(cell: Cell, table: Table) -> Value:
    """Return the measured mean, its SEM and the mark of a partial mean."""
    if cell.mean is None:
        return Value(NOTHING if cell.quantity else "")
    return Value(f"{cell.mean:.1f}", _sem(cell.sem), DAGGER if is_partial(cell, table) else "")


def paper(cell: Cell) -> Value:
    """Return the paper's mean and SEM."""
    if cell.published_mean is None:
        return Value(NOTHING if cell.quantity else "")
    return Value(f"{cell.published_mean:.1f}", _sem(cell.published_sem))


def difference(cell: Cell) -> str:
    """Return measured minus published, with its sign."""
    if cell.difference is None:
        return NOTHING if cell.quantity else ""
    return f"{round(cell.difference, 1) + 0.0:+.1f}"  # never -0.0


def is_published(table: Table, column: int) -> bool:
    """Whether the paper has any of a column's cells."""
    return any(row[column].published_mean is not None for row in table.cells)


def size_of(cell: Cell) -> Size | None:
    """Judge a difference by the paper's SEM, or by `POINTS` where it has none; None where there is no difference."""
    if cell.difference is None:
        return None
    unit = POINTS if cell.published_sem is None else cell.published_sem
    distance = round(abs(cell.difference), 6)  # 97.7 - 96.7 is within 1.0
    return Size.CLOSE if distance <= unit else Size.NEAR if distance <= 2 * unit else Size.FAR


def best_of(table: Table, row: Sequence[Cell]) -> frozenset[int]:
    """Return the columns of a row's best measured AUROC, as printed: ties are all best.

    Compared are means over the same categories, as many as possible, of what learns from normal images only. Where
    fewer than two are left there is no best, and none in Table IV.
    """
    if table.number == _WORKING_POINTS:
        return frozenset()
    rivals = {index: cell for index, cell in enumerate(row) if _competes(cell)}
    most = max((len(cell.categories) for cell in rivals.values()), default=0)
    rivals = {index: cell for index, cell in rivals.items() if len(cell.categories) == most}
    if len(rivals) < 2 or len({cell.categories for cell in rivals.values()}) > 1:
        return frozenset()
    means = {index: float(measured(cell, table).mean) for index, cell in rivals.items()}
    return frozenset(index for index, mean in means.items() if mean == max(means.values()))


def notes_of(table: Table, bold: bool = True, colour: bool = True) -> list[str]:
    """Return the table's notes, and what its bold and coloured values mean where it has any.

    Parameters
    ----------
    bold, colour : whether the format shows the best of a row, and the size of differences
    """
    notes = list(table.notes)
    cells = [cell for row in table.cells for cell in row]
    if bold and any(best_of(table, row) for row in table.cells):
        learn = any(cell.mean is not None and not _competes(cell) for cell in cells)
        notes.append(f"Bold: the best of a row{', of what learns from normal images only' if learn else ''}.")
    if colour and any(size_of(cell) for cell in cells):
        notes.append(_colours(cells))
    return [printable(note) for note in notes]


def _colours(cells: Sequence[Cell]) -> str:
    """Say what the colours of differences mean, in a table of these cells."""
    judged = [cell for cell in cells if size_of(cell)]
    instead = f"{POINTS:g} points (or dimensions)"
    rule = "Differences: green within {}, yellow within twice that, red beyond"
    if all(cell.published_sem is None for cell in judged):
        return f"{rule.format(instead)}; the paper has no SEM here."
    also = any(cell.published_sem is None for cell in judged)
    return rule.format("the paper's SEM") + (f"; where it has none, by {POINTS:g} points." if also else ".")


def _competes(cell: Cell) -> bool:
    learns = cell.source is not None and cell.source.score in _LEARN_FROM_ANOMALIES
    return cell.quantity == "auroc" and cell.mean is not None and not learns


def _sem(sem: float | None) -> str:
    return "" if sem is None else f"{sem:.1f}"
