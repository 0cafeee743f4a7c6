"""Anomaly scores: Mahalanobis (eq. 2), L2, and the standardised Euclidean distance (eq. 9).

All of them are read from one spectrum and one projection. Sweeps over the number of kept components are, too: keeping
d components costs a sum over d columns (Fig. 3 and Table III in one curve).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import times, weighted_sums
from gaussad_cli.gaussian.shrinkage import Shrinkage, shrink_range
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


@dataclass(frozen=True)
class ShrunkInverse:
    """The inverse of a shrunk covariance (eq. 2, 6): V diag(inside) V' + outside (I - V V').

    Attributes
    ----------
    vectors : V (D, k), the kept components
    inside : (k,), 1 / ((1 - rho) lambda_j + rho m)
    floor : rho m, the variance that the Gaussian has in directions in which the training data does not vary. Infinite
        where these do not count: the mode leaves them out, or there is no shrinkage (rho = 0) and they are left out as
        the pseudo-inverse of scikit-learn's ``LedoitWolf`` leaves them out
    """

    vectors: Array
    inside: Array
    floor: float

    @property
    def outside(self) -> float:
        """The weight of directions in which the training data does not vary; 0 where they do not count."""
        return 1.0 / self.floor


def shrunk_inverse(spectrum: Spectrum, shrinkage: Shrinkage) -> ShrunkInverse:
    """Return the inverse of the shrunk covariance; it has no component where the training data has no variance."""
    kept = slice(shrinkage.start, shrinkage.stop)
    eigenvalues, floor = spectrum.eigenvalues[kept], shrinkage.intensity * shrinkage.scale
    inside = 1.0 / ((1.0 - shrinkage.intensity) * eigenvalues + floor)
    counts = shrinkage.dim > eigenvalues.size and floor > 0.0
    return ShrunkInverse(spectrum.eigenvectors[:, kept], inside, floor if counts else np.inf)


def deviate(spectrum: Spectrum, features: ArrayLike) -> Array:
    """Return features (m, D) less the mean of the training features, (m, D) float64."""
    return np.asarray(features, dtype=np.float64) - spectrum.mean - spectrum.mean_remainder


def project(spectrum: Spectrum, features: ArrayLike) -> Projection:
    """Project test features (m, D) into the spectrum's eigenbasis; each row's projection depends on that row only."""
    deviations = deviate(spectrum, features)
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
    covers directions in which the training data does not vary; see :class:`ShrunkInverse`.

    Returns
    -------
    (m,) float64; NaN where the training data has no variance at all.
    """
    inverse = shrunk_inverse(spectrum, shrinkage)
    if inverse.inside.size == 0:
        return np.full(projection.squared_residual.shape, np.nan)
    inside = weighted_sums(projection.squared_components[:, shrinkage.start : shrinkage.stop], inverse.inside)
    return inside + projection.squared_residual / inverse.floor


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


def sweep_dims(rank: int, points: int) -> NDArray[np.intp]:
    """Return numbers of components from 1 to `rank`, ascending, evenly spread on a logarithmic scale; none for rank 0.

    Parameters
    ----------
    points : how many at most; where `rank` is small, whole numbers fall together
    """
    if rank == 0:
        return np.zeros(0, dtype=np.intp)
    return np.unique(np.round(np.geomspace(1, rank, points)).astype(np.intp))


def sweep_leading(projection: Projection, spectrum: Spectrum, dims: NDArray[np.intp]) -> Array:
    """Return the Mahalanobis distances with the d most-variant components kept (PCA), (len(dims), m)."""
    return np.stack([mahalanobis(projection, spectrum, shrink_range(spectrum, 0, int(d), int(d))) for d in dims])


def sweep_trailing(projection: Projection, spectrum: Spectrum, dims: NDArray[np.intp]) -> Array:
    """Return the Mahalanobis distances with the d least-variant components kept (NPCA), (len(dims), m)."""
    r = spectrum.rank
    return np.stack([mahalanobis(projection, spectrum, shrink_range(spectrum, r - int(d), r, int(d))) for d in dims])
