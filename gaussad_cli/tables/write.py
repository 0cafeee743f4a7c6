"""Tables into the results folder: what `gaussad tables` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.results import metrics_path, read_metrics
from gaussad_cli.files import write_whole
from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.render import STYLES, render_all


@dataclass(frozen=True)
class Built:
    """Tables that were measured, by number, and the folder they are written to."""

    folder: Path
    by_number: Mapping[int, Sequence[Table]]

    @property
    def tables(self) -> list[Table]:
        """All of them, in order."""
        return [table for group in self.by_number.values() for table in group]


def build_all(
    numbers: Sequence[int],
    backbones: Sequence[str] | None,
    results: Path,
    dataset: str | None,
    categories: Sequence[str] | None = None,
) -> Built:
    """Build tables from the results.

    Parameters
    ----------
    backbones, categories : only these; None for all in the results

    Raises
    ------
    UserError
        If there are no results, or nothing of these tables was evaluated.
    """
    metrics = read_metrics(results, dataset)
    if categories is not None:
        metrics = metrics[metrics["category"].isin(categories)]
    built = {number: build_tables(number, metrics, backbones) for number in numbers}
    if not any(built.values()):
        raise UserError(_nothing(numbers, backbones, sorted(set(metrics["backbone"]))))
    return Built(metrics_path(results, str(metrics["dataset"].iloc[0])).parent / "tables", built)


def write_all(built: Built) -> None:
    """Write every table in every format, to ``<results>/<dataset>/tables/``.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    for number, group in built.by_number.items():
        for style, suffix in STYLES.items():
            if group:
                _write(built.folder / f"table_{number}.{suffix}", group, style)


def _write(path: Path, tables: Sequence[Table], style: str) -> None:
    write_whole(path, lambda file: file.write(render_all(tables, style).encode()))


def _nothing(numbers: Sequence[int], backbones: Sequence[str] | None, evaluated: Sequence[str]) -> str:
    names = ", ".join(map(str, numbers))
    by = f" by {', '.join(backbones)}" if backbones else ""
    return f"nothing of table {names}{by} was evaluated. Evaluated backbones: {', '.join(evaluated)}."
