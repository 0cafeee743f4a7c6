"""Slow reference implementations, short enough to be checked by eye: scikit-learn objects, formulas as printed."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA


def kept_components(features: np.ndarray, mode: str, var: float | None) -> np.ndarray | None:
    """Components (d, D) that PROTOCOL.md keeps, from scikit-learn's PCA; None for all features.

    A PCA of n <= D has n components of which the last is rounding noise; like all others with no variance it is
    dropped (DESIGN.md), by NumPy's rank of the centred data.
    """
    if mode == "all":
        return None
    pca = PCA(svd_solver="full").fit(features)
    rank = np.linalg.matrix_rank(features - features.mean(axis=0))
    k = np.argmax(np.cumsum(pca.explained_variance_ratio_) > (var if mode == "pca" else 1 - var))
    return pca.components_[: k + 1] if mode == "pca" else pca.components_[max(k - 1, 0) : rank]


def mahalanobis(train: np.ndarray, test: np.ndarray, mode: str = "all", var: float | None = None):
    """(distances, shrinkage, dim) by PCA, then LedoitWolf on the projected data."""
    components = kept_components(train, mode, var)
    if components is not None:
        centre = train.mean(axis=0)
        train, test = (train - centre) @ components.T, (test - centre) @ components.T
    gaussian = LedoitWolf().fit(train)
    return np.sqrt(gaussian.mahalanobis(test)), gaussian.shrinkage_, train.shape[1]


def l2(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean((test - train.mean(axis=0)) ** 2, axis=1))


def sed(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean((test - train.mean(axis=0)) ** 2 / train.var(axis=0, ddof=1), axis=1))
