"""gaussad download: public data sets, from their owners."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.options import Categories, note, print_result, split_names
from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from gaussad_cli.datasets.download import Source

DATASETS = ["mvtec", "visa", "btad"]


def download(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar=f"[{'|'.join(DATASETS)}]", autocompletion=lambda: DATASETS, help="Data set to download."
        ),
    ],
    data: Annotated[
        Optional[Path],
        typer.Option(metavar="DIR", help="Put the categories in this folder.  [default: the data set's name]"),
    ] = None,
    categories: Categories = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence, which you have read.")
    ] = False,
    url: Annotated[
        Optional[str], typer.Option(metavar="URL", help="Download the archive from this address, if it has moved.")
    ] = None,
    sha256: Annotated[Optional[str], typer.Option(metavar="HASH", help="Require this SHA-256 of the archive.")] = None,
) -> None:
    """Download MVTec AD, VisA or BTAD, in the layout that gaussad reads.

    An interrupted download goes on where it stopped. Before anything is extracted, the SHA-256 of the archive is
    compared with the one that its owner publishes or, if there is none, with that of the last download. The archive
    stays beside the categories until you remove it.

    Example: gaussad download mvtec --categories bottle,screw --accept-licence
    Example: gaussad download visa --data sets/visa --accept-licence
    """
    from gaussad_cli.datasets.download import download as fetch
    from gaussad_cli.datasets.download import find_source

    source = find_source(dataset)
    _agree(source, accept_licence)
    folder = data or Path(dataset.lower())
    for path in fetch(source, folder, split_names(categories), url, sha256, note):
        print_result(path)
    note(f"The folder is in the MVTec layout. Use it: gaussad run --data {folder}")


def _agree(source: Source, accepted: bool) -> None:
    """Show a licence; go on only if it is accepted."""
    note(f"{source.name}, (c) {source.holder}: {source.page}\nLicence: {source.licence}\nIts terms: {source.terms}")
    if not accepted and not (sys.stdin and sys.stdin.isatty() and _confirmed()):
        raise UserError("the licence was not accepted: read it, then run again with --accept-licence.")


def _confirmed() -> bool:
    typer.echo("Do you accept this licence? [y/N] ", nl=False, err=True)  # typer.confirm writes to stdout, too
    return sys.stdin.readline().strip().lower() in ("y", "yes")
