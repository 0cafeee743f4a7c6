"""From a folder of good images to a model with a threshold."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gaussad_cli import __version__
from gaussad_cli.backbones.registry import Backbone, format_levels
from gaussad_cli.backbones.resolve import LevelChoice, NetworkOptions, check
from gaussad_cli.datasets.own import OwnImages
from gaussad_cli.detector.kept_maps import keep_maps
from gaussad_cli.detector.look import ImageFeatures, OpenNetwork, check_readable, look_at_all, open_network
from gaussad_cli.detector.model import (
    HASH_DIGITS,
    Calibration,
    LevelModel,
    Model,
    PooledModel,
    calibrate,
    calibration_of,
    combine,
    fit_levels,
    lowest_rate,
)
from gaussad_cli.detector.places import score_maps, train_places
from gaussad_cli.detector.update import name_some
from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.evaluation.metrics import auroc, exceedance
from gaussad_cli.extraction.engine import Compute
from gaussad_cli.extraction.store import Features
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.moments import Array

DEFAULT_BACKBONE = "efficientnet-lite0"  # of places; it comes with gaussad
DEFAULT_POOLED_BACKBONE = "efficientnet-b4"
DEFAULT_GRID = 28  # places per side (docs/places.md)
DEFAULT_FPR = 0.01
DEFAULT_LEVEL = 7  # the paper's best single level (Table I)
_COPIES = 2  # of the second moments, in all directions and in those kept, are in memory at once, or a little less
_FEW_BEYOND = 3  # images that a threshold rests on, below which it says little
FEWEST = 5  # images that anything can be learnt from
AUTO_MODES = (NO_COMPRESSION, Compression("npca", 0.01))


@dataclass(frozen=True)
class DetectorOptions:
    """What kind of detector is wanted.

    Attributes
    ----------
    compression : which principal components are kept, or, of places, directions of the image-wide covariance; None: all
        components, or the default of places
    fpr : wanted false-positive rate; None: 0.01, or the lowest rate that so few images can be calibrated for
    """

    compression: Compression | None = None
    fpr: float | None = None

    def rate(self, n: int) -> float:
        """Return the false-positive rate of a model of n images."""
        return max(DEFAULT_FPR, 1.0 / (n + 1)) if self.fpr is None else self.fpr


@dataclass(frozen=True)
class TrainingFeatures:
    """Features of the images that a pooled detector is trained with.

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
    threshold. See :mod:`gaussad_cli.gaussian.leave_one_out` and
    :meth:`gaussad_cli.gaussian.places.PlaceGaussians.held_out`.

    Parameters
    ----------
    network : with a grid, the model is one of places; `levels` None: the default ones

    Raises
    ------
    UserError
        If an image or option cannot be used, or there are too few images for the rate.
    """
    choice = check(network)
    check_rate(options.fpr, len(images.normal))
    if network.grid:
        check_memory(choice)
        return _train_places(images, open_network(network, compute, cache), options)
    levels = network.levels or default_levels(choice.backbone)
    opened = open_network(replace(network, levels=levels), compute, cache)
    features = collect_features(images, opened)
    check_rate(options.fpr, len(features.hashes))
    return _fit(features, opened, options)


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
                found.append((separation(some, mode), name, some, network, mode))
    _, _, chosen, options, mode = max(found, key=lambda candidate: candidate[0])
    opened = open_network(replace(options, levels=format_levels(tuple(chosen.normal))), compute, cache)
    trained = _fit(chosen, opened, DetectorOptions(mode, fpr))
    candidates = sorted(((name, value) for value, name, *_ in found), key=lambda candidate: -candidate[1])
    return replace(trained, candidates=tuple(candidates))


def _candidate_name(backbone: str, levels: Sequence[int], mode: Compression) -> str:
    which = f"level {levels[0]}" if len(levels) == 1 else f"levels {format_levels(tuple(levels))}"
    return f"{backbone}, {which}, {mode.mode if mode.var is None else f'{mode.mode} {mode.var:g}'}"


def choose_network(options: NetworkOptions, backbone: str | None, pooled: bool, grid: int | None) -> NetworkOptions:
    """Return options with the backbone and the grid that are given, or the defaults of a detector.

    Parameters
    ----------
    pooled : whether features are averaged over the image; otherwise the detector is one of places
    grid : places per side

    Raises
    ------
    UserError
        If a pooled detector is wanted on a grid.
    """
    if pooled and grid is not None:
        raise UserError("--grid is about places, and a pooled detector has none: leave out --grid or --pooled.")
    name = backbone or (DEFAULT_POOLED_BACKBONE if pooled else DEFAULT_BACKBONE)
    return replace(options, backbone=name, grid=0 if pooled else grid or DEFAULT_GRID)


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


@dataclass(frozen=True)
class SeenImages:
    """The images that could be read: n normal ones, then the anomalous ones; hashes as a model keeps them."""

    paths: tuple[Path, ...]
    hashes: tuple[str, ...]
    n: int


def look_over(images: OwnImages, network: OpenNetwork, keep: Callable[[Mapping[int, Features]], object]) -> SeenImages:
    """Look at all images once, and hand the features of each that can be read, level -> (D,), to `keep`.

    Raises
    ------
    UserError
        If images cannot be used and are not to be skipped; the message names them all. Also if an image is given both
        as normal and as anomalous.
    """
    seen: list[ImageFeatures] = []
    unusable: list[ImageFeatures] = []
    n = 0
    for number, image in enumerate(look_at_all(network, [*images.normal, *images.anomalous], network.identity.name)):
        if image.error:
            unusable.append(image)
            continue
        keep(image.features)
        seen.append(replace(image, features={}))
        n += number < len(images.normal)
    if not images.skip_unreadable:
        check_readable(unusable, "With --skip-unreadable, they are left out.")
    for image in unusable:
        tqdm.write(f"Left out: {image.error}", file=sys.stderr)
    paths, hashes = [image.path for image in seen], [image.sha256[:HASH_DIGITS] for image in seen]
    _check_labels(paths, hashes, n)
    return SeenImages(tuple(paths), tuple(hashes), n)


def collect_features(images: OwnImages, network: OpenNetwork) -> TrainingFeatures:
    """Return the features of all images, or of all that can be read if the others are to be skipped.

    Raises
    ------
    UserError
        See :func:`look_over`.
    """
    rows: list[Mapping[int, Features]] = []
    seen = look_over(images, network, rows.append)
    normal, anomalous = (
        {level: np.stack([row[level] for row in part]) for level in network.engine.levels} if part else {}
        for part in (rows[: seen.n], rows[seen.n :])
    )
    return TrainingFeatures(normal, anomalous, seen.hashes[: seen.n], seen.paths[: seen.n])


def _check_labels(paths: Sequence[Path], hashes: Sequence[str], n: int) -> None:
    """Check that none of the first n files, the normal ones, is among the anomalous ones after them."""
    normal = dict(zip(hashes[:n], paths[:n], strict=True))
    for path, sha256 in zip(paths[n:], hashes[n:], strict=True):
        if sha256 in normal:
            raise UserError(
                f"{normal[sha256]} is given as normal, and the same image as anomalous: {path}. Remove one of them."
            )


def _train_places(images: OwnImages, network: OpenNetwork, options: DetectorOptions) -> TrainedDetector:
    with keep_maps(network.identity.grid**2) as maps:
        seen = look_over(images, network, maps.append)
        check_rate(options.fpr, seen.n)
        fitted = train_places(maps, seen.n, options.compression)
        anomalous = score_maps(fitted.model, maps.read(seen.n))
    calibration = calibration_of(fitted.held_out, options.rate(seen.n))
    hashes = seen.hashes[: seen.n]
    model = Model(network.identity, fitted.model, calibration, _provenance(seen.n), hashes, network.graph())
    return _trained(model, seen.paths, anomalous)


def check_memory(choice: LevelChoice) -> None:
    """Check that the sums of squares of all places fit into this machine's memory.

    Raises
    ------
    UserError
        If they do not.
    """
    dim = sum(choice.backbone.dims[level - 1] for level in choice.levels)
    needed = _COPIES * choice.grid**2 * dim**2 * np.dtype(np.float64).itemsize
    if needed > _memory():
        raise UserError(
            f"{choice.grid} x {choice.grid} places of {dim} features need about {needed / 1e9:.0f} GB of memory, more "
            "than this machine has: choose fewer --levels or a smaller --grid, or --pooled."
        )


def _memory() -> float:
    """Return the bytes of memory that this machine has; infinity where it does not say."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else np.inf


