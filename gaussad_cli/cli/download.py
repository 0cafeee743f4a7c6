"""Data sets from their owners: download."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import Categories, note, split_names
from gaussad_cli.errors import UserError


def download(
    dataset: Annotated[str, typer.Argument(help="mvtec, visa or btad.")],
    data: Annotated[
        Optional[Path], typer.Option(help="Folder of the categories.  [default: the data set's name]")
    ] = None,
    categories: Categories = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence, and accept it.")
    ] = False,
    url: Annotated[Optional[str], typer.Option(help="Another address of the same archive: links move.")] = None,
    sha256: Annotated[Optional[str], typer.Option(help="What the archive's SHA-256 must be.")] = None,
) -> None:
    """Download MVTec AD, VisA or BTAD, in the layout that gaussad reads.

    An interrupted download goes on where it was. The archive is checked against its published SHA-256 before anything
    of it is extracted, and stays beside the categories until you remove it.

    Example: gaussad download mvtec --categories bottle,screw --accept-licence
    """
    from gaussad_cli.datasets.download import download as fetch
    from gaussad_cli.datasets.download import find_source

    source = find_source(dataset)
    note(f"{source.name}, (c) {source.holder}. Licence: {source.licence}\n{source.terms}")
    if not accept_licence and not (sys.stdin.isatty() and typer.confirm("Do you accept this licence?", err=True)):
        raise UserError("the licence was not accepted: read it, then say --accept-licence.")
    folder = data or Path(dataset.lower())
    for path in fetch(source, folder, split_names(categories), url, sha256, note):
        typer.echo(path)
