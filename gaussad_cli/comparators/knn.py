"""SPADE at image level (Cohen and Hoshen 2020; PROTOCOL: comparators): the distance to the k nearest training features.

Distances are computed by subtraction, pair by pair. Matrix products (as in scikit-learn's brute-force search) would be
ten times as fast for 25,000 training features of 2,048 dimensions, but they lose digits to cancellation, and an image's
distance would depend on the images that are scored with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from gaussad_cli.gaussian.moments import Array

SPADE_K = 50  # Cohen and Hoshen 2020; PROTOCOL: comparators
_BLOCK = 4096  # training features that are converted to float64 at a time


def score_knn(train: ArrayLike, test: ArrayLike, k: int = SPADE_K) -> Array:
    """Return the root of the mean squared L2 distance to the k nearest training features.

    Monotone in SPADE's ``(1/k) sum |f - f_y|^2``.

    Parameters
    ----------
    train : (n, D), n >= 1, any real dtype; computed in float64. If n < k, all of them are neighbours.
    test : (m, D)
    k : number of neighbours, at least 1

    Returns
    -------
    (m,) float64, the larger the more anomalous

    Raises
    ------
    ValueError
        If the shapes do not match, `k` is below 1, or a feature is NaN or infinite.
    """
    x, y = np.asarray(train), np.asarray(test)
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] < 1 or x.shape[1] != y.shape[1] or k < 1:
        raise ValueError(f"need features (n, D) and (m, D), n >= 1, k >= 1: got {x.shape}, {y.shape}, k = {k}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features hold NaN or infinite values")
    k, points = min(k, x.shape[0]), y.astype(np.float64)
    blocks = (x[start : start + _BLOCK].astype(np.float64) for start in range(0, x.shape[0], _BLOCK))
    squared = np.concatenate([cdist(points, block, "sqeuclidean") for block in blocks], axis=1)
    return np.asarray(np.sqrt(np.partition(squared, k - 1, axis=1)[:, :k].mean(axis=1)))
