"""More images for a fitted model, from its stored moments: the same Gaussian as fitting to all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from gaussad_cli.detector.model import Calibration, LevelModel, Model, without_fourth_moments
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import Features
from gaussad_cli.gaussian.moments import Array, Moments, gather, merge
from gaussad_cli.gaussian.shrinkage import Shrinkage, ledoit_wolf
from gaussad_cli.gaussian.spectrum import Spectrum
from gaussad_cli.gaussian.thresholds import conformal_threshold


def update(model: Model, features: Mapping[int, Features], hashes: tuple[str, ...]) -> Model:
    """Add normal images to a model.

    Their distances to the model as it was are those of images that it had not seen: they join the calibration, and the
    threshold is made anew.

    Parameters
    ----------
    features : level -> (k, D) of new images
    hashes : heads of theirs

    Raises
    ------
    UserError
        If the model is compressed: which components are kept, and their fourth moments, cannot be had from moments.
    """
    for level in model.levels:
        if level.compression.mode != "all":
            raise UserError(
                f"a model of mode {level.compression.mode} cannot be updated: the components that it keeps would be "
                "others. Train it again on all images."
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
    """Return a level's Gaussian with features (k, D) added, k >= 1."""
    old = level.spectrum
    shift = old.mean
    # The remainder is the rest of the mean that float64 cannot hold: the mean of the shifted features.
    second = (old.eigenvectors * (old.n * old.eigenvalues)) @ old.eigenvectors.T
    before = Moments(old.n, shift, old.mean_remainder, second)
    added = gather([features], shift)
    total = merge(before, added)
    x = np.asarray(features, dtype=np.float64) - shift - added.mean
    squared = np.square(x).sum(axis=1)
    third, fourth = _moved(before, level.third, level.fourth, before.mean - total.mean)
    third_added, fourth_added = _moved(added, squared @ x, float(squared @ squared), added.mean - total.mean)
    third, fourth = third + third_added, fourth + fourth_added
    spectrum = _spectrum(total)
    return replace(level, spectrum=spectrum, shrinkage=_shrink(spectrum, fourth), third=third, fourth=fourth)


def _moved(of: Moments, third: Array, fourth: float, by: Array) -> tuple[Array, float]:
    """Return sum |y+d|^2 (y+d) and sum |y+d|^4 of deviations y from a mean, whose sum is zero, moved by d."""
    squared, trace = float(by @ by), float(np.trace(of.second))
    moved = third + 2.0 * (of.second @ by) + trace * by + of.n * squared * by
    power = fourth + 4.0 * float(by @ third) + 4.0 * float(by @ of.second @ by) + 2.0 * squared * trace
    return moved, power + of.n * squared * squared


def _spectrum(total: Moments) -> Spectrum:
    """Return the spectrum of moments; components of no variance to rounding are left out, as a fit leaves them out."""
    mean, remainder = total.two_float_mean()
    values, vectors = linalg.eigh(total.second, check_finite=False)
    tolerance = max(values[-1], 0.0) * 10 * total.shift.size * np.finfo(np.float64).eps
    kept = np.flatnonzero(values > tolerance)[::-1][: total.n - 1]
    return without_fourth_moments(
        Spectrum(
            n=total.n,
            mean=mean,
            mean_remainder=remainder,
            variances=total.second.diagonal() / total.n,
            eigenvalues=values[kept] / total.n,
            eigenvectors=np.ascontiguousarray(vectors[:, kept]),
            fourth_leading=np.zeros(0),
            fourth_trailing=np.zeros(0),
        )
    )


def _shrink(spectrum: Spectrum, fourth: float) -> Shrinkage:
    """Return the shrinkage of all features, from the sum of the fourth powers of the deviations' norms."""
    kept, dim = spectrum.eigenvalues, spectrum.dim
    trace, frobenius = float(kept.sum()), float(np.square(kept).sum())
    intensity = ledoit_wolf(frobenius, trace, fourth / spectrum.n, spectrum.n, dim)
    return Shrinkage(0, kept.size, dim, intensity, trace / dim)
