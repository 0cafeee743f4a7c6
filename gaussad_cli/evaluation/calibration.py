"""Thresholds for given false-positive rates, and the rates that they achieve on the test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.evaluation.metrics import auroc, binomial_interval
from gaussad_cli.evaluation.scorings import Scored, Scoring
from gaussad_cli.gaussian import thresholds
from gaussad_cli.gaussian.moments import Array

TARGETS = (0.3173, 0.2, 0.1, 0.05, 0.0455, 0.02, 0.01, 0.0027)  # among them 1, 2 and 3 sigma
_BY_FOLD: dict[str, Callable[[Array, Array], Array]] = {
    "empirical": thresholds.empirical_threshold,
    "gamma": thresholds.gamma_threshold,
    "conformal": thresholds.conformal_threshold,
}
METHODS = ("chi2", *_BY_FOLD, "cross-conformal")
ALL_FOLDS = "all"  # the fold of a row about all folds together
ALL_CATEGORIES = "all categories"  # the category of a row about all categories together


def choose_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Return the named methods in the order of :data:`METHODS`; "all" stands for all of them.

    Raises
    ------
    UserError
        If a method is unknown.
    """
    for name in names:
        if name not in (*METHODS, "all"):
            raise UserError(
                f"unknown --threshold '{name}'.{did_you_mean(name, METHODS)} Known: {', '.join(METHODS)}, all."
            )
    return METHODS if "all" in names else tuple(method for method in METHODS if method in names)


def parse_targets(text: str | None) -> tuple[float, ...]:
    """Read target false-positive rates, such as "0.05,0.01".

    Raises
    ------
    UserError
        If a rate is not a number between 0 and 1.
    """
    if text is None:
        return TARGETS
    try:
        targets = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--fpr {text}: give comma-separated rates, such as 0.05,0.01.") from None
    if not all(0.0 < target < 1.0 for target in targets):
        raise UserError(f"--fpr {text}: rates must lie between 0 and 1, such as 0.05 for one normal image in twenty.")
    return targets


@dataclass(frozen=True)
class ThresholdsWanted:
    """The thresholds to compute.

    Attributes
    ----------
    methods : some of :data:`METHODS`
    targets : false-positive rates
    scorings : the scorings that get thresholds; None for every scoring that is evaluated
    """

    methods: tuple[str, ...]
    targets: tuple[float, ...]
    scorings: tuple[Scoring, ...] | None = None

    def among(self, scorings: Sequence[Scoring]) -> list[Scoring]:
        """Return the scorings that get thresholds."""
        return [scoring for scoring in scorings if self.scorings is None or scoring in self.scorings]


def calibrate(
    wanted: ThresholdsWanted,
    test: Sequence[Scored],
    held_out: Sequence[Scored],
    anomalous: NDArray[np.bool_],
    is_gaussian: bool,
) -> list[dict[str, object]]:
    """Return a row per method, target and fold; no rows if the score is undefined.

    Parameters
    ----------
    test, held_out : per fold
    anomalous : (m,), of the test images
    is_gaussian : whether the chi-square law applies to this score: only to the Mahalanobis distance of one level
    """
    if any(np.isnan(fold.distance).any() for fold in (*test, *held_out)):
        return []
    rows: list[dict[str, object]] = []
    drift, p = exchangeability([fold.distance[~anomalous] for fold in test], [fold.distance for fold in held_out])
    for method in wanted.methods:
        if method == "chi2" and not is_gaussian:
            continue
        flags = _cross_flags if method == "cross-conformal" else partial(_flags, method)
        for fold, n, target, threshold, flagged in flags(wanted.targets, test, held_out):
            key = {"method": method, "target": target, "fold": fold, "n_held_out": n, "threshold": threshold}
            rows.append({**key, **_rates(flagged, anomalous), "drift": drift, "drift_p": p})
    return rows


