"""Distances of training samples from Gaussians that have not seen them: what a threshold is calibrated on.

A sample's distance from the Gaussian that it helped to fit is too small. Five folds are no way out where there are few
samples: Gaussians of four fifths of them keep other components than the Gaussian of all, and their distances say little
about its own (negated PCA then flagged up to 89 % of the normal images for a wanted 5 %, docs/working-point.md). One
sample left out at a time, the Gaussians are all but the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaussad_cli.gaussian.compression import Compression, component_range
from gaussad_cli.gaussian.distances import mahalanobis, project
from gaussad_cli.gaussian.moments import Array, centre
from gaussad_cli.gaussian.rows import times
from gaussad_cli.gaussian.shrinkage import ledoit_wolf, shrink_range
from gaussad_cli.gaussian.spectrum import Spectrum, fit_spectrum

_BUDGET = 1e9  # multiply-adds of all fits together, about a second; beyond it, several samples are left out at a time
_FEWEST_PARTS = 20
_SEED = 0  # of which samples are left out together


def leave_one_out(features: ArrayLike, compression: Compression, spectrum: Spectrum | None = None) -> Array:
    """Return the Mahalanobis distance of every sample from the Gaussian of all others.

    With all components kept, by a closed form. With a compression, by fits: where n times the cost of a fit is too
    much, samples are left out in parts, at least 20 of them. These distances are multiplied by how much a sample's
    distance grows from a fit without two parts to one without its own alone: the model is fitted to one part more
    still, and with few more samples than components that is not nothing.

    Parameters
    ----------
    features : (n, D), n >= 3
    spectrum : of these features, where it is known already

    Returns
    -------
    (n,) float64; NaN where the others do not vary
    """
    x = np.asarray(features, dtype=np.float64)
    spectrum = spectrum or fit_spectrum(x)
    if spectrum.rank == 0:
        return np.full(len(x), np.nan)
    _, _, deviations = centre(x)
    components = times(deviations, spectrum.eigenvectors)  # all samples lie in their span: this loses nothing
    if compression.mode == "all":
        distances = _closed_form(components, spectrum.eigenvalues, spectrum.dim)
        if distances is not None:
            return distances
    return _by_fits(components, compression, spectrum.dim)


def _closed_form(y: Array, eigenvalues: Array, dim: int) -> Array | None:
    """Return the distances with all components kept, or None where a Gaussian of the others is singular.

    With S = Y'Y/n, the others' covariance is S_i = n/(n-1) (S - y_i y_i' / (n-1)), and the sample's deviation from
    their mean n/(n-1) y_i. The shrunk covariance is a diagonal matrix less a rank-one one, whose inverse is that of
    Sherman and Morrison; trace, norm and fourth moments, for the shrinkage (eq. 6), follow from sums over all samples.

    Parameters
    ----------
    y : (n, r) centred samples in the eigenbasis
    """
    n = len(y)
    more = n / (n - 1.0)
    squared = np.square(y)
    norms, spread = squared.sum(axis=1), squared @ eigenvalues
    trace, frobenius = float(eigenvalues.sum()), float(np.square(eigenvalues).sum())
    traces = more * (trace - norms / (n - 1.0))
    frobenii = more**2 * (frobenius - 2.0 * spread / (n - 1.0) + np.square(norms / (n - 1.0)))
    shift = norms / (n - 1.0) ** 2  # |u|^2, with u = y_i / (n - 1) by which the mean of the others moves
    third = y @ (norms @ y) / (n - 1.0)  # sum_j |y_j|^2 y_j'u
    powers = float(norms @ norms) + 4.0 * n * spread / (n - 1.0) ** 2 + n * np.square(shift) + 4.0 * third
    fourths = (powers + 2.0 * shift * n * trace - np.square(norms) * more**4) / (n - 1.0)
    intensities = np.array([ledoit_wolf(*sums, n - 1, dim) for sums in zip(frobenii, traces, fourths, strict=True)])
    floors = intensities * traces / dim
    if (floors <= 0.0).any():
        return None
    scales = (1.0 - intensities) * more
    inverse = np.sum(squared / (scales[:, None] * eigenvalues + floors[:, None]), axis=1)
    return more * np.sqrt(inverse / (1.0 - scales / (n - 1.0) * inverse))


def _by_fits(y: Array, compression: Compression, dim: int) -> Array:
    """Return the distances by a fit without each part; see :func:`leave_one_out` for their correction."""
    n, rank = y.shape
    n_parts = min(n, max(_FEWEST_PARTS, int(_BUDGET / (n * rank * min(n, rank)))))
    parts = np.array_split(np.random.default_rng(_SEED).permutation(n), n_parts)
    distances = np.empty(n)
    for part, another in zip(parts, parts[1:] + parts[:1], strict=True):
        distances[part] = _distances(y, part, part, compression, dim)
        if compression.mode != "all" and n > len(part) + len(another) + 2:
            without_two = _distances(y, part, np.concatenate([part, another]), compression, dim)
            growth = distances[part] / without_two
            distances[part] *= np.where(np.isfinite(growth), growth, 1.0)
    return distances


def _distances(
    y: Array, samples: NDArray[np.intp], left_out: NDArray[np.intp], compression: Compression, dim: int
) -> Array:
    """Return the distances of some samples from the Gaussian of those that are not left out."""
    spectrum = fit_spectrum(np.delete(y, left_out, axis=0))
    start, stop = component_range(spectrum.eigenvalues, compression)
    shrinkage = shrink_range(spectrum, start, stop, dim if compression.mode == "all" else stop - start)
    return mahalanobis(project(spectrum, y[samples]), spectrum, shrinkage)
