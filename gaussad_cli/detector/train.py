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
from gaussad_cli.datasets.own import OwnImages
from gaussad_cli.detector.look import OpenNetwork, check_readable, look_at_all, open_network
from gaussad_cli.detector.model import (
    HASH_DIGITS,
    BackboneIdentity,
    Calibration,
    LevelModel,
    Model,
    calibrate,
    combine,
    fit_levels,
)
from gaussad_cli.detector.update import name_some
from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.evaluation.metrics import auroc, exceedance
from gaussad_cli.extraction.engine import Compute
from gaussad_cli.extraction.store import Features
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.moments import Array

DEFAULT_BACKBONE = "efficientnet-b4"
DEFAULT_FPR = 0.01
DEFAULT_LEVEL = 7  # the paper's best single level (Table I)
_FEW_BEYOND = 3  # images that a threshold rests on, below which it says little
FEWEST = 5  # images that anything can be learnt from
AUTO_MODES = (NO_COMPRESSION, Compression("npca", 0.01))


@dataclass(frozen=True)
class DetectorOptions:
    """What kind of detector is wanted.

    Attributes
    ----------
    compression : which principal components are kept
    fpr : wanted false-positive rate; None: 0.01, or the lowest rate that so few images can be calibrated for
    """

    compression: Compression = NO_COMPRESSION
    fpr: float | None = None

    def rate(self, n: int) -> float:
        """Return the false-positive rate of a model of n images."""
        return max(DEFAULT_FPR, 1.0 / (n + 1)) if self.fpr is None else self.fpr


@dataclass(frozen=True)
class TrainingFeatures:
    """Features of the images that a detector is trained with.

    Attributes
    ----------
    normal, anomalous : level -> (n, D)
    hashes, paths : of the normal images; hashes as a model keeps them
    """

    normal: Mapping[int, Features]
    anomalous: Mapping[int, Features]
    hashes: tuple[str, ...]
    paths: tuple[Path, ...]

    def only(self, levels: Sequence[int]) -> TrainingFeatures:
        """Return the features of these levels only."""
        normal = {level: rows for level, rows in self.normal.items() if level in levels}
        anomalous = {level: rows for level, rows in self.anomalous.items() if level in levels}
        return TrainingFeatures(normal, anomalous, self.hashes, self.paths)


@dataclass(frozen=True)
class TrainedDetector:
    """A model, and how well it does on the anomalous images, if there are any.

    Attributes
    ----------
    auroc : of anomalous against held-out normal images, in [0, 1]; None without anomalous images
    tpr : share of the anomalous images beyond the threshold, in [0, 1]; None without anomalous images
    duplicates : normal images that are copies of other ones
    outliers : normal images that lie far beyond the others, the farthest first
    candidates : (name, AUROC) of everything that :func:`train_best_detector` chose from, best first
    """

    model: Model
    auroc: float | None
    tpr: float | None
    duplicates: int
    outliers: tuple[Path, ...] = ()
    candidates: tuple[tuple[str, float], ...] = ()


