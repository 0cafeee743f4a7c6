"""Adding images to a model: it becomes the model of a fit to all of its images, old and new.

A pooled model keeps the features of its images, so the new model is that of a fit to all at once, to the bit. A model
of places keeps no image: its Gaussians are those of all images within the directions that the first training kept, and
the held-out distances of old images are carried over (:func:`gaussad_cli.detector.places.shrunk_by`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gaussad_cli.detector.kept_maps import KeptMaps, keep_maps
from gaussad_cli.detector.look import OpenNetwork, check_readable, look_at_all
from gaussad_cli.detector.model import (
    HASH_DIGITS,
    Calibration,
    Model,
    PooledModel,
    calibrate,
    calibration_of,
    fit_levels,
)
from gaussad_cli.detector.places import PlacesModel, update_places
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import Features
from gaussad_cli.gaussian.moments import Array

_BY_CHANCE = 0.01  # probability of so many images beyond the threshold, below which they are not normal ones
_NAMED = 5  # images in a message


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes
    ----------
    model : with the new images
    added, known : images that were added, and that the model had already
    beyond : those added that were beyond the threshold of the model as it was
    """

    model: Model
    added: int
    known: int
    beyond: tuple[Path, ...]


def add_images(model: Model, network: OpenNetwork, paths: Sequence[Path], allow_anomalous: bool = False) -> Update:
    """Return the model with normal images added.

    Parameters
    ----------
    allow_anomalous : whether to add them even if more are beyond the threshold than normal images would be by chance

    Raises
    ------
    UserError
        If an image cannot be used, the model cannot be updated, or too many images are beyond its threshold.
    """
    model = replace(model, network=model.network or network.graph())
    if model.places is None:
        rows: list[Mapping[int, Features]] = []
        new = _find_new(model, network, paths, rows.append)
        return _finish(model, new, allow_anomalous, lambda: update(model, _stacked(rows), new.hashes))
    with keep_maps(model.places.grid**2) as maps:
        new = _find_new(model, network, paths, maps.append)
        return _finish(model, new, allow_anomalous, lambda: update_by_places(model, maps, new))


@dataclass(frozen=True)
class NewImages:
    """Images that a model does not have yet.

    Attributes
    ----------
    paths, hashes : of the images; hashes as a model keeps them
    scores : (m,) by the model as it is
    known : number of other images, which it has
    """

    paths: tuple[Path, ...]
    hashes: tuple[str, ...]
    scores: Array
    known: int


def _find_new(
    model: Model, network: OpenNetwork, paths: Sequence[Path], keep: Callable[[Mapping[int, Features]], object]
) -> NewImages:
    """Look at images once, and hand the features of each new one, level -> (D,), to `keep`."""
    new: dict[str, tuple[Path, float]] = {}
    unusable, known = [], set(model.hashes)
    for image in look_at_all(network, paths, "update"):
        sha256 = image.sha256[:HASH_DIGITS]
        if image.error:
            unusable.append(image)
        elif sha256 not in known and sha256 not in new:
            keep(image.features)
            score = model.score({level: values[None] for level, values in image.features.items()})
            new[sha256] = image.path, float(score[0])
    check_readable(unusable, "The model was not changed.")
    scores = np.array([score for _, score in new.values()])
    return NewImages(tuple(path for path, _ in new.values()), tuple(new), scores, len(paths) - len(new))


def _stacked(rows: Sequence[Mapping[int, Features]]) -> dict[int, Features]:
    return {level: np.stack([row[level] for row in rows]) for level in rows[0]}


def _finish(model: Model, new: NewImages, allow_anomalous: bool, update_it: Callable[[], Model]) -> Update:
    """Update a model, if there are new images and they may be added."""
    n = len(new.hashes)
    if not n:
        return Update(model, 0, new.known, ())
    beyond = [new.paths[i] for i in np.flatnonzero(new.scores > model.calibration.threshold)]
    if not allow_anomalous:
        check_normal(model, beyond, n)
    return Update(update_it(), n, new.known, tuple(beyond))


def check_normal(model: Model, beyond: Sequence[Path], n: int) -> None:
    """Check that no more of n new images are beyond the model's threshold than normal images may be by chance.

    Raises
    ------
    UserError
        If there are more; it names some.
    """
    rate = model.calibration.fpr
    if len(beyond) and at_least(len(beyond), n, rate) < _BY_CHANCE:
        raise UserError(
            f"{len(beyond)} of {n} new images are beyond the model's threshold, where {100 * rate:.3g} % of normal "
            f"images are expected: {name_some(beyond)}. With them, defects like theirs would count as normal. Remove "
            "those that are defective, or add all of them with --allow-anomalous. The model was not changed."
        )


def at_least(k: int, n: int, rate: float) -> float:
    """Return the probability of at least k of n images, each with probability `rate`, which lies between 0 and 1."""

    def log_probability(i: int) -> float:
        log_choices = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        return log_choices + i * math.log(rate) + (n - i) * math.log1p(-rate)

    return math.fsum(math.exp(log_probability(i)) for i in range(k, n + 1))


def name_some(paths: Sequence[Path]) -> str:
    """List paths; of many, the first few."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(map(str, paths[:_NAMED])) + more


def update(model: Model, features: Mapping[int, Features], hashes: tuple[str, ...]) -> Model:
    """Return the pooled model of all images, as training on them at once gives it: Gaussians, distances and threshold.

    Parameters
    ----------
    features : level -> (k, D) of the new images
    hashes : of the new images, as a model keeps them

    Raises
    ------
    UserError
        If the model was written by a gaussad that did not keep the features of its images.
    """
    together = {}
    for level in model.levels:
        if level.features is None:
            raise UserError(
                "this model cannot be updated, because the gaussad that wrote it did not keep the features of its "
                "images. Train it again on all images."
            )
        together[level.level] = np.concatenate([level.features, features[level.level]])
    levels = fit_levels(together, model.levels[0].compression)
    return _updated(model, PooledModel(levels), calibrate(levels, model.calibration.fpr), hashes)


def update_by_places(model: Model, maps: KeptMaps, new: NewImages) -> Model:
    """Return the model of places with images added, whose maps were kept."""
    if model.places is None:
        raise ValueError("this is not a model of places")
    updated, old = update_places(model.places, maps), model.calibration
    calibration = calibration_of(np.concatenate([updated.shrunk * old.distances, updated.held_out]), old.fpr)
    return _updated(model, updated.model, calibration, new.hashes)


def _updated(
    model: Model, gaussians: PooledModel | PlacesModel, calibration: Calibration, hashes: tuple[str, ...]
) -> Model:
    counts = {"updates": int(model.provenance.get("updates", 0)) + 1, "images": gaussians.n}
    return replace(
        model,
        gaussians=gaussians,
        calibration=calibration,
        provenance={**model.provenance, **counts},
        hashes=(*model.hashes, *hashes),
    )
