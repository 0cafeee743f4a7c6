"""One category's features to tidy rows: every fold scores the whole test set (PROTOCOL: evaluation)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.backbones.registry import format_levels
from gaussad_cli.datasets.folds import held_out_parts, training_folds
from gaussad_cli.datasets.index import NORMAL
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.calibration import calibrate
from gaussad_cli.evaluation.fitting import fit_level, store_spectra
from gaussad_cli.evaluation.metrics import auroc, exceedance
from gaussad_cli.evaluation.scorings import Scored, Scoring, score_all
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.distances import project
from gaussad_cli.gaussian.spectrum import Spectrum
from gaussad_cli.gaussian.thresholds import SIGMAS, chi2_threshold, target_fpr

SUM = "sum"  # the level that stands for the mean over all levels of a backbone


@dataclass(frozen=True)
class Evaluation:
    """Rows for `metrics.csv`, `scores/<category>.csv` and `thresholds.csv` (see `results.py` for the columns)."""

    metrics: pd.DataFrame
    scores: pd.DataFrame
    thresholds: pd.DataFrame | None
    warning: str | None


@dataclass(frozen=True)
class Calibration:
    """Which thresholds are wanted: methods of `calibration.METHODS`, for which false-positive rates."""

    methods: tuple[str, ...]
    targets: tuple[float, ...]


ByFold = list[list[Scored]]  # per scoring, per fold


def evaluate_category(
    extraction: store.Extraction,
    category: str,
    levels: Sequence[int],
    scorings: Sequence[Scoring],
    calibration: Calibration | None = None,
) -> Evaluation:
    """Score the test set of a category by every fold, level and scoring, and by the sum over the levels.

    Raises
    ------
    UserError
        If cached features are missing, damaged or not finite.
    """
    images = store.read_manifest(extraction.split(category, "test")).images
    anomalous = np.array([image.label != NORMAL for image in images])
    identity = _identity(extraction, category)
    metrics, scores, thresholds = [], [], []
    tested: dict[str, ByFold] = {}
    held_out: dict[str, ByFold] = {}
    for level in levels:
        spectra = _spectra(extraction.folder / category, level)
        with threadpool_limits(1, user_api="blas"):
            tested[str(level)] = _score_test(extraction.split(category, "test"), spectra, level, scorings)
            if calibration:
                plain = extraction.plain / category / "train"
                held_out[str(level)] = _score_held_out(plain, spectra, level, scorings)
    if len(levels) > 1:
        for by_level in (tested, held_out) if calibration else (tested,):
            by_level[sum_name(levels, extraction.recipe.n_levels)] = _sum_levels(list(by_level.values()))
    n_images = len(store.read_manifest(extraction.folder / category / "train").images)
    n_train = [len(fold) * max(1, extraction.recipe.epochs) for fold in training_folds(n_images)]
    for name, scored in tested.items():
        for number, (scoring, folds) in enumerate(zip(scorings, scored, strict=True)):
            key = {**identity, "level": name, "score": scoring.score, "mode": scoring.compression.mode}
            key["var"] = scoring.compression.var
            metrics += [
                {**key, "fold": fold, "n_train": n, **_metrics(one, anomalous, scoring, name)}
                for fold, (one, n) in enumerate(zip(folds, n_train, strict=True))
            ]
            scores.append(_score_rows(key, images, anomalous, folds))
            if calibration:
                known = calibration.methods, calibration.targets, folds, held_out[name][number], anomalous
                thresholds += [{**key, **row} for row in calibrate(*known, _is_gaussian(scoring, name))]
    return Evaluation(
        pd.DataFrame(metrics),
        pd.concat(scores, ignore_index=True),
        pd.DataFrame(thresholds) if calibration else None,
        _undefined(category, anomalous),
    )


def _is_gaussian(scoring: Scoring, level: str) -> bool:
    """Whether the chi-square law is about this score: it is about the Mahalanobis distance of one Gaussian."""
    return scoring.score == "mahalanobis" and not level.startswith(SUM)


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


def _spectra(folder: Path, level: int) -> list[Spectrum]:
    spectra, fitted = fit_level(folder, level)
    if fitted:
        with suppress(UserError):  # a cache that can only be read: fitting again is cheap
            store_spectra(folder, level, spectra)
    return spectra


def _score_test(folder: Path, spectra: Sequence[Spectrum], level: int, scorings: Sequence[Scoring]) -> ByFold:
    """Return the test set's distances at one level, by every fold."""
    features = _features(folder, spectra, level)
    return _by_scoring(score_all(spectrum, project(spectrum, features), scorings) for spectrum in spectra)


def _score_held_out(folder: Path, spectra: Sequence[Spectrum], level: int, scorings: Sequence[Scoring]) -> ByFold:
    """Return, per fold, the distances of the training images it is not fitted on, as they are."""
    features = _features(folder, spectra, level)
    parts = held_out_parts(len(features))
    return _by_scoring(
        score_all(spectrum, project(spectrum, features[part]), scorings)
        for spectrum, part in zip(spectra, parts, strict=True)
    )


def _features(folder: Path, spectra: Sequence[Spectrum], level: int) -> store.Features:
    manifest = store.read_manifest(folder)
    if level not in manifest.levels:
        raise UserError(f"level {level} is not in {folder}. Run gaussad extract again with the same options.")
    features = store.read_features(folder, manifest, level)
    if features.shape[1] != spectra[0].dim:
        raise UserError(
            f"{folder}: level {level} has {features.shape[1]} features here and {spectra[0].dim} where it was fitted. "
            "Run gaussad extract again, or mend the features if they were made elsewhere."
        )
    return features


def _by_scoring(by_fold: Iterable[list[Scored]]) -> ByFold:
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
    if _is_gaussian(scoring, level):
        thresholds = chi2_threshold(target_fpr(SIGMAS), scored.dim)
        fpr = exceedance(scored.distance[~anomalous], thresholds)
        tpr = exceedance(scored.distance[anomalous], thresholds)
        for sigma, false_rate, true_rate in zip(SIGMAS, fpr, tpr, strict=True):
            row |= {f"fpr_{sigma}s": false_rate, f"tpr_{sigma}s": true_rate}
    return row


def _score_rows(
    key: dict[str, object], images: Sequence[store.ImageEntry], anomalous: NDArray[np.bool_], folds: Sequence[Scored]
) -> pd.DataFrame:
    per_fold = np.stack([scored.distance for scored in folds])
    frame = pd.DataFrame({"image": [i.name for i in images], "label": [i.label for i in images]})
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
