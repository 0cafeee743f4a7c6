"""The one-class SVM of Table V (PROTOCOL: comparators): scikit-learn's ``OneClassSVM()``, fast enough to finish.

libsvm's solver is fast, but it evaluates the kernel entry by entry, which is slow. Here the kernel is one matrix
product, and equal training features (the copies that augmentation leaves unchanged) are one point with a weight: the
optimum is the same, and the kernel has a quarter of the size if half of the features are copies. A kernel that is too
large for memory is approximated by landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.svm import OneClassSVM

from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import times, weighted_sums

NU = 0.5  # scikit-learn's default (PROTOCOL: comparators)
# libsvm stops when the optimality conditions hold to this tolerance. scikit-learn's default, 1e-3, is too coarse where
# the kernel puts training features close together, as it does if their means differ more than they vary: scores were
# off the optimum by up to 2 % of their spread. The tighter tolerance costs next to nothing.
TOLERANCE = 1e-9
MAX_EXACT = 23_170  # different training features, whose kernel takes 4 GiB
# For more features than that. Compared with the exact solution on 3,000 and 17,000 drawn features of 272 and 1,792
# dimensions, scores had a rank correlation of at least 0.9998, differed by 1 % of their spread, and their AUROC by
# 0.001 (scripts/bench_comparators.py --landmarks). The exact solution on a random three quarters of the features had
# a rank correlation of 0.998, and its AUROC differed by 0.007.
LANDMARKS = 1000
SGD_TOLERANCE = 1e-6
BLOCK = 1024

Way = Literal["exact", "nystroem"]


@dataclass(frozen=True)
class OneClassSvm:
    """A fitted one-class SVM with an RBF kernel: decision(x) = sum_i dual_i exp(-gamma |x - support_i|^2) + intercept.

    Attributes
    ----------
    centre : (D,), subtracted from `support` and from the features that are scored
    support : (s, D) support vectors, or landmarks
    dual : (s,) their coefficients; NaN if all training features were equal
    intercept : minus libsvm's rho
    gamma : of the kernel, 1 / (D * variance of all training entries), as scikit-learn's "scale"
    way : "exact", or "nystroem" if there were more different features than `max_exact`
    """

    centre: Array
    support: Array
    dual: Array
    intercept: float
    gamma: float
    way: Way


def fit_ocsvm(train: ArrayLike, max_exact: int = MAX_EXACT, landmarks: int = LANDMARKS, seed: int = 0) -> OneClassSvm:
    """Fit the one-class SVM of scikit-learn's ``OneClassSVM()`` (RBF, gamma "scale", nu 0.5), to a tighter tolerance.

    The exact scores are those of ``OneClassSVM(tol=TOLERANCE)`` to well within 1e-6 of their spread.

    Parameters
    ----------
    train : (n, D), n >= 1, any real dtype; computed in float64
    max_exact : up to so many different features, the whole kernel is computed
    landmarks : number of features that the Nystroem approximation is built on, for more than `max_exact`
    seed : of the approximation; the exact solution is not random

    Raises
    ------
    ValueError
        If `train` is not (n, D) with n >= 1, or has NaN or infinite values.
    """
    x = np.asarray(train)
    if x.ndim != 2 or x.shape[0] < 1:
        raise ValueError(f"features must be (n, D) with n >= 1, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("features hold NaN or infinite values")
    points, counts = distinct(x)
    centre = points.mean(axis=0)
    points -= centre
    if points.shape[0] == 1:
        return OneClassSvm(centre, points, np.full(1, np.nan), float("nan"), float("nan"), "exact")
    gamma = 1.0 / (x.shape[1] * float(x.var(dtype=np.float64)))
    if points.shape[0] > max_exact:
        return OneClassSvm(centre, *_fit_landmarks(points, counts, gamma, landmarks, seed), gamma, "nystroem")
    return OneClassSvm(centre, *_fit_exactly(points, counts, gamma), gamma, "exact")


def _fit_exactly(points: Array, counts: NDArray[np.intp], gamma: float) -> tuple[Array, Array, float]:
    kernel = training_kernel(points, gamma)
    svm = OneClassSVM(kernel="precomputed", nu=NU, tol=TOLERANCE).fit(kernel, sample_weight=counts)
    return points[svm.support_], svm.dual_coef_[0], float(svm.intercept_[0])


def _fit_landmarks(
    points: Array, counts: NDArray[np.intp], gamma: float, landmarks: int, seed: int
) -> tuple[Array, Array, float]:
    """Fit a linear one-class SVM in the span of some points (Williams and Seeger 2001).

    Stochastic gradient descent gets copies as often as they occur; as weights they would make it less exact. Its
    objective is libsvm's divided by ``nu n``.
    """
    mapping = Nystroem(gamma=gamma, n_components=min(landmarks, points.shape[0]), random_state=seed).fit(points)
    features = np.repeat(mapping.transform(points), counts, axis=0)
    svm = SGDOneClassSVM(nu=NU, tol=SGD_TOLERANCE, random_state=seed).fit(features)
    scale = NU * features.shape[0]
    return mapping.components_, scale * (mapping.normalization_.T @ svm.coef_), -scale * float(svm.offset_[0])


def score_ocsvm(model: OneClassSvm, test: ArrayLike) -> Array:
    """Return minus the decision function, (m,) float64, the larger the more anomalous.

    All scores are NaN if all training features were equal, or there was only one.

    Parameters
    ----------
    test : (m, D)
    """
    y = np.asarray(test)
    scores = np.empty(y.shape[0])
    squares = np.einsum("ij,ij->i", model.support, model.support)
    for start in range(0, y.shape[0], BLOCK):
        rows = slice(start, start + BLOCK)
        block = y[rows] - model.centre
        kernel = _exponential(times(block, model.support.T), np.einsum("ij,ij->i", block, block), squares, model.gamma)
        scores[rows] = -weighted_sums(kernel, model.dual) - model.intercept
    return scores


def distinct(features: np.ndarray) -> tuple[Array, NDArray[np.intp]]:
    """Return the different rows of (n, D) as (u, D) float64, and how often each occurs, (u,).

    They are sorted by their bytes, so that the order of the rows does not matter.
    """
    rows = np.ascontiguousarray(features) + features.dtype.type(0)  # -0.0 + 0 is 0.0, whose bytes differ
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, counts = np.unique(as_bytes, return_index=True, return_counts=True)
    return rows[first].astype(np.float64), counts


def training_kernel(points: Array, gamma: float) -> Array:
    """Return the RBF kernel (u, u) of centred points (u, D), without another array of that size."""
    kernel = points @ points.T
    squares = np.einsum("ij,ij->i", points, points)
    for start in range(0, kernel.shape[0], BLOCK):
        rows = slice(start, start + BLOCK)
        _exponential(kernel[rows], squares[rows], squares, gamma)
    np.fill_diagonal(kernel, 1.0)
    return kernel


def _exponential(products: Array, left: Array, right: Array, gamma: float) -> Array:
    """Turn scalar products ab (k, l) into exp(-gamma (|a|^2 - 2ab + |b|^2)), in place."""
    products *= -2.0
    products += left[:, None]
    products += right
    np.maximum(products, 0.0, out=products)
    products *= -gamma
    return np.exp(products, out=products)
