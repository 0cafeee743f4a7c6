"""Slow reference implementations, short enough to be checked by eye: scikit-learn objects, formulas as printed."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

# Tables I and III: (score, mode, var)
SCORINGS = (
    ("l2", "all", None),
    ("sed", "all", None),
    ("mahalanobis", "all", None),
    ("mahalanobis", "pca", 0.99),
    ("mahalanobis", "pca", 0.95),
    ("mahalanobis", "npca", 0.01),
    ("mahalanobis", "npca", 0.001),
    ("mahalanobis", "npca", 0.0001),
)


def kept_components(
    features: np.ndarray, mode: str, var: float | None, keep_zero_variance: bool = False
) -> np.ndarray | None:
    """Components (d, D) that PROTOCOL.md keeps, from scikit-learn's PCA; None for all features.

    A PCA of n <= D has n components of which the last is rounding noise; like all others with no variance it is
    dropped (DESIGN.md), by NumPy's rank of the centred data, unless it is to be kept as the authors' code keeps it.
    """
    if var is None:
        return None
    pca = PCA(svd_solver="full").fit(features)
    rank = None if keep_zero_variance else np.linalg.matrix_rank(features - features.mean(axis=0))
    k = np.argmax(np.cumsum(pca.explained_variance_ratio_) > (var if mode == "pca" else 1 - var))
    return pca.components_[: k + 1] if mode == "pca" else pca.components_[max(k - 1, 0) : rank]


def mahalanobis(
    train: np.ndarray, test: np.ndarray, mode: str = "all", var: float | None = None, keep_zero_variance: bool = False
) -> tuple[np.ndarray, float, int]:
    """(distances, shrinkage, dim) by PCA, then LedoitWolf on the projected data."""
    components = kept_components(train, mode, var, keep_zero_variance)
    if components is not None:
        centre = train.mean(axis=0)
        train, test = (train - centre) @ components.T, (test - centre) @ components.T
    gaussian = LedoitWolf().fit(train)
    return np.sqrt(gaussian.mahalanobis(test)), gaussian.shrinkage_, train.shape[1]


def l2(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean((test - train.mean(axis=0)) ** 2, axis=1))


def sed(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """NaN where a feature has no variance: this distance is undefined (PROTOCOL.md)."""
    variance = train.var(axis=0, ddof=1)
    if np.any(train.max(axis=0) == train.min(axis=0)):
        return np.full(len(test), np.nan)
    return np.sqrt(np.mean((test - train.mean(axis=0)) ** 2 / variance, axis=1))


def protocol(
    train: dict[int, np.ndarray], test: dict[int, np.ndarray], anomalous: np.ndarray, keep_zero_variance: bool = False
) -> dict[tuple[int | str, str, str, float | None, int], float]:
    """The authors' evaluation of one category: (level or "sum", score, mode, var, fold) -> AUROC, NaN if undefined.

    `train` and `test` map levels to (n, D) features. PROTOCOL.md, section Evaluation, from scikit-learn's objects.
    """
    aurocs: dict[tuple[int | str, str, str, float | None, int], float] = {}
    some = next(iter(train.values()))
    for fold, (fitted, _) in enumerate(KFold(n_splits=5, shuffle=True, random_state=0).split(some)):
        for score, mode, var in SCORINGS:
            distances: dict[int | str, np.ndarray] = {}
            for level in train:
                x, y = train[level][fitted].astype(float), test[level].astype(float)
                if score == "mahalanobis":
                    distances[level] = mahalanobis(x, y, mode, var, keep_zero_variance)[0]
                else:
                    distances[level] = {"l2": l2, "sed": sed}[score](x, y)
            distances["sum"] = np.mean(list(distances.values()), axis=0)
            for name, distance in distances.items():
                undefined = np.isnan(distance).any()
                aurocs[name, score, mode, var, fold] = np.nan if undefined else roc_auc_score(anomalous, distance)
    return aurocs
