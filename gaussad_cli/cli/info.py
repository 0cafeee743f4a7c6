"""`gaussad info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import Verify, print_result
from gaussad_cli.errors import UserError


def info(
    name: Annotated[
        Optional[str],
        typer.Argument(
            metavar="[BACKBONE|MODEL]",
            help="Backbone, such as efficientnet-b4, or model file, such as screw.gaussad.  [default: list all]",
        ),
    ] = None,
    weights: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Describe this weight file: which backbones it fits, and what it lacks."),
    ] = None,
    verify: Verify = True,
) -> None:
    """List the backbones; show the levels, feature maps, cost and weights of one; or describe a model or weight file.

    Example: gaussad info efficientnet-b4

    Example: gaussad info screw.gaussad

    Example: gaussad info --weights efficientnet-b4-6ed6700e.pth
    """
    if name is not None and name.lower().endswith((".pth", ".pt", ".safetensors")):
        raise UserError(f"{name} is a weight file: say gaussad info --weights {name}.")
    if name is not None and _is_model(name):
        if weights is not None:
            raise UserError(f"--weights goes with a backbone, and {name} is a model file: give only one of them.")
        print_result(_describe_model(Path(name)))
        return
    # Only now: a model is described without torch and pandas.
    from gaussad_cli.backbones.info import describe_backbone, describe_backbones, describe_weights
    from gaussad_cli.backbones.registry import find_backbone

    found = None if name is None else find_backbone(name)
    if weights is not None:
        print_result(describe_weights(weights, found, verify))
    else:
        print_result(describe_backbones() if found is None else describe_backbone(found))


def _is_model(name: str) -> bool:
    from gaussad_cli.backbones.registry import BACKBONES

    return name.endswith(".gaussad") or (name.lower() not in BACKBONES and Path(name).is_file())


def _describe_model(path: Path) -> str:
    from gaussad_cli.detector.container import read_model
    from gaussad_cli.detector.describe import describe_model

    return describe_model(path, read_model(path))