def _fit(features: TrainingFeatures, network: OpenNetwork, options: DetectorOptions) -> TrainedDetector:
    n = len(features.hashes)
    levels = fit_levels(features.normal, options.compression or NO_COMPRESSION)
    _check_variance(levels)
    calibration, gaussians = calibrate(levels, options.rate(n)), PooledModel(levels)
    model = Model(network.identity, gaussians, calibration, _provenance(n), features.hashes, network.graph())
    return _trained(model, features.paths, model.score(features.anomalous) if features.anomalous else np.zeros(0))


def _provenance(n: int) -> dict[str, object]:
    return {"gaussad": __version__, "images": n, "updates": 0}


def _trained(model: Model, paths: Sequence[Path], anomalous: Array) -> TrainedDetector:
    """Say how well a model does on anomalous images by their scores, and which of its images are odd."""
    calibration, separated, tpr = model.calibration, None, None
    if anomalous.size:
        separated = _separation(calibration.distances, anomalous)
        tpr = float(exceedance(anomalous, np.array([calibration.threshold]))[0])
    far = outliers(calibration.by_image) if calibration.by_image is not None else []
    copies = model.n - len(set(model.hashes))
    return TrainedDetector(model, separated, tpr, copies, tuple(paths[i] for i in far))


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
        f"levels {format_levels(model.level_numbers)}, {model.n} images",
        *(f"{name}: {text}" for name, text in model.gaussians.describe()),
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
