"""Results to one page: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import WhichDataset, canonical_name, note


def report(
    results: Annotated[Path, typer.Option(help="The results folder.")] = Path("results"),
    dataset: WhichDataset = None,
    data: Annotated[Optional[Path], typer.Option(help="The images, for thumbnails.  [default: none]")] = None,
    backbone: Annotated[
        Optional[str], typer.Option(help="Whose distances are shown in detail.  [default: the best]")
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="The file.  [default: report.html in the results]")] = None,
) -> None:
    """Write one self-contained HTML file: tables, figures, best and worst images, and what was run.

    It needs no network and no script, and may be sent as it is; with --data, it holds pictures of your images.

    Example: gaussad report --data mvtec
    """
    from gaussad_cli.report.write import write_report

    note("Report:")
    typer.echo(write_report(results, dataset, data, None if backbone is None else canonical_name(backbone), out))
