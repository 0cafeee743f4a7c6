"""The working point from the chi-square law (paper section III-B, eq. 7 and 8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from gaussad_cli.gaussian.moments import Array

SIGMAS = (1, 2, 3, 4, 5)  # Table IV


def target_fpr(sigmas: ArrayLike) -> Array:
    """Return the probability beyond n sigma of a univariate Gaussian, 1 - erf(n / sqrt 2) (Table IV).

    By the survival function: at 5 sigma and beyond, 1 - erf would lose its digits.
    """
    return np.asarray(special.erfc(np.asarray(sigmas, dtype=np.float64) / np.sqrt(2.0)), dtype=np.float64)


def chi2_threshold(fpr: ArrayLike, dim: int) -> Array:
    """Return the Mahalanobis distance t that a Gaussian of `dim` dimensions exceeds with probability `fpr` (eq. 8)."""
    return np.asarray(np.sqrt(stats.chi2.isf(fpr, dim)), dtype=np.float64)
