"""`gaussad explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TypeAlias

import typer

from gaussad_cli.cli.options import Cache, ModelFile, Weights, note, print_result, raise_problems
from gaussad_cli.errors import ImageError, UserError

if TYPE_CHECKING:
    from gaussad_cli.detector.explain import Decided
    from gaussad_cli.detector.model import Model
    from gaussad_cli.detector.places import PlacesModel

ExplainImage: TypeAlias = "Callable[[Path, Path], Decided]"  # image and picture


def explain(
    model: ModelFile,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="Images, folders of images, or - for a list of paths on stdin."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Write the pictures to this folder.")] = Path("explanations"),
    level: Annotated[
        Optional[int],
        typer.Option(
            metavar="N", help="Explain this level of a pooled model.  [default: the one that stands out most]"
        ),
    ] = None,
    normal: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DIR",
            help="Subtract what 20 normal images of this folder have in common from the maps of a pooled model. For "
            "aligned objects.",
        ),
    ] = None,
    weights: Weights = None,
    cache: Cache = Path("cache"),
    json_: Annotated[bool, typer.Option("--json", help="Print a line of JSON per image, not a table.")] = False,
) -> None:
    """Explain the scores of images: where they deviate, and what that comes from. Draws a picture for each image.

    The picture has the heat map, the mask beyond the threshold with its box, the shares that the levels have in the
    greatest deviation, and the score among those of normal images.

    Of a pooled model, it has levels, places and components. The distance map scores the features of single places by a
    Gaussian of features averaged over whole images, which vary far less. It is not the model behind the score, so
    compare places within one map only. The contribution map is exact: its mean is the squared distance at that level.
    Neither map is a segmentation. Where objects are aligned, --normal makes both maps much sharper.

    Example: gaussad explain screw.gaussad screw/test/thread_top/000.png

    Example: gaussad explain pooled.gaussad bottle/test/broken_large/000.png --normal bottle/train/good
    """
    from gaussad_cli.detector.container import read_model
    from gaussad_cli.detector.explain import picture_names
    from gaussad_cli.detector.predict import expand, list_names

    trained = read_model(model)
    if trained.places is None:
        explain_image = _pooled(trained, weights, level, normal)
    elif level is None and normal is None:
        explain_image = _of_places(trained, trained.places, weights, cache)
    else:
        raise UserError("--level and --normal are for pooled models: leave them out, or train with --pooled.")
    paths, problems = list(expand(map(str, images), list_names(sys.stdin), note)), []
    for path, name in zip(paths, picture_names(paths), strict=True):
        try:
            explanation = explain_image(path, out / name)
        except ImageError as error:  # the other images can still be explained
            problems.append(str(error))
            continue
        row = {**explanation.row(), "picture": str(out / name)}
        print_result(json.dumps(row) if json_ else explanation.table())
        note(f"{path}: {out / name}")
    raise_problems(*problems)


def _pooled(model: Model, weights: Path | None, level: int | None, normal: Path | None) -> ExplainImage:
    """Return the function that explains an image by a pooled model, and draws it."""
    from gaussad_cli.datasets.own import find_class_images
    from gaussad_cli.detector.explain import check_level, open_explainer
    from gaussad_cli.detector.pictures import draw_explanation

    check_level(model, level)
    pattern = None if normal is None else find_class_images(normal)
    if pattern is not None:
        note(str(pattern))
    explainer = open_explainer(model, weights, pattern.paths if pattern else ())

    def explain_image(image: Path, picture: Path) -> Decided:
        explanation = explainer.explain(explainer.read(image), str(image), level)
        draw_explanation(explanation, picture)
        return explanation

    return explain_image


def _of_places(model: Model, places: PlacesModel, weights: Path | None, cache: Path) -> ExplainImage:
    """Return the function that explains an image by a model of places, and draws it."""
    from gaussad_cli.detector.explain_places import open_places_explainer
    from gaussad_cli.detector.place_pictures import draw_places

    explainer = open_places_explainer(model, places, weights, cache, note)

    def explain_image(image: Path, picture: Path) -> Decided:
        explanation = explainer.explain(explainer.read(image), str(image))
        draw_places(explanation, picture)
        return explanation

    return explain_image
