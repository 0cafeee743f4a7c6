"""How well distances separate normal from anomalous images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.gaussian.moments import Array

Counts = NDArray[np.int64]


def image_metrics(distance: Array, anomalous: NDArray[np.bool_]) -> dict[str, float]:
    """Return every metric per image that the results have, by its column in `metrics.csv`.

    Parameters
    ----------
    distance : (m,)
    anomalous : (m,) bool

    Returns
    -------
    auroc, ap, f1, fpr_95tpr : in [0, 1]; all NaN if they are undefined because one class is absent or a distance is NaN
    """
    return {
        "auroc": auroc(distance, anomalous),
        "ap": average_precision(distance, anomalous),
        "f1": max_f1(distance, anomalous),
        "fpr_95tpr": fpr_at_tpr(distance, anomalous, 0.95),
    }


def auroc(distance: Array, anomalous: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, in [0, 1]: the probability that an anomalous image scores higher.

    It is the Mann-Whitney statistic on mid-ranks; ties count half, as in scikit-learn's ``roc_auc_score``.

    Parameters
    ----------
    distance : (m,)
    anomalous : (m,) bool

    Returns
    -------
    The area; NaN if it is undefined because one class is absent or a distance is NaN.
    """
    if _is_undefined(distance, anomalous):
        return float("nan")
    from scipy import stats  # imported where it is used: it takes half a second

    positive, total = int(anomalous.sum()), anomalous.size
    ranks = stats.rankdata(distance)
    return float((ranks[anomalous].sum() - positive * (positive + 1) / 2) / (positive * (total - positive)))


def average_precision(distance: Array, anomalous: NDArray[np.bool_]) -> float:
    """Return the average precision, in [0, 1]: the mean precision at the thresholds that find one more anomalous image.

    AP = sum_k (R_k - R_(k-1)) P_k over the distinct distances, greatest first, with precision P_k and recall R_k of the
    images at or beyond the k-th. Nothing is interpolated, and images that tie are found together, as in scikit-learn's
    ``average_precision_score``. Parameters and NaN as in :func:`auroc`.
    """
    if _is_undefined(distance, anomalous):
        return float("nan")
    true, false = _counts_beyond(distance, anomalous)
    return float(np.diff(true, prepend=0) @ (true / (true + false)) / true[-1])


def max_f1(distance: Array, anomalous: NDArray[np.bool_]) -> float:
    """Return the greatest F1 over all thresholds, in [0, 1].

    F1 = 2 TP / (2 TP + FP + FN), where images at or beyond the threshold count as found. The threshold is chosen with
    the labels of the same images, so this is an upper bound of what a threshold fixed beforehand achieves. Parameters
    and NaN as in :func:`auroc`.
    """
    if _is_undefined(distance, anomalous):
        return float("nan")
    return float(_f1(distance, anomalous).max())


def max_f1_threshold(distance: Array, anomalous: NDArray[np.bool_]) -> float:
    """Return the threshold of the greatest F1; the greatest one if there are several.

    It lies halfway between the smallest distance that counts as found and the next smaller one, if there is one.
    Parameters and NaN as in :func:`auroc`.
    """
    if _is_undefined(distance, anomalous):
        return float("nan")
    best = int(np.argmax(_f1(distance, anomalous)))
    found, *next_smaller = np.unique(distance)[::-1][best : best + 2]
    halfway = np.mean([found, *next_smaller])
    return float(found if halfway in next_smaller else halfway)  # no number lies between neighbours


def _f1(distance: Array, anomalous: NDArray[np.bool_]) -> Array:
    """Return F1 at each distinct distance, greatest first."""
    true, false = _counts_beyond(distance, anomalous)
    return np.asarray(2 * true / (true + false + true[-1]))


def fpr_at_tpr(distance: Array, anomalous: NDArray[np.bool_], tpr: float) -> float:
    """Return the smallest FPR, in [0, 1], among the thresholds whose TPR is at least `tpr`.

    An image is beyond a threshold if its distance is at least the threshold: unlike in :func:`exceedance`, one that
    ties with it counts. Every distance is a threshold; nothing is interpolated. Parameters and NaN as in :func:`auroc`.
    """
    if _is_undefined(distance, anomalous):
        return float("nan")
    true, false = _counts_beyond(distance, anomalous)
    return float(false[np.argmax(true / true[-1] >= tpr)] / false[-1])


def _is_undefined(distance: Array, anomalous: NDArray[np.bool_]) -> bool:
    return bool(anomalous.all() or not anomalous.any() or np.isnan(distance).any())


def _counts_beyond(distance: Array, anomalous: NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """Count the anomalous and the normal images at or beyond each distinct distance, greatest first."""
    order = np.argsort(distance)[::-1]
    falling = distance[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), distance.size - 1)  # of the images that tie
    true = np.cumsum(anomalous[order], dtype=np.int64)[last]
    return true, last + 1 - true


def exceedance(distance: Array, thresholds: Array) -> Array:
    """Return the share of distances (m,) above each threshold (t,), in [0, 1]; NaN if there are no distances.

    This is the FPR for normal images and the TPR for anomalous images (Table IV).
    """
    if distance.size == 0:
        return np.full(thresholds.shape, np.nan)
    return np.asarray((distance[:, None] > thresholds).mean(axis=0))


def binomial_interval(positive: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a rate observed as `positive` of `n`; (0, 1) if n is 0."""
    if n == 0:
        return 0.0, 1.0
    from scipy import stats

    interval = stats.binomtest(positive, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)
