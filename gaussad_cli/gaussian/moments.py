"""Mean and second moments of data, as a whole or merged from parts (paper section III-A)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def centre(features: ArrayLike) -> tuple[Array, Array, Array]:
    """Return the mean, its remainder beyond float64, and the features centred on the sum of the two.

    With a large common offset, the mean is wrong by about ``eps * offset``. If this error stayed in every row, it would
    appear as a spurious direction of variance; if it stayed in the mean, it would change distances close to the mean.

    Parameters
    ----------
    features : (n, D), n >= 2, any real dtype; the computation is in float64

    Returns
    -------
    mean : (D,) float64
    remainder : (D,) float64; subtract it after the mean instead of adding it to the mean
    centred : (n, D) float64; every column sums to zero up to rounding

    Raises
    ------
    ValueError
        If `features` is not two-dimensional, has fewer than two rows, or holds NaN or infinity.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < 2:
        raise ValueError(f"features must be (n, D) with n >= 2, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("features hold NaN or infinite values")
    mean = x.mean(axis=0)
    centred = x - mean
    remainder = centred.mean(axis=0)
    centred -= remainder
    centred[:, (x == x[0]).all(axis=0)] = 0.0  # exactly 0: rounding must not give a constant feature a variance
    return mean, remainder, centred


@dataclass(frozen=True)
class Moments:
    """Mean and centred second moments of n features; the moments of a data set's parts can be merged.

    Attributes
    ----------
    n : number of features
    shift : (D,), subtracted from every feature first, the same for all parts. Any one of the features serves: the
        difference is exact, so that a large common offset costs no digits
    mean : (D,), the mean of the shifted features
    second : (D, D), the sum of the outer products of deviations from the mean
    """

    n: int
    shift: Array
    mean: Array
    second: Array

    def two_float_mean(self) -> tuple[Array, Array]:
        """Return the mean of the features and its remainder beyond float64 (see :func:`centre`)."""
        mean = self.shift + self.mean
        rest = mean - self.shift
        return mean, (self.shift - (mean - rest)) + (self.mean - rest)  # Knuth's two-sum: exact


def gather(chunks: Iterable[ArrayLike], shift: Array) -> Moments:
    """Return the moments of features that come in chunks of (k, D); only one chunk is in memory at a time.

    Raises
    ------
    ValueError
        If a chunk holds NaN or infinity.
    """
    total = Moments(0, shift, np.zeros_like(shift), np.zeros((shift.size, shift.size)))
    for chunk in chunks:
        x = np.asarray(chunk, dtype=np.float64) - shift
        if not np.isfinite(x).all():
            raise ValueError("features hold NaN or infinite values")
        mean = x.mean(axis=0)
        x -= mean
        total = merge(total, Moments(x.shape[0], shift, mean, x.T @ x))
    return total


def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of the union of two parts (Chan, Golub, LeVeque 1983)."""
    n = a.n + b.n
    if n == 0:
        return a
    apart = b.mean - a.mean
    second = a.second + b.second + np.outer(apart, apart * (a.n * b.n / n))
    return Moments(n, a.shift, a.mean + apart * (b.n / n), second)
