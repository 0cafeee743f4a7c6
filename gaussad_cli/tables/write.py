"""Tables into the results folder: what `gaussad tables` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.results import metrics_path, read_metrics
from gaussad_cli.files import write_whole
from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.render import STYLES, render_all


def write_tables(
    numbers: Sequence[int],
    backbones: Sequence[str] | None,
    results: Path,
    dataset: str | None,
    style: str,
    categories: Sequence[str] | None = None,
    colour: bool = False,
    width: int | None = None,
) -> tuple[Path, str]:
    """Build the tables, write each in every format to ``<results>/<dataset>/tables/``, and return one format's text.

    Parameters
    ----------
    style : of `STYLES`, of what is returned
    categories : only these; None for all in the results
    colour, width : of the returned text, for a terminal; files are without

    Raises
    ------
    UserError
        If there are no results, or nothing of these tables was evaluated.
    """
    folder, tables = gather_tables(numbers, backbones, results, dataset, categories)
    write_files(folder, tables)
    return folder, render_all(tables, style, colour, width)


def gather_tables(
    numbers: Sequence[int],
    backbones: Sequence[str] | None,
    results: Path,
    dataset: str | None,
    categories: Sequence[str] | None = None,
) -> tuple[Path, list[Table]]:
    """Build the tables from the results; return the folder for them, and them.

    Raises
    ------
    UserError
        If there are no results, or nothing of these tables was evaluated.
    """
    metrics = read_metrics(results, dataset)
    if categories is not None:
        metrics = metrics[metrics["category"].isin(categories)]
    tables = [table for number in numbers for table in build_tables(number, metrics, backbones)]
    if not tables:
        raise UserError(_nothing(numbers, backbones, sorted(set(metrics["backbone"]))))
    return metrics_path(results, str(metrics["dataset"].iloc[0])).parent / "tables", tables


def write_files(folder: Path, tables: Sequence[Table]) -> None:
    """Write every format of every table, ``table_<number>.<suffix>``."""
    for number in dict.fromkeys(table.number for table in tables):
        group = [table for table in tables if table.number == number]
        for style, suffix in STYLES.items():
            _write(folder / f"table_{number}.{suffix}", group, style)


def _write(path: Path, tables: Sequence[Table], style: str) -> None:
    write_whole(path, lambda file: file.write(render_all(tables, style).encode()))


def _nothing(numbers: Sequence[int], backbones: Sequence[str] | None, evaluated: Sequence[str]) -> str:
    names = ", ".join(map(str, numbers))
    by = f" by {', '.join(backbones)}" if backbones else ""
    return f"nothing of table {names}{by} was evaluated. Evaluated backbones: {', '.join(evaluated)}."
