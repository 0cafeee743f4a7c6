"""Results to tables: tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import (
    Format,
    TableNumbers,
    WhichDataset,
    canonical_names,
    note,
)
from gaussad_cli.errors import UserError

KNOWN_TABLES = (1, 2, 3, 4, 5, 7, 8)
FORMATS = ("text", "markdown", "csv")


def tables(
    table: TableNumbers = None,
    backbone: Annotated[Optional[list[str]], typer.Option(help="Only these; repeatable.  [default: all]")] = None,
    results: Annotated[Path, typer.Option(help="The results folder.")] = Path("results"),
    dataset: WhichDataset = None,
    style: Format = "text",
) -> None:
    """Print the paper's tables from the results, measured beside published, and write them to the results folder.

    Example: gaussad tables --table 3 --format markdown
    """
    names = None if backbone is None else canonical_names(backbone)
    typer.echo(render_tables(table, names, results, dataset, style), nl=False)


def check_tables(numbers: list[int] | None, style: str) -> None:
    """Find unknown tables and formats before the work."""
    if style not in FORMATS:
        raise UserError(f"unknown format '{style}'. Known: {', '.join(FORMATS)}.")
    for number in numbers or ():
        if number not in KNOWN_TABLES:
            raise UserError(f"no table {number}: known are {', '.join(map(str, KNOWN_TABLES))}.")


def render_tables(
    numbers: list[int] | None,
    backbones: list[str] | None,
    results: Path,
    dataset: str | None,
    style: str,
    categories: list[str] | None = None,
) -> str:
    """Write the tables to the results folder, and return their text."""
    check_tables(numbers, style)
    from gaussad_cli.tables.write import write_tables

    folder, text = write_tables(numbers or KNOWN_TABLES, backbones, results, dataset, style, categories)
    note(f"Tables are in {folder}.")
    return text
