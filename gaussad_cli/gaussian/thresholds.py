"""The working point: the threshold for a given false-positive rate.

It follows from the chi-square law (paper section III-B, eq. 7 and 8), or is calibrated on normal images that the
Gaussian was not fitted to: the fifth that every fold leaves out. Distances above the threshold are flagged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gaussad_cli.gaussian.moments import Array

SIGMAS = (1, 2, 3, 4, 5)  # Table IV


def target_fpr(sigmas: ArrayLike) -> Array:
    """Return the probability beyond n sigma of a univariate Gaussian, 1 - erf(n / sqrt 2) (Table IV).

    It is computed by erfc: from 5 sigma on, 1 - erf would lose its digits.
    """
    from scipy import special  # imported where it is used: a model's threshold needs none of it

    return np.asarray(special.erfc(np.asarray(sigmas, dtype=np.float64) / np.sqrt(2.0)), dtype=np.float64)


def chi2_threshold(fpr: ArrayLike, dim: int) -> Array:
    """Return the Mahalanobis distance t that a Gaussian of `dim` dimensions exceeds with probability `fpr` (eq. 8)."""
    from scipy import stats

    return np.asarray(np.sqrt(stats.chi2.isf(fpr, dim)), dtype=np.float64)


def empirical_threshold(held_out: Array, fpr: ArrayLike) -> Array:
    """Return the quantile of held-out normal distances (n,) that a share `fpr` of them exceeds, interpolated.

    It is unbiased only for many images; n images allow rates down to 1/n.
    """
    return np.asarray(np.quantile(held_out, 1.0 - np.asarray(fpr, dtype=np.float64)), dtype=np.float64)


def gamma_threshold(held_out: Array, fpr: ArrayLike) -> Array:
    """Return the threshold by a gamma distribution fitted to squared held-out distances (n,), by maximum likelihood.

    The chi-square law is a gamma law; here its dimension and scale are free. Rates below 1/n are extrapolated.

    Returns
    -------
    The thresholds; NaN if the distances are all equal or one is zero.
    """
    from scipy import stats

    squared = np.square(held_out)
    if not (squared > 0).all() or np.ptp(squared) == 0:
        return np.full(np.shape(fpr), np.nan)
    shape, _, scale = stats.gamma.fit(squared, floc=0)
    return np.asarray(np.sqrt(stats.gamma.isf(fpr, shape, scale=scale)), dtype=np.float64)


def conformal_threshold(held_out: Array, fpr: ArrayLike) -> Array:
    """Return the threshold by split conformal prediction.

    It is the ceil((n + 1)(1 - fpr))-th smallest of n held-out distances. If a new normal image is exchangeable with the
    held-out ones, it is flagged with probability at most `fpr`, for any distribution and any n
    (Vovk, Gammerman, Shafer 2005). It is infinite for `fpr` below 1/(n + 1), which n images cannot guarantee.
    """
    n, rates = held_out.size, np.asarray(fpr, dtype=np.float64)
    # Rounded first: (n + 1)(1 - fpr) may be an integer that floating point just misses.
    rank = np.ceil(np.round((n + 1) * (1.0 - rates), 9)).astype(int)
    ordered = np.append(np.sort(held_out), np.inf)
    return np.asarray(ordered[np.minimum(rank, n + 1) - 1], dtype=np.float64)


def cross_conformal_p_values(held_out: Sequence[Array], test: Array) -> Array:
    """Return each test point's p-value from all folds together (Vovk 2015); it is flagged at rate `fpr` if p <= fpr.

    Every held-out distance is compared with the test point's distance to the same fold's Gaussian, so that all N
    training images calibrate, for rates down to 1/(N + 1). The proven bound is about 2 `fpr`, the actual rate `fpr`.

    Parameters
    ----------
    held_out : per fold, (n_fold,)
    test : (folds, m)

    Returns
    -------
    (m,)
    """
    beyond = np.zeros(test.shape[1])
    for reference, distances in zip(held_out, test, strict=True):
        beyond += reference.size - np.searchsorted(np.sort(reference), distances, side="left")
    return (beyond + 1) / (sum(reference.size for reference in held_out) + 1)
