"""`gaussad export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import ModelFile, Weights, choice
from gaussad_cli.errors import UserError

FORMATS = ("onnx",)
INPUTS = ("nhwc-uint8", "nchw-float")


def export(
    model: ModelFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write this file.")],
    format_: Annotated[str, choice(FORMATS, "--format", help="Write this kind of file.")] = "onnx",
    input_: Annotated[
        str,
        choice(
            INPUTS,
            "--input",
            help="Take RGB images like this: (N, H, W, 3) bytes, or (N, 3, H, W) numbers from 0 to 1.",
        ),
    ] = "nhwc-uint8",
    resize: Annotated[
        bool,
        typer.Option(
            "--resize", help="Take images of any height and width, and resize them inside, exactly as OpenCV."
        ),
    ] = False,
    image: Annotated[
        Optional[list[Path]],
        typer.Option(metavar="FILE", help="Compare scores on this image; repeatable.  [default: 3 random ones]"),
    ] = None,
    weights: Weights = None,
) -> None:
    """Write a model as one ONNX file: images in; score, decision, p_value and map out.

    The map has the distances of all places; a pooled model gives level_scores instead. Preprocessing, network and
    Gaussians are inside. Without --resize, images must have the network's input size: resize them straight to the
    square (cv2.resize, INTER_LINEAR, on 8-bit pixels). The file is only written if its scores and maps in ONNX Runtime
    are those of the model, within 1e-4.

    Example: gaussad export screw.gaussad --out screw.onnx

    Example: gaussad export screw.gaussad --out screw.onnx --resize --image mvtec/screw/test/good/000.png
    """
    from gaussad_cli.detector.container import read_model
    from gaussad_cli.detector.export import export_model

    if format_ not in FORMATS:
        raise UserError(f"unknown --format '{format_}'. Known: {', '.join(FORMATS)}.")
    typer.echo(str(export_model(read_model(model), weights, out, input_, resize, image or [])))
