"""One category's features to tidy rows: every fold scores the whole test set (PROTOCOL: evaluation)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.backbones.registry import format_levels
from gaussad_cli.datasets.folds import training_folds
from gaussad_cli.datasets.index import NORMAL
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.fitting import fit_level, store_spectra
from gaussad_cli.evaluation.metrics import auroc, exceedance
from gaussad_cli.evaluation.scorings import Scored, Scoring, score_all
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.distances import project
from gaussad_cli.gaussian.thresholds import SIGMAS, chi2_threshold, target_fpr

SUM = "sum"  # the level that stands for the mean over all levels of a backbone


@dataclass(frozen=True)
class Evaluation:
    """Rows for `metrics.csv` and for `scores/<category>.csv` (see `results.py` for the columns)."""

    metrics: pd.DataFrame
    scores: pd.DataFrame
    warning: str | None


def evaluate_category(
    extraction: store.Extraction, category: str, levels: Sequence[int], scorings: Sequence[Scoring]
) -> Evaluation:
    """Score the test set of a category by every fold, level and scoring, and by the sum over the levels.

    Raises
    ------
    UserError
        If cached features are missing, damaged or not finite.
    """
    folder = extraction.folder / category
    test = store.read_manifest(folder / "test")
    anomalous = np.array([image.label != NORMAL for image in test.images])
    identity = _identity(extraction, category)
    metrics, scores = [], []
    with threadpool_limits(1, user_api="blas"):
        by_level = {str(level): _score_level(folder, test, level, scorings) for level in levels}
    if len(levels) > 1:
        by_level[sum_name(levels, extraction.recipe.n_levels)] = _sum_levels(list(by_level.values()))
    n_train = [len(fold) for fold in training_folds(len(store.read_manifest(folder / "train").images))]
    for level, scored in by_level.items():
        for scoring, folds in zip(scorings, scored, strict=True):
            key = {**identity, "level": level, "score": scoring.score, "mode": scoring.compression.mode}
            key["var"] = scoring.compression.var
            metrics += [
                {**key, "fold": fold, "n_train": n, **_metrics(one, anomalous, scoring, level)}
                for fold, (one, n) in enumerate(zip(folds, n_train, strict=True))
            ]
            scores.append(_score_rows(key, test, anomalous, folds))
    return Evaluation(pd.DataFrame(metrics), pd.concat(scores, ignore_index=True), _undefined(category, anomalous))


def sum_name(levels: Sequence[int], n_levels: int) -> str:
    """Name the sum over levels: only the one over all of a backbone's levels is the paper's ``sum``."""
    return SUM if len(levels) == n_levels else f"{SUM}:{format_levels(tuple(levels))}"


def _identity(extraction: store.Extraction, category: str) -> dict[str, object]:
    recipe = extraction.recipe
    return {
        "dataset": extraction.dataset,
        "category": category,
        "backbone": recipe.backbone,
        "weights": recipe.weights,
        "padding": recipe.padding,
        "epochs": recipe.epochs,
    }


def _score_level(folder: Path, test: store.Manifest, level: int, scorings: Sequence[Scoring]) -> list[list[Scored]]:
    """Return, per scoring, per fold, the test set's distances at one level."""
    spectra, fitted = fit_level(folder, level)
    if fitted:
        with suppress(UserError):  # a cache that can only be read: fitting again is cheap
            store_spectra(folder, level, spectra)
    features = store.read_features(folder / "test", test, level)
    if features.shape[1] != spectra[0].dim:
        raise UserError(
            f"{folder}: level {level} has {spectra[0].dim} features in train and {features.shape[1]} in test. "
            "Run gaussad extract again, or mend the features if they were made elsewhere."
        )
    by_fold = [score_all(spectrum, project(spectrum, features), scorings) for spectrum in spectra]
    return [list(folds) for folds in zip(*by_fold, strict=True)]


def _sum_levels(by_level: Sequence[list[list[Scored]]]) -> list[list[Scored]]:
    """Average the distances over levels, per scoring and fold; the ranking is that of the paper's sum."""
    return [[_sum_fold(fold) for fold in zip(*scoring, strict=True)] for scoring in zip(*by_level, strict=True)]


def _sum_fold(levels: Sequence[Scored]) -> Scored:
    distance = np.mean([scored.distance for scored in levels], axis=0)
    return Scored(distance, sum(scored.dim for scored in levels), None)


def _metrics(scored: Scored, anomalous: NDArray[np.bool_], scoring: Scoring, level: str) -> dict[str, object]:
    row: dict[str, object] = {"dim": scored.dim, "shrinkage": scored.shrinkage}
    row["auroc"] = auroc(scored.distance, anomalous)
    if scoring.score == "mahalanobis" and not level.startswith(SUM):  # the chi-square law is about one Gaussian
        thresholds = chi2_threshold(target_fpr(SIGMAS), scored.dim)
        fpr = exceedance(scored.distance[~anomalous], thresholds)
        tpr = exceedance(scored.distance[anomalous], thresholds)
        for sigma, false_rate, true_rate in zip(SIGMAS, fpr, tpr, strict=True):
            row |= {f"fpr_{sigma}s": false_rate, f"tpr_{sigma}s": true_rate}
    return row


def _score_rows(
    key: dict[str, object], test: store.Manifest, anomalous: NDArray[np.bool_], folds: Sequence[Scored]
) -> pd.DataFrame:
    per_fold = np.stack([scored.distance for scored in folds])
    frame = pd.DataFrame({"image": [i.name for i in test.images], "label": [i.label for i in test.images]})
    frame["anomalous"] = anomalous.astype(int)
    frame["distance"] = per_fold.mean(axis=0)
    for fold, distance in enumerate(per_fold):
        frame[f"fold_{fold}"] = distance
    return pd.DataFrame({name: [value] * len(frame) for name, value in key.items()}).join(frame)


def _undefined(category: str, anomalous: NDArray[np.bool_]) -> str | None:
    """Say so where the test set has only one class."""
    if anomalous.all():
        return f"AUROC is undefined for '{category}': no normal test image (test/{NORMAL})."
    if not anomalous.any():
        return f"AUROC is undefined for '{category}': no anomalous test image (a folder of test/ not named {NORMAL})."
    return None
