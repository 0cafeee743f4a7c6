"""One category's features to tidy rows: every fold scores the whole test set (PROTOCOL: evaluation)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
from gaussad_cli.evaluation.scorings import Fold, Scored, Scoring, score_all, weigh_levels
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.spectrum import Spectrum
from gaussad_cli.gaussian.thresholds import SIGMAS, chi2_threshold, target_fpr

SUM = "sum"  # the level that stands for the mean over all levels of a backbone
NETWORK = "network"  # the level of networks that were trained on images and have a score of their own


@dataclass(frozen=True)
class Evaluation:
    """Rows for `metrics.csv`, `scores/<category>.csv` and `thresholds.csv` (see `results.py` for the columns)."""

    metrics: pd.DataFrame
    scores: pd.DataFrame
    thresholds: pd.DataFrame | None
    warning: str | None


@dataclass(frozen=True)
class Calibration:
    """Which thresholds are wanted.

    Attributes
    ----------
    methods : of `calibration.METHODS`
    targets : false-positive rates
    scorings : only of these; None: of every scoring that is evaluated
    """

    methods: tuple[str, ...]
    targets: tuple[float, ...]
    scorings: tuple[Scoring, ...] | None = None

    def of(self, scorings: Sequence[Scoring]) -> list[Scoring]:
        """Return those of the scorings that are calibrated."""
        return [scoring for scoring in scorings if self.scorings is None or scoring in self.scorings]


ByFold = dict[Scoring, list[Scored]]  # the distances of every fold


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
        If cached features are missing, damaged or not finite, or a score that weighs levels has only one.
    """
    check_levels(category, levels, scorings, calibration)
    by_level = {level: score_level(extraction, category, level, scorings, calibration) for level in levels}
    return assemble(extraction, category, by_level, calibration)


def check_levels(
    category: str, levels: Sequence[int], scorings: Sequence[Scoring], calibration: Calibration | None
) -> None:
    """Check that scores that weigh levels have several, and no calibration: UserError if not."""
    if len(levels) == 1 and any(scoring.weighs_levels for scoring in scorings):
        raise UserError(f"--score ood weighs levels, and of '{category}' there is only level {levels[0]}: use several.")
    if calibration and any(scoring.weighs_levels for scoring in calibration.of(scorings)):
        raise UserError("--threshold does not go with --score ood, which has learnt from anomalies.")


def assemble(
    extraction: store.Extraction,
    category: str,
    by_level: Mapping[int, tuple[ByFold, ByFold]],
    calibration: Calibration | None = None,
) -> Evaluation:
    """Make a category's rows of its levels' distances, and of the sum over them.

    Parameters
    ----------
    by_level : of :func:`score_level`, in ascending order of levels
    """
    levels = list(by_level)
    images = store.read_manifest(extraction.split(category, "test")).images
    anomalous = np.array([image.label != NORMAL for image in images])
    identity = identify(extraction, category)
    metrics, scores, thresholds = [], [], []
    scored = {str(level): one for level, one in by_level.items()}
    if len(levels) > 1:
        test_levels, held_out_levels = zip(*by_level.values(), strict=True)
        both = _weigh(test_levels, anomalous), _weigh(held_out_levels, None)
        scored[sum_name(levels, extraction.recipe.n_levels)] = both
    n_images = len(store.read_manifest(extraction.folder / category / "train").images)
    n_train = [len(fold) * max(1, extraction.recipe.epochs) for fold in training_folds(n_images)]
    for name, (tested, held_out) in scored.items():
        for scoring, folds in tested.items():
            if scoring.weighs_levels and not name.startswith(SUM):
                continue
            key = {**identity, "level": name, "score": scoring.score, "mode": scoring.mode, "var": scoring.var}
            metrics += [
                {**key, "fold": fold, "n_train": n, **_metrics(one, anomalous, scoring, name)}
                for fold, (one, n) in enumerate(zip(folds, n_train, strict=True))
            ]
            scores.append(score_rows(key, images, anomalous, [fold.distance for fold in folds]))
            if calibration and scoring in held_out:
                known = calibration.methods, calibration.targets, folds, held_out[scoring], anomalous
                thresholds += [{**key, **row} for row in calibrate(*known, _is_gaussian(scoring, name))]
    return Evaluation(
        pd.DataFrame(metrics),
        pd.concat(scores, ignore_index=True),
        pd.DataFrame(thresholds) if calibration else None,
        undefined_auroc(category, anomalous),
    )


def _is_gaussian(scoring: Scoring, level: str) -> bool:
    """Whether the chi-square law is about this score: it is about the Mahalanobis distance of one Gaussian."""
    return scoring.score == "mahalanobis" and not level.startswith(SUM)


def sum_name(levels: Sequence[int], n_levels: int) -> str:
    """Name the sum over levels: only the one over all of a backbone's levels is the paper's ``sum``."""
    return SUM if len(levels) == n_levels else f"{SUM}:{format_levels(tuple(levels))}"


def identify(extraction: store.Extraction, category: str) -> dict[str, object]:
    """Return the columns that tell a category's rows of one extraction from all others."""
    recipe = extraction.recipe
    return {
        "dataset": extraction.dataset,
        "category": category,
        "backbone": recipe.backbone,
        "weights": recipe.weights if recipe.precision == "fp32" else f"{recipe.weights}, {recipe.precision}",
        "padding": recipe.padding,
        "epochs": recipe.epochs,
        "key": recipe.key,
    }


