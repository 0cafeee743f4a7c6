"""Tables into the results folder: what `gaussad tables` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.results import metrics_path, read_metrics
from gaussad_cli.files import write_whole
from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.render import render_all

STYLES = {"text": "txt", "markdown": "md", "csv": "csv"}  # format -> suffix


def write_tables(
    numbers: Sequence[int],
    backbones: Sequence[str] | None,
    results: Path,
    dataset: str | None,
    style: str,
    categories: Sequence[str] | None = None,
) -> tuple[Path, str]:
    """Build the tables, write each in every format to ``<results>/<dataset>/tables/``, and return one format's text.

    Parameters
    ----------
    categories : only these; None for all in the results

    Raises
    ------
    UserError
        If there are no results, or nothing of these tables was evaluated.
    """
    metrics = read_metrics(results, dataset)
    if categories is not None:
        metrics = metrics[metrics["category"].isin(categories)]
    built = {number: build_tables(number, metrics, backbones) for number in numbers}
    tables = [table for group in built.values() for table in group]
    if not tables:
        raise UserError(_nothing(numbers, backbones, sorted(set(metrics["backbone"]))))
    folder = metrics_path(results, str(metrics["dataset"].iloc[0])).parent / "tables"
    for number, group in built.items():
        for each, suffix in STYLES.items():
            if group:
                _write(folder / f"table_{number}.{suffix}", group, each)
    return folder, render_all(tables, style)


def _write(path: Path, tables: Sequence[Table], style: str) -> None:
    write_whole(path, lambda file: file.write(render_all(tables, style).encode()))


def _nothing(numbers: Sequence[int], backbones: Sequence[str] | None, evaluated: Sequence[str]) -> str:
    names = ", ".join(map(str, numbers))
    by = f" by {', '.join(backbones)}" if backbones else ""
    return f"nothing of table {names}{by} was evaluated. Evaluated backbones: {', '.join(evaluated)}."
