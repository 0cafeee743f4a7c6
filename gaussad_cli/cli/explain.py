"""`gaussad explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import ModelFile, Weights, note, print_result, raise_problems
from gaussad_cli.errors import ImageError


def explain(
    model: ModelFile,
    images: Annotated[list[Path], typer.Argument(help="Images, folders of images, or - for a list of paths on stdin.")],
    out: Annotated[Path, typer.Option(help="Folder where the pictures are written.")] = Path("explanations"),
    level: Annotated[
        Optional[int], typer.Option(help="Level to explain.  [default: the one that stands out most]")
    ] = None,
    normal: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder of normal images: what 20 of them have in common is subtracted from the maps. For aligned "
            "objects."
        ),
    ] = None,
    weights: Weights = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a line of JSON per image, not a table.")] = False,
) -> None:
    """Explain the scores of images: which levels, places and components they come from. Draws a picture for each image.

    The distance map scores the features of single places by a Gaussian of features averaged over whole images, which
    vary far less. It is not the model behind the score, so compare places within one map only. The contribution map is
    exact: its mean is the squared distance at that level. Neither map is a segmentation. Where objects are aligned,
    --normal makes both maps much sharper.

    Example: gaussad explain bottle.gaussad bottle/test/broken_large/000.png --normal bottle/train/good
    """
    from gaussad_cli.datasets.own import find_class_images
    from gaussad_cli.detector.container import read_model
    from gaussad_cli.detector.explain import check_level, open_explainer, picture_names
    from gaussad_cli.detector.pictures import draw_explanation
    from gaussad_cli.detector.predict import expand, list_names

    trained = read_model(model)
    check_level(trained, level)
    pattern = None if normal is None else find_class_images(normal)
    if pattern is not None:
        note(str(pattern))
    explainer = open_explainer(trained, weights, pattern.paths if pattern else ())
    paths, problems = list(expand(map(str, images), list_names(sys.stdin), note)), []
    for path, name in zip(paths, picture_names(paths), strict=True):
        try:
            explanation = explainer.explain(explainer.read(path), str(path), level)
        except ImageError as error:  # the other images can still be explained
            problems.append(str(error))
            continue
        draw_explanation(explanation, out / name)
        row = {**explanation.row(), "picture": str(out / name)}
        print_result(json.dumps(row) if json_ else explanation.table())
        note(f"{path}: {out / name}")
    raise_problems(*problems)
