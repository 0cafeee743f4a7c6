"""SPADE at image level (Cohen and Hoshen 2020; PROTOCOL: comparators): the distance to the k nearest training features.

The search is exact. Blocked matrix products propose candidates, direct subtraction measures them, and an error bound
says whether the products may have missed a neighbour; where they may have, the point is searched by subtraction alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gaussad_cli.gaussian.moments import Array

SPADE_K = 50  # Cohen and Hoshen 2020; PROTOCOL: comparators
SPARE = 10  # candidates beyond k: rounding may swap neighbours about the k-th
PRECISION = 1e-10  # of the mean squared distance: the most that a missed neighbour may change
TRAIN_BLOCK, TEST_BLOCK = 4096, 512


def score_knn(train: ArrayLike, test: ArrayLike, k: int = SPADE_K) -> Array:
    """Return the root of the mean squared L2 distance to the k nearest training features.

    Monotone in SPADE's ``(1/k) sum |f - f_y|^2``. No product is larger than 512 x 4096, whatever the data.

    Parameters
    ----------
    train : (n, D), n >= 1, any real dtype; computed in float64. With fewer than k, all are neighbours.
    test : (m, D)
    k : number of neighbours, at least 1

    Returns
    -------
    (m,) float64, the larger the more anomalous

    Raises
    ------
    ValueError
        If the shapes do not fit, `k` is below 1, or a feature is NaN or infinite.
    """
    x, y = np.asarray(train), np.asarray(test)
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] < 1 or x.shape[1] != y.shape[1] or k < 1:
        raise ValueError(f"need features (n, D) and (m, D), n >= 1, k >= 1: got {x.shape}, {y.shape}, k = {k}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features hold NaN or infinite values")
    k = min(k, x.shape[0])
    mean = x.mean(axis=0, dtype=np.float64)
    found, proposed = _candidates(x, y, mean, k + SPARE)
    scores = np.empty(y.shape[0])
    for i, point in enumerate(y.astype(np.float64, copy=False)):
        squared = _nearest(x[found[i]], point, k)
        if x.shape[0] > found.shape[1] and _may_have_missed(squared, proposed[i].max(), point - mean):
            squared = _nearest(x, point, k)
        scores[i] = np.sqrt(squared.mean())
    return scores


def _candidates(train: Array, test: Array, mean: Array, wanted: int) -> tuple[np.ndarray, Array]:
    """Return the indices (m, c) of the nearest training features by matrix products, and what these say of |a - b|^2.

    Centred first: |a|^2 - 2ab + |b|^2 loses the digits that the common offset takes up.
    """
    found = np.empty((test.shape[0], 0), dtype=np.intp)
    proposed = np.empty((test.shape[0], 0))
    for start in range(0, train.shape[0], TRAIN_BLOCK):
        b = train[start : start + TRAIN_BLOCK] - mean
        width = min(wanted, found.shape[1] + b.shape[0])
        kept, distances = np.empty((test.shape[0], width), dtype=np.intp), np.empty((test.shape[0], width))
        for first in range(0, test.shape[0], TEST_BLOCK):
            rows = slice(first, first + TEST_BLOCK)
            squared = np.hstack([proposed[rows], _expanded(test[rows] - mean, b)])
            number = np.arange(start, start + b.shape[0])
            index = np.hstack([found[rows], np.broadcast_to(number, (squared.shape[0], number.size))])
            nearest = np.argpartition(squared, width - 1, axis=1)[:, :width]
            kept[rows] = np.take_along_axis(index, nearest, axis=1)
            distances[rows] = np.take_along_axis(squared, nearest, axis=1)
        found, proposed = kept, distances
    return found, proposed


def _expanded(a: Array, b: Array) -> Array:
    squared = a @ b.T
    squared *= -2.0
    squared += np.einsum("ij,ij->i", a, a)[:, None]
    squared += np.einsum("ij,ij->i", b, b)
    return squared


def _nearest(train: Array, point: Array, k: int) -> Array:
    """Return the k smallest squared distances (k,), by subtraction."""
    blocks = (train[start : start + TRAIN_BLOCK] for start in range(0, train.shape[0], TRAIN_BLOCK))
    squared = np.concatenate([np.square(block - point).sum(axis=1) for block in blocks])
    return np.partition(squared, k - 1)[:k]


def _may_have_missed(squared: Array, farthest: float, point: Array) -> bool:
    """Whether a feature that is no candidate could change the mean of the k squared distances by `PRECISION` of it.

    No product proposed less than `farthest` for it. A product is off by D eps (|a|^2 + |b|^2) at most, and to be a
    neighbour, b must be within the k-th distance of a.
    """
    furthest = float(squared.max())
    norm = float(point @ point)
    rounding = (point.size + 8) * np.finfo(np.float64).eps * (norm + (np.sqrt(norm) + np.sqrt(furthest)) ** 2)
    gain = furthest - max(farthest - rounding, 0.0)
    return bool(gain > PRECISION * float(squared.mean()))