def read_spectra(folder: Path, level: int) -> list[Spectrum]:
    """Return the spectra of a level's folds; what has to be fitted is kept, where the cache can be written."""
    spectra, fitted = fit_level(folder, level)
    if fitted:
        with suppress(UserError):  # a cache that can only be read: fitting again is cheap
            store_spectra(folder, level, spectra)
    return spectra


def score_level(
    extraction: store.Extraction,
    category: str,
    level: int,
    scorings: Sequence[Scoring],
    calibration: Calibration | None,
) -> tuple[ByFold, ByFold]:
    """Return the distances of the test set, and of the training images that each fold is not fitted on.

    Those are as they are, not augmented, as test images are; only scorings that are calibrated need them.
    """
    spectra = read_spectra(extraction.folder / category, level)
    test = read_test_features(extraction.split(category, "test"), spectra, level)
    folds = [Fold(spectrum, _training(extraction, category, level, k)) for k, spectrum in enumerate(spectra)]
    tested = _by_scoring([(fold, test) for fold in folds], scorings)
    if not calibration:
        return tested, {}
    plain = read_test_features(extraction.plain / category / "train", spectra, level)
    parts = [plain[part] for part in held_out_parts(len(plain))]
    return tested, _by_scoring(list(zip(folds, parts, strict=True)), calibration.of(scorings))


def _by_scoring(folds: Sequence[tuple[Fold, store.Features]], scorings: Sequence[Scoring]) -> ByFold:
    with threadpool_limits(1, user_api="blas"):  # as in fit_level
        by_fold = [score_all(fold, features, scorings) for fold, features in folds]
    return dict(zip(scorings, map(list, zip(*by_fold, strict=True)), strict=True))


def _training(extraction: store.Extraction, category: str, level: int, fold: int) -> Callable[[], store.Features]:
    """Return what reads the training features of a fold, (n, D): every epoch of its images."""

    def read() -> store.Features:
        folder = extraction.split(category, "train")
        features = store.read_features(folder, store.read_manifest(folder), level)
        return features[training_folds(len(features))[fold]].reshape(-1, features.shape[-1])

    return read


def read_test_features(folder: Path, spectra: Sequence[Spectrum], level: int) -> store.Features:
    """Read the features (m, D) of images as they are, of a level that spectra were fitted to.

    Raises
    ------
    UserError
        If they are missing, damaged, or of another dimension.
    """
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


def _weigh(levels: Sequence[ByFold], anomalous: NDArray[np.bool_] | None) -> ByFold:
    """Combine levels per scoring and fold; `anomalous` is None of images that nothing can be learnt from."""
    return {
        scoring: [
            weigh_levels(scoring, fold, anomalous) for fold in zip(*(one[scoring] for one in levels), strict=True)
        ]
        for scoring in levels[0]
    }


def _metrics(scored: Scored, anomalous: NDArray[np.bool_], scoring: Scoring, level: str) -> dict[str, object]:
    row: dict[str, object] = {"dim": scored.dim, "shrinkage": scored.shrinkage}
    # Images from which the weights of the levels were learnt are no test images any more.
    tested = ~np.isnan(scored.distance) if scoring.weighs_levels else np.full(anomalous.shape, True)
    row["auroc"] = auroc(scored.distance[tested], anomalous[tested])
    if _is_gaussian(scoring, level):
        thresholds = chi2_threshold(target_fpr(SIGMAS), scored.dim)
        fpr = exceedance(scored.distance[~anomalous], thresholds)
        tpr = exceedance(scored.distance[anomalous], thresholds)
        for sigma, false_rate, true_rate in zip(SIGMAS, fpr, tpr, strict=True):
            row |= {f"fpr_{sigma}s": false_rate, f"tpr_{sigma}s": true_rate}
    return row


class Labelled(Protocol):
    """An image's name and class folder."""

    @property
    def name(self) -> str:
        """Below the category's folder."""

    @property
    def label(self) -> str:
        """Such as "good"."""


def score_rows(
    key: dict[str, object], images: Sequence[Labelled], anomalous: NDArray[np.bool_], folds: Sequence[Array]
) -> pd.DataFrame:
    """Return rows for `scores/<category>.csv` of distances (m,) per fold."""
    per_fold = np.stack(folds)
    frame = pd.DataFrame({"image": [i.name for i in images], "label": [i.label for i in images]})
    frame["anomalous"] = anomalous.astype(int)
    frame["distance"] = per_fold.mean(axis=0)
    for fold, distance in enumerate(per_fold):
        frame[f"fold_{fold}"] = distance
    return pd.DataFrame({name: [value] * len(frame) for name, value in key.items()}).join(frame)


def undefined_auroc(category: str, anomalous: NDArray[np.bool_]) -> str | None:
    """Say so where the test set has only one class."""
    if anomalous.all():
        return f"AUROC is undefined for '{category}': no normal test image (test/{NORMAL})."
    if not anomalous.any():
        return f"AUROC is undefined for '{category}': no anomalous test image (a folder of test/ not named {NORMAL})."
    return None
