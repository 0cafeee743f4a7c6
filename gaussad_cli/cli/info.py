"""`gaussad info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import Verify


def info(
    backbone: Annotated[
        Optional[str], typer.Argument(help="Backbone, such as efficientnet-b4.  [default: list all]")
    ] = None,
    weights: Annotated[
        Optional[Path], typer.Option(help="Describe this weight file: which backbones it fits, and what it lacks.")
    ] = None,
    verify: Verify = True,
) -> None:
    """List the backbones; show the levels, feature maps, cost and weights of one; or describe a weight file.

    Example: gaussad info efficientnet-b4

    Example: gaussad info --weights efficientnet-b4-6ed6700e.pth
    """
    from gaussad_cli.backbones.info import describe_backbone, describe_backbones, describe_weights
    from gaussad_cli.backbones.registry import find_backbone

    found = None if backbone is None else find_backbone(backbone)
    if weights is not None:
        typer.echo(describe_weights(weights, found, verify))
    else:
        typer.echo(describe_backbones() if found is None else describe_backbone(found))
