"""Adding images to a model: it becomes the model of a fit to all of its images, old and new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from gaussad_cli.detector.look import OpenNetwork, check_readable, look_at_all
from gaussad_cli.detector.model import HASH_DIGITS, Model, calibrate, fit_levels
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import Features

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
    seen = list(look_at_all(network, paths, "update"))
    check_readable(seen, "The model was not changed.")
    known, new = set(model.hashes), []
    for image in seen:
        if (sha256 := image.sha256[:HASH_DIGITS]) not in known:
            known.add(sha256)
            new.append(image)
    if not new:
        return Update(model, 0, len(paths), ())
    features = {level: np.stack([image.features[level] for image in new]) for level in model.level_numbers}
    beyond = [new[i].path for i in np.flatnonzero(model.score(features) > model.calibration.threshold)]
    if not allow_anomalous:
        check_normal(model, beyond, len(new))
    hashes = tuple(image.sha256[:HASH_DIGITS] for image in new)
    return Update(update(model, features, hashes), len(new), len(paths) - len(new), tuple(beyond))


def check_normal(model: Model, beyond: Sequence[Path], n: int) -> None:
    """Check that no more of n new images are beyond the model's threshold than normal images may be by chance.

    Raises
    ------
    UserError
        If there are more; it names some.
    """
    rate = model.calibration.fpr
    if len(beyond) and stats.binom.sf(len(beyond) - 1, n, rate) < _BY_CHANCE:
        raise UserError(
            f"{len(beyond)} of {n} new images are beyond the model's threshold, where {100 * rate:.3g} % of normal "
            f"images are expected: {name_some(beyond)}. With them, defects like theirs would count as normal. Remove "
            "those that are defective, or add all of them with --allow-anomalous. The model was not changed."
        )


def name_some(paths: Sequence[Path]) -> str:
    """List paths; of many, the first few."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(map(str, paths[:_NAMED])) + more


def update(model: Model, features: Mapping[int, Features], hashes: tuple[str, ...]) -> Model:
    """Return the model of all images, as training on them at once gives it: Gaussians, distances and threshold.

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
    calibration = calibrate(levels, model.calibration.fpr)
    provenance = {**model.provenance, "updates": int(model.provenance.get("updates", 0)) + 1, "images": levels[0].n}
    return replace(
        model, levels=levels, calibration=calibration, provenance=provenance, hashes=(*model.hashes, *hashes)
    )
