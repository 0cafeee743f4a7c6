"""Anomaly scores: Mahalanobis (eq. 2), L2, and the standardised Euclidean distance (eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import times, weighted_sums
from gaussad_cli.gaussian.shrinkage import Shrinkage
from gaussad_cli.gaussian.spectrum import Spectrum


@dataclass(frozen=True)
class Projection:
    """Test points in a fold's eigenbasis, computed once and read by every score.

    Attributes
    ----------
    squared_deviations : (m, D), (x - mu)^2 per feature
    squared_components : (m, r), q^2 with q = V'(x - mu)
    squared_residual : (m,), |x - mu - V q|^2, what lies outside the span of the training data
    """

    squared_deviations: Array
    squared_components: Array
    squared_residual: Array


def project(spectrum: Spectrum, features: ArrayLike) -> Projection:
    """Project test features (m, D) into the spectrum's eigenbasis; each row's projection depends on that row only."""
    deviations = np.asarray(features, dtype=np.float64) - spectrum.mean - spectrum.mean_remainder
    components = times(deviations, spectrum.eigenvectors)
    if spectrum.rank < spectrum.dim:
        # Explicitly, not as |x - mu|^2 - |q|^2: that difference cancels where the residual is small.
        residual = np.square(deviations - times(components, spectrum.eigenvectors.T)).sum(axis=1)
    else:
        residual = np.zeros(deviations.shape[0])
    return Projection(np.square(deviations), np.square(components), residual)


def squared_mahalanobis(projection: Projection, spectrum: Spectrum, shrinkage: Shrinkage) -> Array:
    """Return the squared Mahalanobis distance to the shrunk Gaussian (eq. 2, 6).

    In the eigenbasis: sum_j q_j^2 / ((1 - rho) lambda_j + rho m), plus the residual over rho m when the Gaussian
    covers directions in which the training data does not vary. Without shrinkage (rho = 0) those are left out, as
    the pseudo-inverse of scikit-learn's ``LedoitWolf`` leaves them out.

    Returns
    -------
    (m,) float64; NaN where the training data has no variance at all.
    """
    kept = slice(shrinkage.start, shrinkage.stop)
    eigenvalues = spectrum.eigenvalues[kept]
    if eigenvalues.size == 0:
        return np.full(projection.squared_residual.shape, np.nan)
    floor = shrinkage.intensity * shrinkage.scale
    weights = 1.0 / ((1.0 - shrinkage.intensity) * eigenvalues + floor)
    inside = weighted_sums(projection.squared_components[:, kept], weights)
    if shrinkage.dim == eigenvalues.size or floor == 0.0:
        return inside
    return inside + projection.squared_residual / floor


def mahalanobis(projection: Projection, spectrum: Spectrum, shrinkage: Shrinkage) -> Array:
    """Return the Mahalanobis distance M(x) of eq. 2, (m,) float64."""
    return np.sqrt(squared_mahalanobis(projection, spectrum, shrinkage))


def l2(projection: Projection) -> Array:
    """Return the root mean squared deviation from the mean, (m,): monotone in the L2 distance (Table I)."""
    return np.sqrt(projection.squared_deviations.mean(axis=1))


def sed(projection: Projection, spectrum: Spectrum) -> Array:
    """Return the standardised Euclidean distance of eq. 9 over sqrt(D), (m,), with the fold's std of ddof 1.

    NaN throughout if a feature has no variance in the fold: the score is undefined there (section IV: it "often
    failed" on ReLU features).
    """
    variances = spectrum.variances * (spectrum.n / (spectrum.n - 1))
    if not variances.all():
        return np.full(projection.squared_residual.shape, np.nan)
    return np.sqrt((projection.squared_deviations / variances).mean(axis=1))
