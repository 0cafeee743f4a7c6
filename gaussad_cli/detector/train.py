"""From a folder of good images to a model with a threshold."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gaussad_cli import __version__
from gaussad_cli.backbones.registry import Backbone, format_levels
from gaussad_cli.backbones.resolve import NetworkOptions, check
from gaussad_cli.datasets.folds import N_FOLDS, held_out_parts, training_folds
from gaussad_cli.datasets.own import OwnImages
from gaussad_cli.detector.look import OpenNetwork, check_readable, look_at_all, open_network
from gaussad_cli.detector.model import HASH_DIGITS, BackboneIdentity, Calibration, LevelModel, Model, combine, fit_level
from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.evaluation.metrics import auroc, exceedance
from gaussad_cli.extraction.engine import Compute
from gaussad_cli.extraction.store import Features
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.thresholds import conformal_threshold

DEFAULT_BACKBONE = "efficientnet-b4"
DEFAULT_LEVEL = 7  # the paper's best single level (Table I)
AUTO_MODES = (NO_COMPRESSION, Compression("npca", 0.01))


@dataclass(frozen=True)
class DetectorOptions:
    """What kind of detector is wanted.

    Attributes
    ----------
    compression : which principal components are kept
    fpr : wanted false-positive rate
    """

    compression: Compression = NO_COMPRESSION
    fpr: float = 0.01


@dataclass(frozen=True)
class TrainingFeatures:
    """Features of the images that a detector is trained with.

    Attributes
    ----------
    normal, anomalous : level -> (n, D)
    hashes : of the normal images, as a model keeps them
    """

    normal: Mapping[int, Features]
    anomalous: Mapping[int, Features]
    hashes: tuple[str, ...]

    def only(self, levels: Sequence[int]) -> TrainingFeatures:
        """Return the features of these levels only."""
        normal = {level: rows for level, rows in self.normal.items() if level in levels}
        anomalous = {level: rows for level, rows in self.anomalous.items() if level in levels}
        return TrainingFeatures(normal, anomalous, self.hashes)


@dataclass(frozen=True)
class TrainedDetector:
    """A model, and how well it does on the anomalous images, if there are any.

    Attributes
    ----------
    auroc : of anomalous against held-out normal images, in [0, 1]; None without anomalous images
    tpr : share of the anomalous images beyond the threshold, in [0, 1]; None without anomalous images
    duplicates : normal images that are copies of other ones
    candidates : (name, AUROC) of everything that :func:`train_best_detector` chose from, best first
    """

    model: Model
    auroc: float | None
    tpr: float | None
    duplicates: int
    candidates: tuple[tuple[str, float], ...] = ()


@interruptible("interrupted: no model was written. Run the same command again.")
def train_detector(
    images: OwnImages, network: NetworkOptions, options: DetectorOptions, compute: Compute, cache: Path
) -> TrainedDetector:
    """Fit a model to all normal images, and calibrate its threshold by cross-validation.

    Five Gaussians, each fitted to four fifths of the images, score the fifth that they have not seen; all n distances
    calibrate the threshold. These Gaussians come from fewer images than the model's own, so the false-positive rate is
    approximate. With all components kept, the distances tend to be larger, and false alarms to be fewer than wanted.

    Parameters
    ----------
    network : `levels` None: the default level

    Raises
    ------
    UserError
        If an image or option cannot be used, or there are too few images for the rate.
    """
    levels = network.levels or default_levels(check(network).backbone)
    check_rate(options.fpr, len(images.normal))
    opened = open_network(replace(network, levels=levels), compute, cache)
    features = collect_features(images, opened)
    check_rate(options.fpr, len(features.hashes))
    return _fit(features, opened.identity, options)


@interruptible("interrupted: no model was written. Run the same command again.")
def train_best_detector(
    images: OwnImages, networks: Sequence[NetworkOptions], fpr: float, compute: Compute, cache: Path
) -> TrainedDetector:
    """Train with the backbone, level (or mean of levels) and mode that best tell held-out normal images and anomalies.

    The choice has seen the anomalous images, so its AUROC is optimistic. See :func:`train_detector`.
    """
    if not images.anomalous:
        raise UserError("--auto needs anomalous images to choose by: give some with --anomalous.")
    for network in networks:
        check(network)
    check_rate(fpr, len(images.normal))
    found = []
    for network in networks:
        opened = open_network(network, compute, cache)
        features = collect_features(images, opened)
        check_rate(fpr, len(features.hashes))
        every = opened.engine.levels
        for levels in [*((level,) for level in every), every]:
            for mode in AUTO_MODES:
                some = features.only(levels)
                name = _candidate_name(network.backbone, levels, mode)
                found.append((separation(some, mode), name, some, opened.identity, mode))
    _, _, chosen, identity, mode = max(found, key=lambda candidate: candidate[0])
    trained = _fit(chosen, identity, DetectorOptions(mode, fpr))
    candidates = sorted(((name, value) for value, name, *_ in found), key=lambda candidate: -candidate[1])
    return replace(trained, candidates=tuple(candidates))


def _candidate_name(backbone: str, levels: Sequence[int], mode: Compression) -> str:
    which = f"level {levels[0]}" if len(levels) == 1 else f"levels {format_levels(tuple(levels))}"
    return f"{backbone}, {which}, {mode.mode if mode.var is None else f'{mode.mode} {mode.var:g}'}"


def default_levels(backbone: Backbone) -> str:
    """Return the level that is used by default: 7, or the last but one of a network with fewer levels."""
    return str(min(DEFAULT_LEVEL, max(1, backbone.n_levels - 1)))


def check_rate(fpr: float, n: int) -> None:
    """Check that n images are enough to calibrate a threshold for the wanted false-positive rate.

    Raises
    ------
    UserError
        If they are too few, or the rate does not lie between 0 and 1.
    """
    if not 0.0 < fpr < 1.0:
        raise UserError(f"--fpr {fpr:g}: a rate lies between 0 and 1, such as 0.01 for one false alarm in a hundred.")
    if n < N_FOLDS:
        raise UserError(f"{n} normal images are too few: {N_FOLDS} folds need at least {N_FOLDS}.")
    if fpr < 1.0 / (n + 1):
        needed = int(np.ceil(round(1.0 / fpr - 1.0, 9)))
        raise UserError(
            f"--fpr {fpr:g}: {lowest_rate(n)}. Give at least {needed} normal images, or allow a larger rate."
        )


def lowest_rate(n: int) -> str:
    """Say how low a false-positive rate n images can be calibrated for."""
    return f"{n} images allow false-positive rates down to {100.0 / (n + 1):.2g} %"


def collect_features(images: OwnImages, network: OpenNetwork) -> TrainingFeatures:
    """Return the features of all images, or of all that can be read if the others are to be skipped.

    Raises
    ------
    UserError
        If images cannot be used and are not to be skipped; the message names them all. Also if an image is given both
        as normal and as anomalous.
    """
    files = [*images.normal, *images.anomalous]
    looked_at = list(look_at_all(network, files, network.identity.name))
    if not images.skip_unreadable:
        check_readable(looked_at, "With --skip-unreadable, they are left out.")
    for image in looked_at:
        if image.error:
            tqdm.write(f"Left out: {image.error}", file=sys.stderr)
    n = sum(not image.error for image in looked_at[: len(images.normal)])
    seen = [image for image in looked_at if not image.error]
    paths, hashes = [image.path for image in seen], [image.sha256[:HASH_DIGITS] for image in seen]
    _check_labels(paths, hashes, n)
    normal, anomalous = (
        {level: np.stack([image.features[level] for image in part]) for level in network.engine.levels} if part else {}
        for part in (seen[:n], seen[n:])
    )
    return TrainingFeatures(normal, anomalous, tuple(hashes[:n]))


def _check_labels(paths: Sequence[Path], hashes: Sequence[str], n: int) -> None:
    """Check that none of the first n files, the normal ones, is among the anomalous ones after them."""
    normal = dict(zip(hashes[:n], paths[:n], strict=True))
    for path, sha256 in zip(paths[n:], hashes[n:], strict=True):
        if sha256 in normal:
            raise UserError(
                f"{normal[sha256]} is given as normal, and the same image as anomalous: {path}. Remove one of them."
            )


def _fit(features: TrainingFeatures, identity: BackboneIdentity, options: DetectorOptions) -> TrainedDetector:
    compression, n = options.compression, len(features.hashes)
    levels = tuple(fit_level(level, rows, compression) for level, rows in sorted(features.normal.items()))
    _check_variance(levels)
    held_out = np.concatenate([distances for distances, _ in _by_fold(features, compression)])
    threshold = float(conformal_threshold(held_out, options.fpr))
    calibration = Calibration(np.sort(held_out), options.fpr, threshold)
    provenance = {"gaussad": __version__, "images": n, "folds": N_FOLDS, "updates": 0}
    model = Model(identity, levels, calibration, provenance, features.hashes)
    separated = tpr = None
    if features.anomalous:
        separated = separation(features, compression)
        tpr = float(exceedance(model.score(features.anomalous), np.array([threshold]))[0])
    return TrainedDetector(model, separated, tpr, n - len(set(features.hashes)))


def _check_variance(levels: Sequence[LevelModel]) -> None:
    for level in levels:
        if level.spectrum.rank == 0:
            raise UserError(f"the normal images are all alike at level {level.level}: there is nothing to learn from.")


def _by_fold(features: TrainingFeatures, compression: Compression) -> list[tuple[Array, Array]]:
    """Return, per fold, the distances of the held-out normal images, and of the anomalous ones."""
    n, folds = len(features.hashes), []
    for fitted, rest in zip(training_folds(n), held_out_parts(n), strict=True):
        held_out, anomalous = {}, {}
        for level, rows in sorted(features.normal.items()):
            gaussian = fit_level(level, rows[fitted], compression)
            held_out[level] = gaussian.score(rows[rest])
            if features.anomalous:
                anomalous[level] = gaussian.score(features.anomalous[level])
        folds.append((combine(held_out), combine(anomalous) if anomalous else np.zeros(0)))
    return folds


def separation(features: TrainingFeatures, compression: Compression) -> float:
    """Return the AUROC of anomalous against held-out normal images, averaged over folds, in [0, 1]."""
    values = [
        auroc(np.concatenate([normal, anomalous]), np.repeat([False, True], [normal.size, anomalous.size]))
        for normal, anomalous in _by_fold(features, compression)
    ]
    return float(np.mean(values))


def describe_training(trained: TrainedDetector) -> str:
    """Describe a trained detector for a person."""
    model, calibration = trained.model, trained.model.calibration
    lines = [
        f"{model.backbone.name} ({model.backbone.weights}, padding {model.backbone.padding}), "
        f"levels {format_levels(model.level_numbers)}, {model.levels[0].n} images",
        *(
            f"level {level.level}: {level.spectrum.dim} features, {level.shrinkage.dim} kept, "
            f"shrinkage {level.shrinkage.intensity:.4f}"
            for level in model.levels
        ),
        f"threshold {calibration.threshold:.6g} for a false-positive rate of {calibration.fpr:g}: "
        f"about {1000 * calibration.fpr:.0f} false alarms in 1000 images like these",
        "Calibrated by cross-validation: each image is scored by a model that has not seen it. These models are "
        f"trained on {N_FOLDS - 1}/{N_FOLDS} of the images, so the rate is approximate, not guaranteed.",
        f"{lowest_rate(calibration.distances.size)}.",
    ]
    if trained.duplicates:
        lines.append(
            f"{trained.duplicates} images are copies of others, but the calibration counts them as new: remove them"
        )
    if trained.auroc is not None and trained.tpr is not None:
        lines.append(
            f"anomalous images: AUROC {100 * trained.auroc:.1f} % against held-out normal images; "
            f"{100 * trained.tpr:.1f} % are beyond the threshold"
        )
    if trained.candidates:
        lines.append("Chosen from these by AUROC in %. It has seen the anomalous images, so its AUROC is optimistic:")
        lines += [f"  {100 * value:5.1f}  {name}" for name, value in trained.candidates]
    return "\n".join(lines)
