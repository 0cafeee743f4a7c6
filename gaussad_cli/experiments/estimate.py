"""Estimates the time and disk space of a plan's stages with the cost model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as cache_results
from pathlib import Path

from gaussad_cli.backbones.info import measure_shape
from gaussad_cli.backbones.resolve import LevelChoice, NetworkOptions, check
from gaussad_cli.datasets.folds import N_FOLDS
from gaussad_cli.datasets.index import Category
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
from gaussad_cli.experiments.config import PAPER
from gaussad_cli.experiments.cost import (
    STORED_PER_SECOND,
    evaluation_seconds,
    extraction_seconds,
    feature_bytes,
    places_seconds,
    spectra_bytes,
)
from gaussad_cli.experiments.plan import EvaluationStage, ExtractionStage, Stage, TrainingStage
from gaussad_cli.extraction.store import find_extractions, read_manifest

_CLASSIFIER_EPOCHS = 8  # assumed number until early stopping, as measured with ResNet-18
_AUTOENCODER_EPOCHS = 50  # assumed
_BACKWARD = 3  # a training step costs about three passes forward


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a stage.

    Attributes
    ----------
    stage : its name
    work : its work in words, such as "1107 images"
    seconds : its time by the cost model
    bytes : the number of bytes that it writes
    """

    stage: str
    work: str
    seconds: float
    bytes: int


def estimate(stage: Stage, categories: Sequence[Category], cache: Path, dataset: str) -> Estimate:
    """Estimate the cost of one stage; features in the cache cost nothing.

    Raises
    ------
    UserError
        If the stage names an unknown backbone, level or padding.
    """
    if isinstance(stage, ExtractionStage):
        return _estimate_extraction(stage, categories, cache, dataset)
    if isinstance(stage, EvaluationStage):
        return _estimate_evaluation(stage, categories)
    return _estimate_training(stage, categories)


def _estimate_extraction(stage: ExtractionStage, categories: Sequence[Category], cache: Path, dataset: str) -> Estimate:
    seconds, size, passes = 0.0, 0, 0
    plain, train = sum(len(c.train) + len(c.test) for c in categories), sum(len(c.train) for c in categories)
    for network in stage.networks:
        choice = check(network)
        dims, macs = _dims(choice), _multiply_adds(choice)
        for epochs in dict.fromkeys((0, *stage.epochs)):
            done = _done(choice, cache, dataset, epochs)
            left = [category for category in categories if category.name not in done]
            views = sum(len(c.train) * epochs if epochs else len(c.train) + len(c.test) for c in left)
            share = views / ((train * epochs if epochs else plain) or 1)
            rows = train if epochs else plain
            features = round(share * feature_bytes(rows, epochs, dims))
            fitted = 0 if choice.grid else sum(spectra_bytes(len(category.train), epochs, dims) for category in left)
            size += features + fitted
            seconds += extraction_seconds(views, macs) + features / STORED_PER_SECOND
            passes += views
    return Estimate(str(stage), f"{passes} images and views" if passes else "nothing left", seconds, size)


def _dims(choice: LevelChoice) -> tuple[int, ...]:
    """Return the D of each chosen level's features: its channels, at every place if there is a grid."""
    places = choice.grid**2 or 1
    return tuple(places * choice.backbone.dims[level - 1] for level in choice.levels)


@cache_results
def _multiply_adds(choice: LevelChoice) -> int:
    """Return a backbone's multiply-adds up to the deepest chosen level."""
    return measure_shape(choice.backbone, choice.padding).multiply_adds[max(choice.levels) - 1]


def _done(choice: LevelChoice, cache: Path, dataset: str, epochs: int) -> set[str]:
    """Return the categories whose features look complete; the extraction itself checks more closely."""
    done: set[str] = set()
    with suppress(UserError):
        for found in find_extractions(cache, choice.backbone.name, dataset):
            recipe = found.recipe
            if (recipe.epochs, recipe.padding, recipe.grid) == (epochs, choice.padding, choice.grid):
                levels = {name: set(read_manifest(found.split(name, "train")).levels) for name in found.categories()}
                done |= {name for name, extracted in levels.items() if extracted >= set(choice.levels)}
    return done


def _estimate_evaluation(stage: EvaluationStage, categories: Sequence[Category]) -> Estimate:
    choice = check(stage.network)
    dims = _dims(choice)
    if places := choice.grid**2:
        of_place = sum(dims) // places
        seconds = sum(places_seconds(len(c.train), len(c.test), stage.epochs, places, of_place) for c in categories)
        return Estimate(str(stage), f"{len(categories)} categories, {places} places", seconds, 0)
    scorings = sum(len(PAPER_SCORINGS) if score == PAPER else 1 for score in stage.scores)
    seconds = sum(evaluation_seconds(len(c.train), len(c.test), stage.epochs, dims, scorings) for c in categories)
    return Estimate(str(stage), f"{len(categories)} categories, {len(dims)} levels", seconds, 0)


def _estimate_training(stage: TrainingStage, categories: Sequence[Category]) -> Estimate:
    if stage.kind == "classifier":
        macs = _multiply_adds(check(stage.network))
        epochs, images = _CLASSIFIER_EPOCHS, sum(len(c.train) + len(c.test) for c in categories) * 3 // 5
    else:
        encoder = _multiply_adds(check(NetworkOptions("resnet-18")))
        macs = 2 * round(encoder * (stage.size / 224) ** 2)
        epochs, images = _AUTOENCODER_EPOCHS, sum(len(c.train) for c in categories) * 4 // 5
    views = N_FOLDS * min(epochs, stage.max_epochs) * images
    return Estimate(str(stage), f"{views} views, for {epochs} epochs", extraction_seconds(views, _BACKWARD * macs), 0)
