"""Turns a category's distances into tidy rows; every fold scores the complete test set (PROTOCOL: evaluation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gaussad_cli.backbones.registry import format_levels
from gaussad_cli.datasets.folds import training_folds
from gaussad_cli.datasets.index import NORMAL
from gaussad_cli.evaluation.calibration import ThresholdsWanted, calibrate
from gaussad_cli.evaluation.category import OpenCategory
from gaussad_cli.evaluation.metrics import exceedance, image_metrics
from gaussad_cli.evaluation.scorings import SCORES, Scored, Scoring, combine_levels
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.thresholds import SIGMAS, chi2_threshold, target_fpr

SUM = "sum"  # the level of the mean over all levels of a backbone
JOINT = "joint"  # the level of several levels joined place by place
NETWORK = "network"  # the level of trained networks, which have their own score

ByScoring = dict[Scoring, list[Scored]]  # the distances of every fold


@dataclass(frozen=True)
class LevelDistances:
    """The distances of one level, or of several levels combined.

    Attributes
    ----------
    tested : distances of the test images
    held_out : distances of the training images that each fold is not fitted to; only of scorings with thresholds
    """

    tested: ByScoring
    held_out: ByScoring


@dataclass(frozen=True)
class CategoryRows:
    """A category's rows for the results; `results.py` defines the columns.

    Attributes
    ----------
    metrics, scores, thresholds, sweeps, histories : rows of the files of these names; None if not requested
    warning : why the AUROC is undefined, if it is
    """

    metrics: pd.DataFrame
    scores: pd.DataFrame
    thresholds: pd.DataFrame | None = None
    sweeps: pd.DataFrame | None = None
    histories: pd.DataFrame | None = None
    warning: str | None = None


def assemble(
    category: OpenCategory, by_level: Mapping[int, LevelDistances], wanted: ThresholdsWanted | None = None
) -> CategoryRows:
    """Turn the distances of a category's levels, and of the sum over levels, into rows.

    Parameters
    ----------
    by_level : in ascending order of levels
    """
    levels, anomalous, recipe = list(by_level), category.anomalous, category.extraction.recipe
    scored = {str(level): distances for level, distances in by_level.items()}
    if len(levels) > 1:
        scored[sum_name(levels, recipe.n_levels)] = _combine(list(by_level.values()), anomalous)
    folds = training_folds(len(category.train.images))
    n_train = [len(fold) * max(1, recipe.epochs) for fold in folds]
    identity = identify(category)
    metrics, scores, thresholds = [], [], []
    for level, distances in scored.items():
        for scoring, of_folds in distances.tested.items():
            if SCORES[scoring.score].weighs_levels and not level.startswith(SUM):
                continue
            key = {**identity, "level": level, "score": scoring.score, "mode": scoring.mode, "var": scoring.var}
            is_gaussian = SCORES[scoring.score].is_gaussian and not level.startswith(SUM)
            for fold, (distances_of_fold, n) in enumerate(zip(of_folds, n_train, strict=True)):
                measured = _measure(distances_of_fold, anomalous, SCORES[scoring.score].weighs_levels)
                rates = _rates(distances_of_fold, anomalous) if is_gaussian else {}
                metrics.append({**key, "fold": fold, "n_train": n, **measured, **rates})
            scores.append(score_rows(key, category.test.images, anomalous, [fold.distance for fold in of_folds]))
            if wanted and scoring in distances.held_out:
                calibrated = calibrate(wanted, of_folds, distances.held_out[scoring], anomalous, is_gaussian)
                thresholds += [{**key, **row} for row in calibrated]
    frame = pd.DataFrame(metrics)
    return CategoryRows(
        frame,
        pd.concat(scores, ignore_index=True),
        pd.DataFrame(thresholds) if wanted else None,
        warning=undefined_auroc(category.name, anomalous) or _without_variance(category.name, frame),
    )


def _without_variance(category: str, metrics: pd.DataFrame) -> str | None:
    """Return a warning if a score is undefined that fails only where the training images have no variance at all."""
    undefined = metrics[metrics["auroc"].isna() & ~metrics["score"].isin(["sed", "ood"])]
    if undefined.empty:
        return None
    levels = ", ".join(undefined["level"].unique())
    return (
        f"AUROC is undefined for '{category}' (level {levels}): the training images of a fold are all alike there. "
        "Give images that differ."
    )


def sum_name(levels: Sequence[int], n_levels: int) -> str:
    """Name the sum over levels: only the sum over all of a backbone's levels is the paper's ``sum``."""
    return SUM if len(levels) == n_levels else f"{SUM}:{format_levels(tuple(levels))}"


def joint_name(levels: Sequence[int]) -> str:
    """Name levels that are joined place by place: "joint:3-6"."""
    return f"{JOINT}:{format_levels(tuple(levels))}"


def identify(category: OpenCategory) -> dict[str, object]:
    """Return the columns that identify the rows of a category and an extraction."""
    recipe = category.extraction.recipe
    return {
        "dataset": category.extraction.dataset,
        "category": category.name,
        "backbone": recipe.backbone,
        "weights": recipe.weights if recipe.precision == "fp32" else f"{recipe.weights}, {recipe.precision}",
        "padding": recipe.padding,
        "epochs": recipe.epochs,
        "key": recipe.key,
    }


def _combine(levels: Sequence[LevelDistances], anomalous: NDArray[np.bool_]) -> LevelDistances:
    """Combine levels per scoring and fold; held-out images teach no weights, because all of them are normal."""
    return LevelDistances(
        _combine_each([level.tested for level in levels], anomalous),
        _combine_each([level.held_out for level in levels], None),
    )


def _combine_each(levels: Sequence[ByScoring], anomalous: NDArray[np.bool_] | None) -> ByScoring:
    combined = {}
    for scoring in levels[0]:
        by_fold = zip(*(level[scoring] for level in levels), strict=True)
        combined[scoring] = [combine_levels(scoring, fold, anomalous) for fold in by_fold]
    return combined


def _measure(scored: Scored, anomalous: NDArray[np.bool_], learns: bool) -> dict[str, object]:
    # Images that taught the weights of the levels have no distance: they are not test images any more.
    tested = ~np.isnan(scored.distance) if learns else np.full(anomalous.shape, True)
    metrics = image_metrics(scored.distance[tested], anomalous[tested])
    return {"dim": scored.dim, "shrinkage": scored.shrinkage, **metrics}


def _rates(scored: Scored, anomalous: NDArray[np.bool_]) -> dict[str, object]:
    """Return FPR and TPR beyond 1 to 5 sigma by the chi-square law (Table IV)."""
    thresholds = chi2_threshold(target_fpr(SIGMAS), scored.dim)
    fpr = exceedance(scored.distance[~anomalous], thresholds)
    tpr = exceedance(scored.distance[anomalous], thresholds)
    row: dict[str, object] = {}
    for sigma, false_rate, true_rate in zip(SIGMAS, fpr, tpr, strict=True):
        row |= {f"fpr_{sigma}s": false_rate, f"tpr_{sigma}s": true_rate}
    return row


class Labelled(Protocol):
    """An image's name and class folder."""

    @property
    def name(self) -> str:
        """Its path below the category's folder."""

    @property
    def label(self) -> str:
        """Its class folder, such as "good"."""


def score_rows(
    key: dict[str, object], images: Sequence[Labelled], anomalous: NDArray[np.bool_], folds: Sequence[Array]
) -> pd.DataFrame:
    """Return rows for `scores/<category>.csv` from distances (m,) per fold."""
    per_fold = np.stack(folds)
    frame = pd.DataFrame({"image": [i.name for i in images], "label": [i.label for i in images]})
    frame["anomalous"] = anomalous.astype(int)
    frame["distance"] = per_fold.mean(axis=0)
    for fold, distance in enumerate(per_fold):
        frame[f"fold_{fold}"] = distance
    return pd.DataFrame({name: [value] * len(frame) for name, value in key.items()}).join(frame)


def undefined_auroc(category: str, anomalous: NDArray[np.bool_]) -> str | None:
    """Return a warning if the test set has only one class."""
    if anomalous.all():
        return f"AUROC is undefined for '{category}': no normal test image (test/{NORMAL})."
    if not anomalous.any():
        return f"AUROC is undefined for '{category}': no anomalous test image (a folder of test/ not named {NORMAL})."
    return None
