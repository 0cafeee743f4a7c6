"""Whether measured cells are as near to the paper's as they should be: `gaussad tables --check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gaussad_cli.settings import convert, read_yaml
from gaussad_cli.tables import words
from gaussad_cli.tables.cells import MEAN, Table, TableCell, full_name
from gaussad_cli.tables.known import ROMAN
from gaussad_cli.tables.published import MVTEC_CATEGORIES

_DEFAULT = "default"
_Table = Annotated[Literal["default", "1", "2", "3", "4", "5", "7", "8"], BeforeValidator(str)]
_Values = Annotated[dict[Literal["sem", "at_least"], Annotated[float, Field(strict=True, ge=0)]], Field(min_length=1)]
_File = dict[Literal["auroc", "fpr", "tpr", "dim"], dict[_Table, _Values]]


@dataclass(frozen=True)
class Tolerance:
    """How far a cell may be from the paper's: so many published SEMs, but at least so many points."""

    sem: float = 0.0
    at_least: float = 0.0

    def of(self, cell: TableCell) -> float:
        """Return the tolerance of a cell, in percentage points."""
        return max(self.sem * (cell.published_sem or 0.0), self.at_least)


Tolerances = Mapping[tuple[str, int | str], Tolerance]  # by quantity, and number of the table or "default"


@dataclass(frozen=True)
class Failure:
    """A cell that is too far from the paper's."""

    table: int
    row: str
    column: str
    cell: TableCell
    tolerance: float

    def __str__(self) -> str:
        variant = self.cell.source and self.cell.source.variant
        network = full_name(variant, [variant]) if variant else ""
        return (
            f"Table {ROMAN[self.table]}, {self.row}, {self.column}, {network}: "
            f"measured {self.cell.mean:.1f}, paper {self.cell.published_mean:.1f}, "
            f"difference {self.cell.difference:+.1f}, tolerance {self.tolerance:.1f}"
        )


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    Attributes
    ----------
    checked : number of cells that were compared
    unequal : number of cells that cannot be compared: over fewer categories than the paper's, or of other epochs
    failures : the checked cells that are too far from the paper's
    """

    checked: int
    unequal: int
    failures: tuple[Failure, ...]

    def __str__(self) -> str:
        lines = [str(failure) for failure in self.failures]
        lines.append(f"{self.checked} cells checked against the paper, {len(self.failures)} too far from it.")
        if self.unequal:
            lines.append(
                f"{self.unequal} cells not checked: means over fewer categories than the paper's 15, or other epochs."
            )
        return "\n".join(lines)


def check_against_paper(tables: Sequence[Table], tolerances: Tolerances) -> Verdict:
    """Compare every cell that the paper has over the same categories and with the same number of epochs."""
    checked, unequal, failures = 0, 0, []
    for table in tables:
        for name, row in zip(table.rows, table.cells, strict=True):
            for column, cell in zip(table.columns, row, strict=True):
                if cell.difference is None:
                    continue
                if not _is_comparable(cell):
                    unequal += 1
                    continue
                checked += 1
                default = tolerances[cell.quantity, _DEFAULT]
                tolerance = tolerances.get((cell.quantity, table.number), default).of(cell)
                if abs(cell.difference) > tolerance:
                    failures.append(Failure(table.number, words.row_name(name), column.title, cell, tolerance))
    return Verdict(checked, unequal, tuple(failures))


def _is_comparable(cell: TableCell) -> bool:
    """Whether a cell is over the paper's categories, and of one of the paper's numbers of augmented epochs."""
    if cell.source is not None and cell.source.epochs not in (None, 0, 100):
        return False
    return cell.category != MEAN or set(cell.categories) == set(MVTEC_CATEGORIES)


def read_tolerances(path: Path | None = None) -> Tolerances:
    """Read gaussad's own tolerances; those in a file of the user's replace them one by one.

    Raises
    ------
    UserError
        If the file cannot be read, or has an unknown key or a wrong value.
    """
    own = _read(Path(__file__).with_name("tolerances.yaml"))
    return own if path is None else {**own, **_read(path)}


def _read(path: Path) -> dict[tuple[str, int | str], Tolerance]:
    return {
        (quantity, table if table == _DEFAULT else int(table)): Tolerance(**values)
        for quantity, tolerances in convert(read_yaml(path), _File, path).items()
        for table, values in tolerances.items()
    }
