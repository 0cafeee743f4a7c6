"""Data sets from their owners: download."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.options import Categories, note, split_names
from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from gaussad_cli.datasets.download import Source


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

    An interrupted download goes on where it was. Before anything is extracted, the archive is checked against the
    SHA-256 that is published of it or, where none is, that the download before had. It stays beside the categories
    until you remove it.

    Example: gaussad download mvtec --categories bottle,screw --accept-licence
    Example: gaussad download visa --data sets/visa --accept-licence
    """
    from gaussad_cli.datasets.download import download as fetch
    from gaussad_cli.datasets.download import find_source

    source = find_source(dataset)
    _agree(source, accept_licence)
    folder = data or Path(dataset.lower())
    for path in fetch(source, folder, split_names(categories), url, sha256, note):
        typer.echo(path)
    note(f"In the MVTec layout: gaussad run --data {folder}")


def _agree(source: Source, accepted: bool) -> None:
    """Show a licence; go on only if it is accepted."""
    note(f"{source.name}, (c) {source.holder}: {source.page}\nLicence: {source.licence}\nIt asks: {source.terms}")
    if not accepted and not (sys.stdin.isatty() and _confirmed()):
        raise UserError("the licence was not accepted: read it, then say --accept-licence.")


def _confirmed() -> bool:
    typer.echo("Do you accept this licence? [y/N] ", nl=False, err=True)  # typer.confirm writes to stdout, too
    return sys.stdin.readline().strip().lower() in ("y", "yes")
