"""What there is: info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import (
    Verify,
)


def info(
    backbone: Annotated[Optional[str], typer.Argument(help="Such as efficientnet-b4.  [default: list all]")] = None,
    weights: Annotated[Optional[Path], typer.Option(help="Say what this weight file is, lacks and serves.")] = None,
    verify: Verify = True,
) -> None:
    """Tell a backbone's levels, feature maps, cost and weights; or what a weight file is.

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
