"""How well distances separate normal from anomalous images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gaussad_cli.gaussian.moments import Array


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
    positive, total = int(anomalous.sum()), anomalous.size
    if positive in (0, total) or np.isnan(distance).any():
        return float("nan")
    ranks = stats.rankdata(distance)
    return float((ranks[anomalous].sum() - positive * (positive + 1) / 2) / (positive * (total - positive)))


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
    interval = stats.binomtest(positive, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)
