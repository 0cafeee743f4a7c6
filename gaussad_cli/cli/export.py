"""A trained model elsewhere, and looked into: export, explain."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.model import ModelFile
from gaussad_cli.cli.options import Weights, note, raise_problems
from gaussad_cli.errors import ImageError, UserError


def export(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="File to write.")],
    format_: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    input_: Annotated[
        str,
        typer.Option("--input", help="nhwc-uint8: (N, H, W, 3) bytes; nchw-float: (N, 3, H, W) from 0 to 1. RGB."),
    ] = "nhwc-uint8",
    resize: Annotated[
        bool, typer.Option("--resize", help="Take any height and width, and resize inside, as OpenCV does, to the bit.")
    ] = False,
    image: Annotated[
        Optional[list[Path]], typer.Option(help="Compare scores on this image; repeatable.  [default: 3 random ones]")
    ] = None,
    weights: Weights = None,
) -> None:
    """Write a model as one ONNX file: image in; score, decision, p_value and level_scores out.

    Preprocessing, network and Gaussians are inside. Without --resize, images come at the network's input size, resized
    straight to the square (cv2.resize, INTER_LINEAR, on 8-bit pixels). Nothing is written unless its scores in ONNX
    Runtime are the model's own, within 1e-4.

    Example: gaussad export screw.gaussad --out screw.onnx

    Example: gaussad export screw.gaussad --out screw.onnx --resize --image mvtec/screw/test/good/000.png
    """
    from gaussad_cli.detector.container import read_model
    from gaussad_cli.detector.export import FORMATS, export_model

    if format_ not in FORMATS:
        raise UserError(f"unknown --format '{format_}'. Known: {', '.join(FORMATS)}.")
    typer.echo(str(export_model(read_model(model), weights, out, input_, resize, image or [])))


def explain(
    model: ModelFile,
    images: Annotated[list[Path], typer.Argument(help="Image files, folders of them, or - for paths on stdin.")],
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("explanations"),
    level: Annotated[
        Optional[int], typer.Option(help="Level to look at.  [default: the one that stands out most]")
    ] = None,
    normal: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder of normal images, of which 20 say what is normal at each place: for aligned objects."
        ),
    ] = None,
    weights: Weights = None,
    json_: Annotated[
        bool, typer.Option("--json", help="A JSON object per image, and line, instead of a table.")
    ] = False,
) -> None:
    """Say why images scored as they did: at which levels, where, and along which components. A picture for each.

    The distance map holds each place's own features against the Gaussian of features averaged over whole images, which
    vary far less. That is not the score's model: compare places of one map only. The contribution map is exact: its
    mean is that level's squared distance. Neither is a segmentation; --normal makes both much sharper where objects are
    aligned.

    Example: gaussad explain bottle.gaussad bottle/test/broken_large/000.png --normal bottle/train/good
    """
    from gaussad_cli.detector.container import read_model
    from gaussad_cli.detector.explain import check_level, open_explainer, picture_names
    from gaussad_cli.detector.pictures import draw_explanation
    from gaussad_cli.detector.predict import expand

    read = read_model(model)
    check_level(read, level)
    explainer = open_explainer(read, weights, normal)
    paths, problems = list(expand(map(str, images), sys.stdin)), []
    for path, name in zip(paths, picture_names(paths), strict=True):
        try:
            explanation = explainer.explain(explainer.read(path), str(path), level)
        except ImageError as error:  # the others can go on
            problems.append(str(error))
            continue
        draw_explanation(explanation, out / name)
        row = {**explanation.row(), "picture": str(out / name)}
        typer.echo(json.dumps(row) if json_ else explanation.table())
        note(f"{path}: {out / name}")
    raise_problems(*problems)
