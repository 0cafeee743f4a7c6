"""Whether measured cells are as near to the paper's as they should be: what `gaussad tables --check` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gaussad_cli.settings import convert, read_yaml
from gaussad_cli.tables import words
from gaussad_cli.tables.cells import MEAN, Cell, Table, full_name
from gaussad_cli.tables.published import MVTEC_CATEGORIES

_DEFAULT = "default"
_Table = Annotated[Literal["default", "1", "2", "3", "4", "5", "7", "8"], BeforeValidator(str)]
_Values = Annotated[dict[Literal["sem", "at_least"], Annotated[float, Field(strict=True, ge=0)]], Field(min_length=1)]
_File = dict[Literal["auroc", "fpr", "tpr", "dim"], dict[_Table, _Values]]


@dataclass(frozen=True)
class Tolerance:
    """A number of published SEMs, but at least a number of points."""

    sem: float = 0.0
    at_least: float = 0.0

    def of(self, cell: Cell) -> float:
        """Return how far a cell may be from the paper's."""
        return max(self.sem * (cell.published_sem or 0.0), self.at_least)


Tolerances = Mapping[tuple[str, int | str], Tolerance]  # by quantity, and table or "default"


@dataclass(frozen=True)
class Failure:
    """A cell that is too far from the paper's."""

    table: int
    network: str
    row: str
    column: str
    cell: Cell
    tolerance: float

    def __str__(self) -> str:
        name = f"Table {words.ROMAN[self.table]}, {self.row}, {self.column}, {self.network}"
        return (
            f"{name}: measured {self.cell.mean:.1f}, paper {self.cell.published_mean:.1f}, "
            f"difference {self.cell.difference:+.1f}, tolerance {self.tolerance:.1f}"
        )


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes
    ----------
    checked : cells that were compared
    unequal : cells over fewer categories than the paper's, or of other epochs: they cannot be compared
    failures : of those checked
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


def check_tables(tables: Sequence[Table], tolerances: Tolerances) -> Verdict:
    """Compare every cell that has a counterpart in the paper, over the same categories."""
    checked, unequal, failures = 0, 0, []
    for table in tables:
        for row, cells in zip(table.rows, table.cells, strict=True):
            for column, cell in zip(table.columns, cells, strict=True):
                if cell.difference is None:
                    continue
                if not _is_comparable(cell):
                    unequal += 1
                    continue
                checked += 1
                tolerance = _find(tolerances, cell.quantity, table.number).of(cell)
                if abs(cell.difference) > tolerance:
                    failures.append(
                        Failure(table.number, _network(cell), words.row_name(row), column.title, cell, tolerance)
                    )
    return Verdict(checked, unequal, tuple(failures))


def _network(cell: Cell) -> str:
    if cell.source is None:
        return ""
    return full_name(cell.source.variant, [cell.source.variant])


def _is_comparable(cell: Cell) -> bool:
    """Whether a cell is over the paper's categories, and of its number of augmented epochs: none, or 100."""
    if cell.source is not None and cell.source.epochs not in (None, 0, 100):
        return False
    return cell.category != MEAN or set(cell.categories) == set(MVTEC_CATEGORIES)


def _find(tolerances: Tolerances, quantity: str, table: int) -> Tolerance:
    return tolerances.get((quantity, table)) or tolerances[quantity, _DEFAULT]


def read_tolerances(path: Path | None = None) -> Tolerances:
    """Read how far cells may be from the paper's: gaussad's own file, with those of another file in place of its own.

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
