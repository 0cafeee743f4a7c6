"""The out-of-distribution score of Lee et al. 2018, from which the paper takes the idea of a Gaussian on every level.

A logistic regression on labelled validation images learns the weights of the levels (their eq. 4 and algorithm 1).
Their step on the input (eq. 3) is left out: it is meant for images of 32 pixels, and overshoots at 224.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import weighted_sums

VALIDATION_SHARE = 0.1  # Lee et al. 2018: 1,000 of 10,000 images, of each class


@dataclass(frozen=True)
class WeightedLevels:
    """Levels combined by weights that were learnt on a share of the test images, the validation images.

    Attributes
    ----------
    scores : (m,), the log-odds of an anomaly: the sum of weight * distance over the levels, plus the intercept. NaN for
        the validation images, which must not be tested
    validation : (m,) bool
    weights : (L,), per unit of distance; 0 for a level that is NaN for some image, or equal for all validation images
    intercept : of the log-odds; it changes no ranking
    """

    scores: Array
    validation: NDArray[np.bool_]
    weights: Array
    intercept: float


def weigh_levels(
    distances: ArrayLike, anomalous: ArrayLike, share: float = VALIDATION_SHARE, seed: int = 0
) -> WeightedLevels:
    """Learn the weights of the levels on a share of the images, and score the others.

    Lee et al. choose the regression's penalty by cross-validation. MVTec AD's validation shares of about 11 images are
    too few for that, so it is scikit-learn's default here (C = 1), on standardised distances. This score learns from
    anomalies: a comparison with the other scores must say so.

    Parameters
    ----------
    distances : (m, L), one column per level, squared (as theirs) or not
    anomalous : (m,) bool
    share : of the images of each class; rounded, to at least one image and never all
    seed : of the draw of the validation images

    Returns
    -------
    All NaN, and no validation images, if a class has fewer than two images: one to learn from and one to test on; or
    if no level is finite for all images.

    Raises
    ------
    ValueError
        If the shapes do not match, or `share` is not between 0 and 1.
    """
    x, y = np.asarray(distances, dtype=np.float64), np.asarray(anomalous, dtype=bool)
    if x.ndim != 2 or y.shape != x.shape[:1] or not 0.0 < share < 1.0:
        raise ValueError(f"need distances (m, L), labels (m,), 0 < share < 1: got {x.shape}, {y.shape}, {share}")
    if min(y.sum(), (~y).sum()) < 2 or not np.isfinite(x).all(axis=0).any():
        nothing = np.zeros(y.shape, dtype=bool)
        return WeightedLevels(np.full(y.shape, np.nan), nothing, np.full(x.shape[1], np.nan), float("nan"))
    validation = draw_validation(y, share, seed)
    weights, intercept = _regress(x[validation], y[validation], np.asarray(np.isfinite(x).all(axis=0)))
    # Levels that weigh nothing are left out, since zero times NaN is NaN.
    scores = weighted_sums(x[:, weights != 0], weights[weights != 0]) + intercept
    scores[validation] = np.nan
    return WeightedLevels(scores, validation, weights, intercept)


def draw_validation(anomalous: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.bool_]:
    """Draw a share of each class, at least one image and never all, as a mask (m,); each class needs two images."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(anomalous.shape, dtype=bool)
    for label in (False, True):
        members = np.flatnonzero(anomalous == label)
        count = min(max(round(share * members.size), 1), members.size - 1)
        drawn[rng.choice(members, count, replace=False)] = True
    return drawn


def _regress(distances: Array, anomalous: NDArray[np.bool_], defined: NDArray[np.bool_]) -> tuple[Array, float]:
    mean, std = np.zeros(defined.size), np.zeros(defined.size)
    mean[defined], std[defined] = distances[:, defined].mean(axis=0), distances[:, defined].std(axis=0)
    weights = np.zeros(defined.size)
    # Relative to the mean, so that rounding errors do not make equal distances different.
    used = std > 1e-12 * np.abs(mean)
    if not used.any():
        return weights, 0.0
    model = LogisticRegression(C=1.0).fit((distances[:, used] - mean[used]) / std[used], anomalous)
    weights[used] = model.coef_[0] / std[used]
    return weights, float(model.intercept_[0] - weights[used] @ mean[used])
