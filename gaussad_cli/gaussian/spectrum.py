"""The spectrum of one fold and level, from which every compression mode and score is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gaussad_cli.gaussian.moments import Array, centre


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition and fourth moments of n centred training features of D dimensions.

    Z = X V are the centred data in the eigenbasis. The fourth powers of the samples' norms are summed for every range
    of leading components, as PCA keeps them, and of trailing components, as NPCA does.

    Attributes
    ----------
    n : number of training features
    mean, mean_remainder : (D,) fold mean, and its remainder beyond float64 (see `centre`)
    variances : (D,) per-feature empirical variance, 1/n
    eigenvalues : (r,) of X'X/n, descending, without those that are zero up to rounding, so r <= min(n - 1, D)
    eigenvectors : (D, r), orthonormal columns
    fourth_leading : (r,), the sum over samples of (z_0^2 + ... + z_b^2)^2, for every last component b
    fourth_trailing : (r,), the sum over samples of (z_a^2 + ... + z_(r-1)^2)^2, for every first component a
    """

    n: int
    mean: Array
    mean_remainder: Array
    variances: Array
    eigenvalues: Array
    eigenvectors: Array
    fourth_leading: Array
    fourth_trailing: Array

    @property
    def dim(self) -> int:
        """D, the number of features."""
        return self.mean.shape[0]

    @property
    def rank(self) -> int:
        """r, the number of components whose variance is not zero up to rounding."""
        return self.eigenvalues.shape[0]


def fit_spectrum(features: ArrayLike) -> Spectrum:
    """Fit the spectrum of training features by a thin SVD of the centred data.

    An eigendecomposition of X'X would lose the small components by squaring, and those are the ones that matter here
    (paper section IV-A). Both cost at most ``n * D * min(n, D)``.

    Parameters
    ----------
    features : (n, D), n >= 2

    Raises
    ------
    ValueError
        See :func:`gaussad_cli.gaussian.moments.centre`.
    """
    mean, remainder, x = centre(features)
    n, dim = x.shape
    left, singular, right = thin_svd(x)
    rank = numerical_rank(singular, n, dim)
    leading, trailing = fourth_moments(left[:, :rank] * singular[:rank])
    return Spectrum(
        n=n,
        mean=mean,
        mean_remainder=remainder,
        variances=np.square(x).mean(axis=0),
        eigenvalues=np.square(singular[:rank]) / n,
        eigenvectors=np.ascontiguousarray(right[:rank].T),
        fourth_leading=leading,
        fourth_trailing=trailing,
    )


def fourth_moments(z: Array) -> tuple[Array, Array]:
    """Return the fourth moments of samples in the eigenbasis, (n, r), as `Spectrum` holds them: two of (r,)."""
    squared = np.square(z)
    leading = np.cumsum(squared, axis=1)
    trailing = np.cumsum(squared[:, ::-1], axis=1)[:, ::-1]
    return np.einsum("ij,ij->j", leading, leading), np.einsum("ij,ij->j", trailing, trailing)


def numerical_rank(singular: Array, n: int, dim: int) -> int:
    """Count singular values above the usual ``s_max * max(n, D) * eps``; centred data has rank n - 1 at most."""
    if singular.size == 0 or singular[0] == 0.0:
        return 0
    tolerance = singular[0] * max(n, dim) * np.finfo(np.float64).eps
    return min(int(np.count_nonzero(singular > tolerance)), n - 1)


def thin_svd(x: Array) -> tuple[Array, Array, Array]:
    """Return the thin SVD; if LAPACK's divide and conquer does not converge (rare), QR iteration takes over."""
    try:
        return np.linalg.svd(x, full_matrices=False)
    except np.linalg.LinAlgError:
        from scipy import linalg  # only for this: to ask a model should not need SciPy

        return linalg.svd(x, full_matrices=False, check_finite=False, lapack_driver="gesvd")
