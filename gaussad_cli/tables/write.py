"""From the results folder to its tables, built and written there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.manifests import check_images
from gaussad_cli.evaluation.results import choose_dataset, read_manifests, read_metrics
from gaussad_cli.files import write_whole
from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.known import NAMES, SUFFIXES
from gaussad_cli.tables.render import render_all


@dataclass(frozen=True)
class Built:
    """The tables that were measured, by number, and the folder they are written to."""

    folder: Path
    by_number: Mapping[int, Sequence[Table]]

    @property
    def tables(self) -> list[Table]:
        """All tables, in order."""
        return [table for group in self.by_number.values() for table in group]


def build_all(
    numbers: Iterable[int],
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
        If there are no results, they come from different data, or nothing that belongs to these tables was evaluated.
    """
    name = choose_dataset(results, dataset)
    check_images(results / name, read_manifests(results, name))
    metrics = read_metrics(results, name)
    if categories is not None:
        metrics = metrics[metrics["category"].isin(categories)]
    built = {number: build_tables(number, metrics, backbones) for number in numbers}
    if not any(built.values()):
        names = ", ".join(NAMES[number] for number in built)
        by = f" by {', '.join(backbones)}" if backbones else ""
        evaluated = ", ".join(sorted(set(metrics["backbone"])))
        raise UserError(f"nothing of table {names}{by} was evaluated. Evaluated backbones: {evaluated}.")
    return Built(results / name / "tables", built)


def write_all(built: Built) -> None:
    """Write every table in every format to ``<results>/<dataset>/tables/``.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    for number, tables in built.by_number.items():
        for style, suffix in SUFFIXES.items():
            if tables:
                _write(built.folder / f"table_{NAMES[number]}.{suffix}", render_all(tables, style))


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))
