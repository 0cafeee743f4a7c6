"""Adding images to a model from its stored moments: the Gaussian is the one that a fit to all images would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from gaussad_cli.detector.look import OpenNetwork, check_readable, look_at_all
from gaussad_cli.detector.model import HASH_DIGITS, Calibration, LevelModel, Model
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import Features
from gaussad_cli.gaussian.moments import Array, Moments, gather, merge
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import Spectrum
from gaussad_cli.gaussian.thresholds import conformal_threshold


def add_images(model: Model, network: OpenNetwork, paths: Sequence[Path]) -> tuple[Model, int]:
    """Return the model with normal images added, and how many of them it had already; if all, it is the same model.

    Raises
    ------
    UserError
        If an image cannot be used, or the model cannot be updated.
    """
    seen = list(look_at_all(network, paths, "update"))
    check_readable(seen, "The model was not changed.")
    known, added = set(model.hashes), []
    for image in seen:
        if (sha256 := image.sha256[:HASH_DIGITS]) not in known:
            known.add(sha256)
            added.append(image)
    if not added:
        return model, len(paths)
    features = {level: np.stack([image.features[level] for image in added]) for level in model.level_numbers}
    hashes = tuple(image.sha256[:HASH_DIGITS] for image in added)
    return update(model, features, hashes), len(paths) - len(added)


def update(model: Model, features: Mapping[int, Features], hashes: tuple[str, ...]) -> Model:
    """Add the features of normal images to a model.

    The model as it was has not seen these images, so their distances to it join the calibration, and the threshold is
    computed again.

    Parameters
    ----------
    features : level -> (k, D) of the new images
    hashes : of the new images, as a model keeps them

    Raises
    ------
    UserError
        If the model is compressed: other components would be kept, and their fourth moments do not follow from the
        stored ones.
    """
    for level in model.levels:
        if level.compression.mode != "all":
            raise UserError(
                f"a model of mode {level.compression.mode} cannot be updated, because other components would be kept "
                "with the new images. Train it again on all images."
            )
    new = model.score(features)
    distances = np.sort(np.concatenate([model.calibration.distances, new]))
    fpr = model.calibration.fpr
    calibration = Calibration(distances, fpr, float(conformal_threshold(distances, fpr)))
    levels = tuple(update_level(level, features[level.level]) for level in model.levels)
    provenance = {**model.provenance, "updates": int(model.provenance.get("updates", 0)) + 1, "images": levels[0].n}
    return replace(
        model, levels=levels, calibration=calibration, provenance=provenance, hashes=(*model.hashes, *hashes)
    )


def update_level(level: LevelModel, features: NDArray[np.floating]) -> LevelModel:
    """Return the Gaussian of a level with features (k, D) added, k >= 1."""
    old = level.spectrum
    shift = old.mean
    # What float64 cannot hold of the mean is the mean of the shifted features.
    second = (old.eigenvectors * (old.n * old.eigenvalues)) @ old.eigenvectors.T
    before = Moments(old.n, shift, old.mean_remainder, second)
    added = gather([features], shift)
    total = merge(before, added)
    x = np.asarray(features, dtype=np.float64) - shift - added.mean
    squared = np.square(x).sum(axis=1)
    third, fourth = _moved_powers(before, level.third, level.fourth, before.mean - total.mean)
    third_added, fourth_added = _moved_powers(added, squared @ x, float(squared @ squared), added.mean - total.mean)
    third, fourth = third + third_added, fourth + fourth_added
    spectrum = _spectrum_of(total)
    # Without compression, the shrinkage needs the fourth moment of all components together only.
    shrinkage = shrink(replace(spectrum, fourth_leading=np.full(spectrum.rank, fourth)))
    return replace(level, spectrum=spectrum, shrinkage=shrinkage, third=third, fourth=fourth)


def _moved_powers(moments: Moments, third: Array, fourth: float, by: Array) -> tuple[Array, float]:
    """Return sum |y+d|^2 (y+d) and sum |y+d|^4, where y are deviations from a mean, which sum to zero, and d is `by`.

    Parameters
    ----------
    third, fourth : sum |y|^2 y, (D,), and sum |y|^4
    """
    n, second = moments.n, moments.second
    squared, trace = float(by @ by), float(np.trace(second))
    moved = third + 2.0 * (second @ by) + trace * by + n * squared * by
    power = fourth + 4.0 * float(by @ third) + 4.0 * float(by @ second @ by) + 2.0 * squared * trace
    return moved, power + n * squared * squared


def _spectrum_of(total: Moments) -> Spectrum:
    """Return the spectrum of moments, without the components whose variance is zero to rounding, as a fit does."""
    mean, remainder = total.two_float_mean()
    values, vectors = linalg.eigh(total.second, check_finite=False)
    tolerance = max(values[-1], 0.0) * 10 * total.shift.size * np.finfo(np.float64).eps
    kept = np.flatnonzero(values > tolerance)[::-1][: total.n - 1]
    return Spectrum(
        n=total.n,
        mean=mean,
        mean_remainder=remainder,
        variances=total.second.diagonal() / total.n,
        eigenvalues=values[kept] / total.n,
        eigenvectors=np.ascontiguousarray(vectors[:, kept]),
        fourth_leading=np.zeros(0),
        fourth_trailing=np.zeros(0),
    )
