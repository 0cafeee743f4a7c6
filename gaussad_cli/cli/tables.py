"""The command `tables`: from results to the paper's tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.layout import OUTPUT
from gaussad_cli.cli.options import Format, TableNumbers, WhichDataset, backbone_option, canonical_names, note
from gaussad_cli.errors import UserError
from gaussad_cli.tables.known import NAMES, NUMBERS, SUFFIXES

if TYPE_CHECKING:
    from gaussad_cli.tables.write import Built

TOO_FAR = 3  # exit status of a check that failed


def tables(
    table: TableNumbers = None,
    backbone: Annotated[
        Optional[list[str]], backbone_option(help="Show only this one; repeatable.  [default: all]")
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Read the results from this folder.", rich_help_panel=OUTPUT)
    ] = Path("results"),
    dataset: WhichDataset = None,
    style: Format = "text",
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the paper instead; exit 3 if a cell is too far from it.")
    ] = False,
    tolerances: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE",
            help="Read from this YAML file how far cells may be, see gaussad_cli/tables/tolerances.yaml.",
        ),
    ] = None,
) -> None:
    """Print the paper's tables from the results, measured beside published, and write them to the results folder.

    The table "places" is not the paper's: it has the scores of places beside quoted results of PaDiM and PatchCore.

    In a terminal, differences are coloured by their size, and the best of a row is bold. With --check, only cells over
    the same categories as the paper's are compared.

    Example: gaussad tables --table 3 --format markdown

    Example: gaussad tables --table places

    Example: gaussad tables --check
    """
    if tolerances is not None and not check:
        raise UserError("--tolerances goes with --check.")
    numbers = check_tables(table, style)
    from gaussad_cli.tables.write import build_all

    names = None if backbone is None else canonical_names(backbone)
    built = build_all(numbers or NAMES, names, results, dataset)
    if check:
        _compare_with_paper(built, tolerances)
    else:
        typer.echo(_write_and_render(built, style), nl=False)


def _compare_with_paper(built: Built, tolerances: Path | None) -> None:
    from gaussad_cli.tables import check

    verdict = check.check_against_paper(built.tables, check.read_tolerances(tolerances))
    typer.echo(verdict)
    if not verdict.checked:
        raise UserError("no cell could be checked: the paper's are means over all 15 categories of MVTec AD.")
    if verdict.failures:
        raise typer.Exit(TOO_FAR)


def check_tables(names: list[str] | None, style: str) -> list[int]:
    """Return the numbers of tables; unknown ones, and an unknown format, are refused before any work is done."""
    if style not in SUFFIXES:
        raise UserError(f"unknown format '{style}'. Known: {', '.join(SUFFIXES)}.")
    for name in names or ():
        if name not in NUMBERS:
            raise UserError(f"no table {name}: known are {', '.join(NUMBERS)}.")
    return [NUMBERS[name] for name in names or ()]


def render_tables(
    numbers: list[int],
    backbones: list[str] | None,
    results: Path,
    dataset: str | None,
    style: str,
    categories: list[str] | None = None,
) -> str:
    """Write the tables to the results folder, and return the text to print."""
    from gaussad_cli.tables.write import build_all

    return _write_and_render(build_all(numbers or NAMES, backbones, results, dataset, categories), style)


def _write_and_render(built: Built, style: str) -> str:
    from gaussad_cli.tables.render import render_all
    from gaussad_cli.tables.write import write_all

    write_all(built)
    note(f"Tables are in {built.folder}.")
    if style != "text" or not sys.stdout.isatty():
        return render_all(built.tables, style)
    from rich.console import Console

    from gaussad_cli.tables.terminal import print_table

    console = Console()
    with console.capture() as captured:
        for table in built.tables:
            print_table(table, console)
    return captured.get()
