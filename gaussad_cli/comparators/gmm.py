"""A mixture of shrunk Gaussians, one for each kind of normal image; the paper leaves it to future work.

Everything is computed in the span of the training data, in the coordinates z = V'(x - mu) of its :class:`Spectrum`,
with r x r matrices instead of D x D ones. Outside the span a covariance is its floor rho m, as with one Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import by_blocks, times
from gaussad_cli.gaussian.shrinkage import ledoit_wolf, shrink
from gaussad_cli.gaussian.spectrum import Spectrum

Covariance = Literal["shared", "own"]

MIN_SAMPLES = 3.0  # of two points, the only Ledoit-Wolf estimate is singular
MAX_ITERATIONS = 100
TOLERANCE = 1e-4  # EM stops when no responsibility changes by more
RESTARTS = 4  # of k-means++; EM starts from the best


class ShrunkCovariance(NamedTuple):
    """A covariance shrunk towards the scaled identity, in the eigenbasis.

    Attributes
    ----------
    factor : (r, r), the lower Cholesky factor of (1 - rho) S + rho m I
    floor : rho m, the variance in each of the D - r directions outside the span
    intensity : rho
    log_det : logarithm of the determinant in all D dimensions
    """

    factor: Array
    floor: float
    intensity: float
    log_det: float


@dataclass(frozen=True)
class GaussianMixture:
    """A fitted mixture of k Gaussians; k may be smaller than was asked for.

    Attributes
    ----------
    spectrum : its mean and eigenvectors define the coordinates
    means : (k, r), in the eigenbasis
    log_weights : (k,) logarithms of pi_k |S_k|^(-1/2), normalised to sum to one; of pi_k if the covariance is shared
    covariances : k of them, or one that all components share
    """

    spectrum: Spectrum
    means: Array
    log_weights: Array
    covariances: tuple[ShrunkCovariance, ...]


def fit_gmm(
    train: ArrayLike, spectrum: Spectrum, components: int, covariance: Covariance = "shared", seed: int = 0
) -> GaussianMixture:
    """Fit a mixture of shrunk Gaussians by expectation-maximisation from k-means++.

    Every maximisation shrinks anew, by the Ledoit-Wolf intensity of the samples about their components' means, so the
    likelihood may fall in a step. EM stops when the responsibilities no longer change, or after 100 iterations.

    A component is dropped when less than three samples' worth of responsibility is left to it or, with a covariance of
    its own, when its samples do not vary: its likelihood would be unbounded. The others take over its samples. If fewer
    than two components are left, or the samples do not vary about the shared means, the result is one Gaussian.

    Parameters
    ----------
    train : (n, D), the features that `spectrum` was fitted to, in any order
    spectrum : from :func:`gaussad_cli.gaussian.spectrum.fit_spectrum`
    components : k >= 1; never more are fitted than there are different features
    covariance : "shared" by all components, or "own" for one per component
    seed : of k-means++

    Raises
    ------
    ValueError
        If `components` is below 1, or the shape of `train` is not that of the features the spectrum was fitted to.
    """
    x = np.asarray(train)
    if components < 1 or x.shape != (spectrum.n, spectrum.dim):
        raise ValueError(f"need k >= 1, features {(spectrum.n, spectrum.dim)}: got k = {components}, {x.shape}")
    k = min(components, np.unique(x, axis=0).shape[0])
    if k == 1 or spectrum.rank == 0:
        return _one_gaussian(spectrum)
    z, _ = _coordinates(spectrum, x)
    z = z[np.argsort(np.square(z).sum(axis=1))]  # k-means draws by position, and the order must not matter
    responsibilities = _initial(z, k, seed)
    mixture = _maximise(z, responsibilities, spectrum, covariance)
    for _ in range(MAX_ITERATIONS):
        if mixture is None or mixture.means.shape[0] == 1:
            return _one_gaussian(spectrum)
        previous, responsibilities = responsibilities, _expect(mixture, z)
        if previous.shape == responsibilities.shape and np.abs(previous - responsibilities).max() < TOLERANCE:
            break
        mixture = _maximise(z, responsibilities, spectrum, covariance)
    return mixture or _one_gaussian(spectrum)


def score_gmm(mixture: GaussianMixture, test: ArrayLike) -> Array:
    """Return the distance sqrt(-2 log (p(x) / p*)), (m,) float64, the larger the more anomalous.

    p* is the density that the mixture would have if all its means were one point, at that point: the upper bound of
    p. The distance is monotone in the negative log-likelihood: its square is -2 log sum_k w_k exp(-d_k^2 / 2), with w_k
    proportional to pi_k |S_k|^(-1/2) and normalised. With one component it is the Mahalanobis distance.

    Parameters
    ----------
    test : (m, D)

    Returns
    -------
    NaN where the training data has no variance at all.
    """
    z, residual = _coordinates(mixture.spectrum, np.asarray(test))
    if mixture.spectrum.rank == 0:
        return np.full(z.shape[0], np.nan)
    squared = _squared_distances(mixture, z)
    outside = [1.0 / covariance.floor if covariance.floor > 0.0 else 0.0 for covariance in mixture.covariances]
    squared += residual[:, None] * np.array(outside)
    return np.sqrt(np.maximum(-2.0 * logsumexp(mixture.log_weights - squared / 2.0, axis=1), 0.0))


def _coordinates(spectrum: Spectrum, features: Array) -> tuple[Array, Array]:
    """Return V'(x - mu), (m, r), and the squared norm of what lies outside the span, (m,)."""
    deviations = features.astype(np.float64) - spectrum.mean - spectrum.mean_remainder
    z = times(deviations, spectrum.eigenvectors)
    if spectrum.rank == spectrum.dim:
        return z, np.zeros(z.shape[0])
    deviations -= times(z, spectrum.eigenvectors.T)
    return z, np.square(deviations).sum(axis=1)


