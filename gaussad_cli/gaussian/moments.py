"""Mean and centred data (paper section III-A)."""

from __future__ import annotations

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