@interruptible("interrupted: no model was written. Run the same command again.")
def train_detector(
    images: OwnImages, network: NetworkOptions, options: DetectorOptions, compute: Compute, cache: Path
) -> TrainedDetector:
    """Fit a model to all normal images, and calibrate its threshold on the same images.

    Each image is scored by the Gaussians of all others, which have not seen it; these n distances calibrate the
    threshold. See :mod:`gaussad_cli.gaussian.leave_one_out`.

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
    images: OwnImages, networks: Sequence[NetworkOptions], fpr: float | None, compute: Compute, cache: Path
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


def check_rate(fpr: float | None, n: int) -> None:
    """Check that n images are enough to calibrate a threshold for the wanted false-positive rate, if one is given.

    Raises
    ------
    UserError
        If they are too few, or the rate does not lie between 0 and 1.
    """
    if fpr is not None and not 0.0 < fpr < 1.0:
        raise UserError(f"--fpr {fpr:g}: a rate lies between 0 and 1, such as 0.01 for one false alarm in a hundred.")
    if n < FEWEST:
        raise UserError(f"{n} normal images are too few: give at least {FEWEST}.")
    if fpr is not None and fpr < 1.0 / (n + 1):
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
    return TrainingFeatures(normal, anomalous, tuple(hashes[:n]), tuple(paths[:n]))


def _check_labels(paths: Sequence[Path], hashes: Sequence[str], n: int) -> None:
    """Check that none of the first n files, the normal ones, is among the anomalous ones after them."""
    normal = dict(zip(hashes[:n], paths[:n], strict=True))
    for path, sha256 in zip(paths[n:], hashes[n:], strict=True):
        if sha256 in normal:
            raise UserError(
                f"{normal[sha256]} is given as normal, and the same image as anomalous: {path}. Remove one of them."
            )


def _fit(features: TrainingFeatures, identity: BackboneIdentity, options: DetectorOptions) -> TrainedDetector:
    n = len(features.hashes)
    levels = fit_levels(features.normal, options.compression)
    _check_variance(levels)
    fpr = options.rate(n)
    calibration = calibrate(levels, fpr)
    provenance = {"gaussad": __version__, "images": n, "updates": 0}
    model = Model(identity, levels, calibration, provenance, features.hashes)
    separated = tpr = None
    if features.anomalous:
        anomalous = model.score(features.anomalous)
        separated = _separation(calibration.distances, anomalous)
        tpr = float(exceedance(anomalous, np.array([calibration.threshold]))[0])
    far = outliers(calibration.by_image) if calibration.by_image is not None else []
    return TrainedDetector(model, separated, tpr, n - len(set(features.hashes)), tuple(features.paths[i] for i in far))


def _check_variance(levels: Sequence[LevelModel]) -> None:
    for level in levels:
        if level.spectrum.rank == 0:
            raise UserError(f"the normal images are all alike at level {level.level}: there is nothing to learn from.")


def outliers(distances: Array) -> list[int]:
    """Return which of the held-out distances (n,) lie far beyond the others, the farthest first.

    By the outer fence of a box plot (Tukey 1977): more than three times the interquartile range beyond the upper
    quartile.
    """
    low, high = np.quantile(distances, [0.25, 0.75])
    far = np.flatnonzero(distances > high + 3.0 * (high - low))
    return [int(i) for i in far[np.argsort(-distances[far])]]


def separation(features: TrainingFeatures, compression: Compression) -> float:
    """Return the AUROC of anomalous against normal images, in [0, 1].

    Every normal image is at its distance from the Gaussians of all others, every anomalous one from those of all.
    """
    levels = fit_levels(features.normal, compression)
    anomalous = combine({level.level: level.score(features.anomalous[level.level]) for level in levels})
    return _separation(calibrate(levels, 0.5).distances, anomalous)


def _separation(normal: Array, anomalous: Array) -> float:
    labels = np.repeat([False, True], [normal.size, anomalous.size])
    return auroc(np.concatenate([normal, anomalous]), labels)


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
        f"threshold {calibration.threshold:.6g} for a false-positive rate of {calibration.fpr:.3g}: "
        f"about {1000 * calibration.fpr:.0f} false alarms in 1000 images like these",
        "Each image was scored by a model of all others, which had not seen it. That calibrates the threshold.",
        *_describe_power(calibration),
    ]
    if trained.outliers:
        lines.append(
            f"{len(trained.outliers)} training images lie far beyond the others: {name_some(trained.outliers)}. If "
            "they are defective, remove them and train again: they make room for defects like theirs."
        )
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


def _describe_power(calibration: Calibration) -> list[str]:
    """Say how far out an image must be to be flagged, and how much that rests on single images."""
    k, threshold = calibration.distances.size, calibration.threshold
    beyond = int((calibration.distances >= threshold).sum())
    lines = [
        f"{lowest_rate(k)}. An image is anomalous from {threshold / np.median(calibration.distances):.2f} times the "
        "median distance of normal ones on."
    ]
    if beyond < _FEW_BEYOND:
        lines.append(
            f"The threshold rests on the {beyond} farthest of {k} images: it may be too high to find small defects, "
            "and other images would give another one. More images, or a larger --fpr, make it surer."
        )
    return lines
