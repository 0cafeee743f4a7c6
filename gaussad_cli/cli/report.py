"""The command `report`: from results to one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import WhichDataset, backbone_option, canonical_name, note, print_result


def report(
    results: Annotated[Path, typer.Option(metavar="DIR", help="Read the results from this folder.")] = Path("results"),
    dataset: WhichDataset = None,
    data: Annotated[
        Optional[Path],
        typer.Option(metavar="DIR", help="Show images and masks from this folder of images.  [default: no images]"),
    ] = None,
    backbone: Annotated[
        Optional[str], backbone_option(help="Show the distances of this one in detail.  [default: the best]")
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="Write this file.  [default: report.html in the results]")
    ] = None,
) -> None:
    """Write one self-contained HTML file: tables, figures, best and worst images, and what was run.

    It needs no network and no script, so you can send it as it is. With --data, it contains some of your images.
    After evaluate --score places --maps, they stand beside their heat maps and masks, with curves of pixels.

    Example: gaussad report --data mvtec
    """
    from gaussad_cli.report.write import write_report

    lead = None if backbone is None else canonical_name(backbone)
    note("Report:")
    print_result(write_report(results, dataset, data, lead, out))
