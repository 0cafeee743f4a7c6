"""What tables say in every format: the words of a cell, the best of a row, and where a wide table is broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gaussad_cli.evaluation.rows import SUM
from gaussad_cli.tables.cells import MEAN, Table, TableCell, is_partial
from gaussad_cli.tables.known import NAMES, ROMAN

PARTS = ("measured", "paper", "diff")  # what a column shows; the first alone where the paper has none of its cells
QUOTED = ("quoted",)  # what a column of quoted cells shows
NOTHING = "-"
Size = Literal["", "near", "off", "far"]  # of a difference; "" where there is none
SIZES = "A difference is near (within the paper's SEM, or 1 point where it has none), off (within twice that), or far."
_POINTS = 1.0  # percentage points that stand for a SEM where the paper has none
_RATES = 4  # the table whose columns are rates, none of which is better than another
_LEARN_FROM_ANOMALIES = ("classifier", "ood")  # upper bounds that are tested on other folds: no competitors


def row_name(name: str) -> str:
    """Name a row as the paper does."""
    return printable(name.capitalize() if name == MEAN or name.startswith(SUM) else name)


def title(table: Table) -> str:
    """Return "Table III. ..."; a table that is not the paper's has no number."""
    name = f"Table {ROMAN[table.number]}" if table.number in ROMAN else NAMES[table.number].capitalize()
    return f"{name}. {printable(table.title)}"


def measured(cell: TableCell, table: Table, plus_minus: str = " ±") -> str:
    """Return the measured mean and SEM, with a mark if they are over fewer categories than the table."""
    if cell.mean is None:
        return NOTHING if cell.quantity else ""
    return _with_sem(cell.mean, cell.sem, plus_minus) + ("†" if is_partial(cell, table) else "")


def paper(cell: TableCell, plus_minus: str = " ±") -> str:
    """Return the paper's mean and SEM."""
    if not cell.quantity:
        return ""
    return NOTHING if cell.published_mean is None else _with_sem(cell.published_mean, cell.published_sem, plus_minus)


def difference(cell: TableCell) -> str:
    """Return measured minus published, with its sign."""
    if not cell.quantity:
        return ""
    return NOTHING if cell.difference is None else f"{round(cell.difference, 1) + 0.0:+.1f}"  # never -0.0


def parts(table: Table, row: int, column: int) -> tuple[str, ...]:
    """Return what a cell shows under each of its column's :func:`part_names`."""
    cell = table.cells[row][column]
    if table.columns[column].quoted:
        return (paper(cell),)
    return (measured(cell, table), paper(cell), difference(cell))[: len(part_names(table, column))]


def part_names(table: Table, column: int) -> tuple[str, ...]:
    """Return what a column shows: all :data:`PARTS` if the paper has any of its cells, otherwise one."""
    if table.columns[column].quoted:
        return QUOTED
    return PARTS if any(row[column].published_mean is not None for row in table.cells) else PARTS[:1]


def _with_sem(mean: float, sem: float | None, plus_minus: str) -> str:
    return f"{mean:.1f}" if sem is None else f"{mean:.1f}{plus_minus}{sem:.1f}"


def size(cell: TableCell) -> Size:
    """Say how large a difference is, by the paper's own SEM."""
    if cell.difference is None:
        return ""
    unit = cell.published_sem or _POINTS
    apart = abs(cell.difference)
    return "near" if apart <= unit else "off" if apart <= 2 * unit else "far"


def best_of(row: Sequence[TableCell], number: int) -> set[int]:
    """Return the columns of a row that show its highest measured AUROC.

    Only approaches that learn from normal images compete, and only means over the same categories, as many as possible.
    A single competitor is not marked, and Table IV has none.

    Parameters
    ----------
    number : of the table
    """
    rivals = {index: cell for index, cell in enumerate(row) if number != _RATES and _competes(cell)}
    most = max((len(cell.categories) for cell in rivals.values()), default=0)
    rivals = {index: cell for index, cell in rivals.items() if len(cell.categories) == most}
    if len(rivals) < 2 or len({cell.categories for cell in rivals.values()}) > 1:
        return set()
    shown = {index: round(cell.mean or 0.0, 1) for index, cell in rivals.items()}
    return {index for index, value in shown.items() if value == max(shown.values())}


def _competes(cell: TableCell) -> bool:
    learns_from_anomalies = cell.source is not None and cell.source.score in _LEARN_FROM_ANOMALIES
    return cell.mean is not None and cell.quantity == "auroc" and not learns_from_anomalies


def printable(text: str) -> str:
    """Replace control characters: names come from folders and files, and may hold escape codes or line ends."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def break_columns(widths: Sequence[int], room: int) -> list[list[int]]:
    """Group the columns of a wide table into blocks, none of them wider than there is room, unless it is one column."""
    blocks: list[list[int]] = []
    left = 0
    for index, width in enumerate(widths):
        if not blocks or width > left:
            blocks.append([])
            left = room
        blocks[-1].append(index)
        left -= width
    return blocks