def exchangeability(normal: Sequence[Array], held_out: Sequence[Array]) -> tuple[float, float]:
    """Compare normal test images with held-out training images: every calibration assumes that they are alike.

    Parameters
    ----------
    normal, held_out : distances per fold, (m,) and (n_fold,)

    Returns
    -------
    The probability that a normal test image is farther from the Gaussian than a held-out image (mean over folds; 0.5
    if they are alike), and its p-value: twice the mean of the folds' Mann-Whitney p-values, which is valid however the
    folds depend on each other (Vovk and Wang 2020). Both are NaN if there is no normal test image.
    """
    if normal[0].size == 0:
        return float("nan"), float("nan")
    pairs = list(zip(normal, held_out, strict=True))
    farther = [auroc(np.concatenate(pair), np.repeat([True, False], [pair[0].size, pair[1].size])) for pair in pairs]
    p_values = [stats.mannwhitneyu(test, kept_out, alternative="two-sided").pvalue for test, kept_out in pairs]
    return float(np.mean(farther)), min(1.0, 2.0 * float(np.mean(p_values)))


_Flags = Iterator[tuple[object, int, float, float | None, NDArray[np.bool_]]]


def _cross_flags(targets: Sequence[float], test: Sequence[Scored], held_out: Sequence[Scored]) -> _Flags:
    references = [fold.distance for fold in held_out]
    p_values = thresholds.cross_conformal_p_values(references, np.stack([fold.distance for fold in test]))
    for target in targets:
        yield ALL_FOLDS, sum(reference.size for reference in references), target, None, p_values <= target


def _flags(method: str, targets: Sequence[float], test: Sequence[Scored], held_out: Sequence[Scored]) -> _Flags:
    """Yield fold, calibration images, target, threshold, and which test images are flagged."""
    for fold, (tested, calibration) in enumerate(zip(test, held_out, strict=True)):
        n = 0 if method == "chi2" else calibration.distance.size
        if method == "chi2":
            values = thresholds.chi2_threshold(targets, tested.dim)
        else:
            values = _BY_FOLD[method](calibration.distance, np.asarray(targets))
        for target, threshold in zip(targets, values.tolist(), strict=True):
            yield fold, n, target, threshold, tested.distance > threshold


def _rates(flagged: NDArray[np.bool_], anomalous: NDArray[np.bool_]) -> dict[str, object]:
    normal = flagged[~anomalous]
    low, high = binomial_interval(int(normal.sum()), normal.size)
    return {
        "n_normal": normal.size,
        "fpr": normal.mean() if normal.size else np.nan,
        "fpr_low": low,
        "fpr_high": high,
        "tpr": flagged[anomalous].mean() if anomalous.any() else np.nan,
    }


def per_category(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over folds: one row per category, method and target, with the binomial interval of the mean rate.

    Folds share the test images, so the interval is computed from the number of images, not from five times as many.
    If there are several categories, rows for all of them together follow; there, every image counts the same.
    """
    key = ["category", "method", "target"]
    numbers = ["n_held_out", "n_normal", "fpr", "tpr", "drift", "drift_p"]
    frame = rows.groupby(key, sort=False)[numbers].mean().reset_index()
    if frame["category"].nunique() > 1:
        frame = pd.concat([frame, _together(frame)], ignore_index=True)
    counts = zip((frame["fpr"] * frame["n_normal"]).round(), frame["n_normal"], strict=True)
    intervals = [binomial_interval(int(k) if n else 0, int(n)) for k, n in counts]
    frame["fpr_low"], frame["fpr_high"] = zip(*intervals, strict=True)
    frame["within"] = (frame["fpr_low"] <= frame["target"]) & (frame["target"] <= frame["fpr_high"])
    return frame


def _together(frame: pd.DataFrame) -> pd.DataFrame:
    weighted = frame.assign(fpr=frame["fpr"] * frame["n_normal"])
    groups = weighted.groupby(["method", "target"], sort=False)
    together = groups[["n_held_out", "n_normal", "fpr"]].sum().join(groups["tpr"].mean()).reset_index()
    return together.assign(category=ALL_CATEGORIES, fpr=together["fpr"] / together["n_normal"])


def mean_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over categories and targets of |achieved FPR - target|, in percentage points, by level."""
    frame = rows.groupby(["scoring", "level", "category", "method", "target"], sort=False)["fpr"].mean().reset_index()
    frame["gap"] = 100 * (frame["fpr"] - frame["target"]).abs()
    return frame.pivot_table(index=["scoring", "level"], columns="method", values="gap", sort=False)
