"""Models that are ready to score images: opened, with a threshold to decide by; one alone, or several together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from gaussad_cli.detector.container import read_model
from gaussad_cli.detector.look import OpenNetwork, carried_engine, check_carried, open_network_of
from gaussad_cli.detector.model import Model, lowest_rate
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.engine import AUTO, Compute
from gaussad_cli.extraction.onnx_engine import OnnxEngine
from gaussad_cli.gaussian.thresholds import conformal_threshold

Say = Callable[[str], object]


def say_nothing(_: str) -> None:
    """Say nothing."""


class Columns(NamedTuple):
    """Which columns predictions have besides those that all have.

    Attributes
    ----------
    levels : that have a distance of their own
    has_places : whether there are the columns of models of places
    has_model : whether the model's name is a column, because there are several models
    """

    levels: tuple[int, ...]
    has_places: bool = False
    has_model: bool = False


class Models(Protocol):
    """One or several models, and which of them scores an image."""

    @property
    def columns(self) -> Columns:
        """The columns of predictions."""
        ...

    @property
    def pooled(self) -> tuple[str, ...]:
        """The names of the models that have no heat maps."""
        ...

    @property
    def compute(self) -> Compute:
        """How features are computed."""
        ...

    def name_for(self, path: Path) -> str:
        """Return the name of the model that scores an image; "" if none does, or there is only one."""
        ...

    def model_for(self, path: Path) -> ReadyModel:
        """Return the model that scores an image.

        Raises
        ------
        UserError
            If there is none, or it cannot be used.
        """
        ...


@dataclass(frozen=True)
class ReadyModel:
    """A model that is ready to score images. By itself, it scores every image.

    Attributes
    ----------
    threshold : to decide by
    name : of the model among several; "" of a model by itself
    """

    model: Model
    network: OpenNetwork
    threshold: float
    name: str = ""

    @property
    def columns(self) -> Columns:
        """The columns of its predictions."""
        return Columns(level_columns(self.model), self.model.places is not None, bool(self.name))

    @property
    def pooled(self) -> tuple[str, ...]:
        """Its name, if it is a pooled model."""
        return (self.name,) if self.model.places is None else ()

    @property
    def compute(self) -> Compute:
        """How features are computed."""
        return self.network.compute

    def name_for(self, path: Path) -> str:  # noqa: ARG002 (the same for all images)
        """Return its name."""
        return self.name

    def model_for(self, path: Path) -> ReadyModel:  # noqa: ARG002
        """Return the model itself."""
        return self

    @cached_property
    def far(self) -> float:
        """The distance beyond which an image has little in common with those that the model was trained on."""
        return far_out(self.model)


def choose_threshold(model: Model, threshold: float | None, fpr: float | None) -> float:
    """Return the threshold to decide by: the given one, the one for a given rate, or the model's own.

    Raises
    ------
    UserError
        If both are given, the threshold is not a finite number, or the model is not calibrated for the rate.
    """
    if threshold is not None and fpr is not None:
        raise UserError("--threshold and --fpr both set the threshold: give only one of them.")
    if threshold is not None:
        if not math.isfinite(threshold):
            raise UserError(f"--threshold {threshold}: give a distance, such as the one that gaussad train printed.")
        return threshold
    if fpr is None:
        return model.calibration.threshold
    k = model.calibration.distances.size
    if not 1.0 / (k + 1) <= fpr < 1.0:
        raise UserError(f"--fpr {fpr:g}: the model was calibrated on {k} images, and {lowest_rate(k)}.")
    return float(conformal_threshold(model.calibration.distances, fpr))


def level_columns(model: Model) -> tuple[int, ...]:
    """Return the levels that have a distance of their own."""
    return () if model.places else model.level_numbers


def far_out(model: Model) -> float:
    """Return the distance beyond which an image has little in common with those that a model was trained on.

    Twice as far beyond the farthest held-out normal image as that is beyond the median one.
    """
    median, farthest = np.median(model.calibration.distances), model.calibration.distances.max()
    return float(farthest + 2.0 * (farthest - median))


# --- opening ---


@dataclass(frozen=True)
class Opening:
    """How models are opened.

    Attributes
    ----------
    compute : how features are computed
    cache : folder of exported graphs, for models that carry no network
    weights : see :func:`gaussad_cli.detector.look.open_network_of`
    threshold, fpr : see :func:`choose_threshold`
    say : is told what is worth knowing about a model
    """

    compute: Compute = AUTO
    cache: Path = Path("cache")
    weights: Path | None = None
    threshold: float | None = None
    fpr: float | None = None
    say: Say = say_nothing


def open_model(path: Path, opening: Opening, name: str = "", engines: Engines | None = None) -> ReadyModel:
    """Read a model file and open the model's network.

    Raises
    ------
    UserError
        If the file or the network cannot be read, or an option cannot be used.
    """
    model = read_model(path)
    threshold = choose_threshold(model, opening.threshold, opening.fpr)
    options = opening.weights, opening.compute, opening.cache, opening.say
    network = open_network_of(model, *options, engines.of if engines else None)
    # The engine has the network; the bytes of its graph would only take memory.
    return ReadyModel(replace(model, network=b""), replace(network, graph=bytes), threshold, name)


class Engines:
    """The engines of the networks that models carry: one for models with equal bytes."""

    def __init__(self) -> None:
        self._opened: dict[tuple[bytes, tuple[int, ...]], OnnxEngine] = {}

    def of(self, model: Model) -> OnnxEngine:
        """Return the engine of a model's network; see :func:`gaussad_cli.detector.look.carried_engine`."""
        key = hashlib.sha256(model.network).digest(), model.level_numbers
        if key not in self._opened:
            self._opened[key] = carried_engine(model)
        check_carried(self._opened[key], model)
        return self._opened[key]