def _initial(z: Array, k: int, seed: int) -> Array:
    """Return the responsibilities (n, k), 0 or 1, of the k-means clusters."""
    with threadpool_limits(1):  # several threads add up in the order in which they finish
        labels = KMeans(k, init="k-means++", n_init=RESTARTS, random_state=seed).fit_predict(z)
    return np.eye(k)[labels]


def _maximise(z: Array, responsibilities: Array, spectrum: Spectrum, covariance: Covariance) -> GaussianMixture | None:
    """Return the mixture of the components that are left, or None if none is."""
    r = _living(z, responsibilities)
    if r.shape[1] == 0:
        return None
    means = (r.T @ z) / r.sum(axis=0)[:, None]
    if covariance == "shared":
        shrunk = [_shrink_shared(z, r, means, spectrum)]
    else:
        shrunk = [_shrink_own(z, r[:, k], means[k], spectrum) for k in range(r.shape[1])]
        varying = [k for k, own in enumerate(shrunk) if own is not None]
        r, means = r[:, varying], means[varying]
    covariances = tuple(each for each in shrunk if each is not None)
    if not covariances:
        return None
    log_weights = np.log(r.sum(axis=0)) - np.array([each.log_det for each in covariances]) / 2.0
    return GaussianMixture(spectrum, means, log_weights - logsumexp(log_weights), covariances)


def _living(z: Array, responsibilities: Array) -> Array:
    """Return the normalised responsibilities of the components left; orphaned samples go to the nearest mean."""
    r = responsibilities[:, responsibilities.sum(axis=0) >= MIN_SAMPLES]
    orphans = np.flatnonzero(r.sum(axis=1) == 0.0)
    if orphans.size and r.shape[1]:
        means = (r.T @ z) / r.sum(axis=0)[:, None]
        nearest = np.argmin(np.square(means).sum(axis=1) - 2.0 * z[orphans] @ means.T, axis=1)
        r[orphans, nearest] = 1.0
    return r / r.sum(axis=1, keepdims=True) if r.shape[1] else r


