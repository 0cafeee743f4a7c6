"""Mean and centred data, whole or in parts (paper section III-A)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def centre(features: ArrayLike) -> tuple[Array, Array, Array]:
    """Return the mean, what float64 cannot hold of it, and the features centred on their sum.

    With a large common offset the mean is off by about ``eps * offset``. Left in every row, that would show up as a
    spurious direction of variance; left in the mean, as a distance of points that lie close to it.

    Parameters
    ----------
    features : (n, D), n >= 2, any real dtype; computed in float64.

    Returns
    -------
    mean : (D,) float64
    remainder : (D,) float64, to be subtracted after the mean, not added to it
    centred : (n, D) float64, every column of which sums to zero to rounding

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
    centred[:, (x == x[0]).all(axis=0)] = 0.0  # exactly: rounding must not give a constant feature a variance
    return mean, remainder, centred


@dataclass(frozen=True)
class Moments:
    """Mean and second moments of n features, both centred: those of the parts of a data set can be merged.

    Attributes
    ----------
    n : number of features
    shift : (D,), subtracted from every feature first, the same for all parts. One of the features will do: the
        difference is exact, so a large common offset costs no digits
    mean : (D,), of the shifted features
    second : (D, D), the sum of the outer products of deviations from the mean
    """

    n: int
    shift: Array
    mean: Array
    second: Array

    def two_float_mean(self) -> tuple[Array, Array]:
        """Return the mean of the features and what float64 cannot hold of it (see :func:`centre`)."""
        mean = self.shift + self.mean
        rest = mean - self.shift
        return mean, (self.shift - (mean - rest)) + (self.mean - rest)  # Knuth's two-sum: exact


def gather(chunks: Iterable[ArrayLike], shift: Array) -> Moments:
    """Return the moments of features that come in chunks of (k, D); one chunk is held at a time.

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
    """Return the moments of both together (Chan, Golub, LeVeque 1983)."""
    n = a.n + b.n
    if n == 0:
        return a
    apart = b.mean - a.mean
    second = a.second + b.second + np.outer(apart, apart * (a.n * b.n / n))
    return Moments(n, a.shift, a.mean + apart * (b.n / n), second)
