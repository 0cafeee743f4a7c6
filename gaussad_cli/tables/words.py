"""What a cell says, in whatever format: measured, the paper's, their difference, and which is the row's best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gaussad_cli.evaluation.rows import SUM
from gaussad_cli.tables.cells import MEAN, Cell, Table, is_partial

ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", 7: "VII", 8: "VIII"}
NOTHING = "-"
Size = Literal["", "near", "off", "far"]  # of a difference; "": there is none
_RATES = 4  # the table whose columns are rates, none better than the next
_LEARN_FROM_ANOMALIES = ("classifier", "ood")  # tested on other folds: upper bounds, no competitors
_POINTS = 1.0  # percentage points that stand for a SEM where the paper has none
SIZES = "A difference is near (within the paper's SEM, or 1 point where it has none), off (within twice that), or far."


def row_name(name: str) -> str:
    """Name a row as the paper does."""
    return printable(name.capitalize() if name == MEAN or name.startswith(SUM) else name)


def title(table: Table) -> str:
    """Return "Table III. ..."."""
    return f"Table {ROMAN[table.number]}. {printable(table.title)}"


def measured(cell: Cell, table: Table, plus_minus: str = " ±") -> str:
    """Return the measured mean and SEM, marked where it is over fewer categories than the table."""
    if cell.mean is None:
        return NOTHING if cell.quantity else ""
    return with_sem(cell.mean, cell.sem, plus_minus) + ("†" if is_partial(cell, table) else "")


def paper(cell: Cell, plus_minus: str = " ±") -> str:
    """Return the paper's mean and SEM."""
    if not cell.quantity:
        return ""
    return NOTHING if cell.published_mean is None else with_sem(cell.published_mean, cell.published_sem, plus_minus)


def difference(cell: Cell) -> str:
    """Return measured minus published, with its sign."""
    if not cell.quantity:
        return ""
    return NOTHING if cell.difference is None else f"{round(cell.difference, 1) + 0.0:+.1f}"  # never -0.0


def with_sem(mean: float, sem: float | None, plus_minus: str = " ±") -> str:
    """Return a mean with its SEM, one decimal each."""
    return f"{mean:.1f}" if sem is None else f"{mean:.1f}{plus_minus}{sem:.1f}"


def size(cell: Cell) -> Size:
    """Say how large a difference is, by the paper's own SEM."""
    if cell.difference is None:
        return ""
    unit = cell.published_sem or _POINTS
    apart = abs(cell.difference)
    return "near" if apart <= unit else "off" if apart <= 2 * unit else "far"


def best_of(row: Sequence[Cell], number: int) -> set[int]:
    """Return the columns of a row's highest measured AUROCs, as they are shown; none of a single one, none in Table IV.

    Compared are means over the same categories, as many as possible, of what learns from normal images only.

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


def _competes(cell: Cell) -> bool:
    learns = cell.source is not None and cell.source.score in _LEARN_FROM_ANOMALIES
    return cell.mean is not None and cell.quantity == "auroc" and not learns


def printable(text: str) -> str:
    """Replace what no line can hold: names come from folders and files, and may have escape codes or line ends."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def has_paper(table: Table, column: int) -> bool:
    """Whether the paper has any cell of a column."""
    return any(row[column].published_mean is not None for row in table.cells)
