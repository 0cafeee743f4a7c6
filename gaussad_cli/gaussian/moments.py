"""Mean and centred data (paper section III-A)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def centre(features: ArrayLike) -> tuple[Array, Array]:
    """Return the mean and the features centred on it.

    The mean is refined by the mean of the residuals. With a large common offset one pass leaves a residual of
    about ``eps * offset`` in every row; that would show up as a spurious direction of variance.

    Parameters
    ----------
    features : (n, D), n >= 2, any real dtype; computed in float64.

    Returns
    -------
    mean : (D,) float64
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
    correction = centred.mean(axis=0)
    centred -= correction
    centred[:, (x == x[0]).all(axis=0)] = 0.0  # exactly: rounding must not give a constant feature a variance
    return mean + correction, centred
