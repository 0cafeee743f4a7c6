"""Results to tables: tables."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.options import (
    Format,
    TableNumbers,
    WhichDataset,
    canonical_names,
    note,
)
from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from gaussad_cli.tables.write import Built

KNOWN_TABLES = (1, 2, 3, 4, 5, 7, 8)
FORMATS = ("text", "markdown", "latex", "html", "csv")
TOO_FAR = 3  # exit status of a check that failed


def tables(
    table: TableNumbers = None,
    backbone: Annotated[Optional[list[str]], typer.Option(help="Only these; repeatable.  [default: all]")] = None,
    results: Annotated[Path, typer.Option(help="The results folder.")] = Path("results"),
    dataset: WhichDataset = None,
    style: Format = "text",
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the paper instead; exit 3 if a cell is too far from it.")
    ] = False,
    tolerances: Annotated[
        Optional[Path], typer.Option(help="YAML file of how far cells may be, see gaussad_cli/tables/tolerances.yaml.")
    ] = None,
) -> None:
    """Print the paper's tables from the results, measured beside published, and write them to the results folder.

    In a terminal, differences are coloured by their size, and a row's best is bold. With --check, only cells over the
    same categories as the paper's are compared.

    Example: gaussad tables --table 3 --format markdown

    Example: gaussad tables --check
    """
    if tolerances is not None and not check:
        raise UserError("--tolerances goes with --check.")
    check_tables(table, style)
    from gaussad_cli.tables.write import build_all

    names = None if backbone is None else canonical_names(backbone)
    built = build_all(table or KNOWN_TABLES, names, results, dataset)
    if check:
        _check(built, tolerances)
    else:
        typer.echo(_render(built, style), nl=False)


def _check(built: Built, path: Path | None) -> None:
    from gaussad_cli.tables.check import check_tables as compare
    from gaussad_cli.tables.check import read_tolerances

    verdict = compare(built.tables, read_tolerances(path))
    typer.echo(verdict)
    if not verdict.checked:
        raise UserError("no cell could be checked: the paper's are means over all 15 categories of MVTec AD.")
    if verdict.failures:
        raise typer.Exit(TOO_FAR)


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
    from gaussad_cli.tables.write import build_all

    return _render(build_all(numbers or KNOWN_TABLES, backbones, results, dataset, categories), style)


def _render(built: Built, style: str) -> str:
    from gaussad_cli.tables.render import render_all
    from gaussad_cli.tables.write import write_all

    write_all(built)
    note(f"Tables are in {built.folder}.")
    return render_all(built.tables, style, _in_colour())


def _in_colour() -> bool:
    """Whether stdout is a terminal whose user has not asked for plain text (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
