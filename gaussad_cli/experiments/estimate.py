"""How long stages will take, and how much they will write: the cost model, mended by what was measured before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as cache_results
from pathlib import Path

from gaussad_cli.backbones.info import measure_shape
from gaussad_cli.backbones.registry import choose_padding, find_backbone, parse_levels
from gaussad_cli.datasets.folds import N_FOLDS
from gaussad_cli.datasets.index import Category
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.cost import evaluation_seconds, extraction_seconds, feature_bytes, spectra_bytes
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
from gaussad_cli.experiments.config import PAPER
from gaussad_cli.experiments.plan import Evaluation, Extraction, Source, Stage, Training
from gaussad_cli.extraction.store import find_extractions, read_manifest
from gaussad_cli.files import write_json

SPEEDS = ".speeds.json"  # in the cache: measured seconds over those of the model, by kind of stage
_CLASSIFIER_EPOCHS = 8  # until it stops early, as measured with ResNet-18; an assumption
_AUTOENCODER_EPOCHS = 50  # an assumption
_BACKWARD = 3  # a training step costs about three passes forward


@dataclass(frozen=True)
class Estimate:
    """What a stage will take.

    Attributes
    ----------
    stage : its name
    work : in words, such as "1107 images"
    seconds : of the model, before it is mended
    bytes : written
    kind : by which its speed is remembered
    """

    stage: str
    work: str
    seconds: float
    bytes: int
    kind: str


def estimate(stage: Stage, categories: Sequence[Category], cache: Path, dataset: str) -> Estimate:
    """Estimate one stage; what is in the cache already costs nothing.

    Raises
    ------
    UserError
        If it names a backbone, levels or a padding that there are not.
    """
    if isinstance(stage, Extraction):
        return _estimate_extraction(stage, categories, cache, dataset)
    if isinstance(stage, Evaluation):
        return _estimate_evaluation(stage, categories)
    return _estimate_training(stage, categories)


def mended(one: Estimate, speeds: Mapping[str, float]) -> float:
    """Return the seconds, by the speed at which the same kind of stage went before, or else any like it."""
    general = one.kind.split(" ", maxsplit=1)[0]
    return one.seconds * speeds.get(one.kind, speeds.get(general, 1.0))


def read_speeds(cache: Path) -> dict[str, float]:
    """Return the measured speeds; none where the file is missing or damaged: they only mend estimates."""
    with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
        content = json.loads((cache / SPEEDS).read_text("utf-8"))
        return {str(kind): float(ratio) for kind, ratio in content.items() if 0.0 < float(ratio) < float("inf")}
    return {}


def remember_speed(cache: Path, one: Estimate, seconds: float) -> None:
    """Remember how long a stage took, if it was long enough to be told from its start-up."""
    if one.seconds < 5.0 or seconds < 5.0:
        return
    ratio = seconds / one.seconds
    speeds = {**read_speeds(cache), one.kind: ratio, one.kind.split(" ", maxsplit=1)[0]: ratio}
    with suppress(UserError):  # a cache that cannot be written shows where it matters
        write_json(cache / SPEEDS, speeds)


def _estimate_extraction(stage: Extraction, categories: Sequence[Category], cache: Path, dataset: str) -> Estimate:
    seconds, size, passes = 0.0, 0, 0
    for name in stage.backbones:
        dims, macs = _network(name, stage.source)
        plain, train = sum(len(c.train) + len(c.test) for c in categories), sum(len(c.train) for c in categories)
        for epochs in dict.fromkeys((0, *stage.source.epochs)):
            done = _done(name, stage.source, cache, dataset, epochs)
            left = [category for category in categories if category.name not in done]
            views = sum(len(c.train) * epochs if epochs else len(c.train) + len(c.test) for c in left)
            share = views / ((train * epochs if epochs else plain) or 1)
            rows = train if epochs else plain
            size += round(share * feature_bytes(rows, epochs, dims))
            size += sum(spectra_bytes(len(category.train), epochs, dims) for category in left)
            seconds += extraction_seconds(views, macs)
            passes += views
    kind = f"extract {stage.backbones[0]}" if len(stage.backbones) == 1 else "extract"
    return Estimate(str(stage), f"{passes} images and views" if passes else "all there", seconds, size, kind)


@cache_results
def _network(name: str, source: Source) -> tuple[tuple[int, ...], int]:
    """Return the dimensions of a backbone's wanted levels, and its multiply-adds up to the deepest."""
    backbone = find_backbone(name)
    levels = parse_levels(source.levels, backbone.n_levels)
    shape = measure_shape(backbone, choose_padding(backbone, source.padding))
    return tuple(backbone.dims[level - 1] for level in levels), shape.multiply_adds[max(levels) - 1]


def _done(name: str, source: Source, cache: Path, dataset: str, epochs: int) -> set[str]:
    """Return the categories of which these features look complete; their extraction looks closer."""
    backbone = find_backbone(name)
    wanted = set(parse_levels(source.levels, backbone.n_levels))
    done: set[str] = set()
    with suppress(UserError):
        for found in find_extractions(cache, backbone.name, dataset):
            if found.recipe.epochs == epochs and found.recipe.padding == choose_padding(backbone, source.padding):
                done |= {c for c in found.categories() if wanted <= set(read_manifest(found.split(c, "train")).levels)}
    return done


def _estimate_evaluation(stage: Evaluation, categories: Sequence[Category]) -> Estimate:
    dims, _ = _network(stage.backbone, stage.source)
    scorings = sum(len(PAPER_SCORINGS) if score == PAPER else 1 for score in stage.scores)
    seconds = sum(evaluation_seconds(len(c.train), len(c.test), stage.epochs, dims, scorings) for c in categories)
    comparators = [name for name in stage.scores if name not in (PAPER, "mahalanobis", "l2", "sed")]
    kind = " ".join(["evaluate-with", *comparators]) if comparators else "evaluate"
    return Estimate(str(stage), f"{len(categories)} categories, {len(dims)} levels", seconds, 0, kind)


def _estimate_training(stage: Training, categories: Sequence[Category]) -> Estimate:
    size = stage.size
    if stage.kind == "classifier":
        backbone = find_backbone(stage.backbone)
        macs = measure_shape(backbone, choose_padding(backbone, stage.padding)).multiply_adds[-1]
        epochs, images = _CLASSIFIER_EPOCHS, sum(len(c.train) + len(c.test) for c in categories) * 3 // 5
    else:
        macs = 2 * round(measure_shape(find_backbone("resnet-18"), "native").multiply_adds[-1] * (size / 224) ** 2)
        epochs, images = _AUTOENCODER_EPOCHS, sum(len(c.train) for c in categories) * 4 // 5
    views = N_FOLDS * min(epochs, stage.max_epochs) * images
    kind = f"train-{stage.kind}"
    return Estimate(
        str(stage), f"{views} views, if {epochs} epochs do", extraction_seconds(views, _BACKWARD * macs), 0, kind
    )