def _shrink_shared(z: Array, r: Array, means: Array, spectrum: Spectrum) -> ShrunkCovariance | None:
    """Shrink the covariance about the components' means: the total, which is diagonal here, minus that of the means."""
    counts = r.sum(axis=0)
    within = np.diag(spectrum.eigenvalues) - (means * (counts / spectrum.n)[:, None]).T @ means
    fourth = sum(float(r[:, k] @ np.square(np.square(z - means[k]).sum(axis=1))) for k in range(r.shape[1]))
    return _shrink(within, fourth / spectrum.n, float(spectrum.n), spectrum)


def _shrink_own(z: Array, r: Array, mean: Array, spectrum: Spectrum) -> ShrunkCovariance | None:
    """Shrink one component's covariance; Kish's effective sample size says how many samples it has."""
    taking_part = r > 0.0
    weights = r[taking_part]
    y = z[taking_part] - mean
    fourth = float(weights @ np.square(np.square(y).sum(axis=1))) / weights.sum()
    y *= np.sqrt(weights)[:, None]
    return _shrink((y.T @ y) / weights.sum(), fourth, float(weights.sum() ** 2 / np.square(weights).sum()), spectrum)


def _shrink(covariance: Array, fourth: float, n: float, spectrum: Spectrum) -> ShrunkCovariance | None:
    """Shrink a covariance (r, r) of D-dimensional samples; return None if it has no inverse in D dimensions."""
    dim, rank = spectrum.dim, spectrum.rank
    trace = float(np.trace(covariance))
    rounding = max(spectrum.n, dim) * np.finfo(np.float64).eps
    if trace <= rounding * float(spectrum.eigenvalues.sum()):
        return None
    intensity = ledoit_wolf(float(np.square(covariance).sum()), trace, fourth, n, dim)
    floor = intensity * trace / dim
    if rank < dim and floor == 0.0:
        return None
    try:
        factor = linalg.cholesky((1.0 - intensity) * covariance + floor * np.eye(rank), lower=True, check_finite=False)
    except linalg.LinAlgError:
        return None
    outside = (dim - rank) * np.log(floor) if rank < dim else 0.0
    return ShrunkCovariance(factor, floor, intensity, float(2.0 * np.log(factor.diagonal()).sum() + outside))


def _one_gaussian(spectrum: Spectrum) -> GaussianMixture:
    """Return the Gaussian of the spectrum, also where it has no variance outside or inside the span."""
    shrinkage = shrink(spectrum)
    floor = shrinkage.intensity * shrinkage.scale
    factor = np.diag(np.sqrt((1.0 - shrinkage.intensity) * spectrum.eigenvalues + floor))
    covariance = ShrunkCovariance(factor, floor, shrinkage.intensity, log_det=0.0)
    return GaussianMixture(spectrum, np.zeros((1, spectrum.rank)), np.zeros(1), (covariance,))


def _squared_distances(mixture: GaussianMixture, z: Array) -> Array:
    """Return the squared Mahalanobis distances (m, k) to the components within the span."""
    squared = np.empty((z.shape[0], mixture.means.shape[0]))
    for k, mean in enumerate(mixture.means):
        factor = mixture.covariances[k if len(mixture.covariances) > 1 else 0].factor
        white = by_blocks(partial(_whiten, factor), z - mean)
        squared[:, k] = np.square(white).sum(axis=1)
    return squared


def _whiten(factor: Array, deviations: Array) -> Array:
    solved = linalg.solve_triangular(factor, deviations.T, lower=True, check_finite=False)
    return np.asarray(solved.T)


def _expect(mixture: GaussianMixture, z: Array) -> Array:
    """Return the responsibilities (n, k) of the components for training samples; those below eps are set to zero."""
    if len(mixture.covariances) == 1:
        # With one covariance, the terms that all components share cancel, and the others are linear in z.
        precise = linalg.cho_solve((mixture.covariances[0].factor, True), mixture.means.T, check_finite=False)
        logits = z @ precise - (mixture.means.T * precise).sum(axis=0) / 2.0 + mixture.log_weights
    else:
        logits = mixture.log_weights - _squared_distances(mixture, z) / 2.0
    responsibilities = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    responsibilities[responsibilities < np.finfo(np.float64).eps] = 0.0
    return responsibilities
