"""From a folder of good images to a model with a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gaussad_cli import __version__
from gaussad_cli.backbones.registry import Backbone, find_backbone, format_levels
from gaussad_cli.backbones.resolve import NetworkOptions, resolve
from gaussad_cli.datasets.folds import N_FOLDS, training_folds
from gaussad_cli.datasets.own import OwnImages
from gaussad_cli.detector.model import BackboneIdentity, Calibration, LevelModel, Model, combine, fit_level
from gaussad_cli.detector.stream import LOOKAHEAD, see
from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.evaluation.metrics import auroc, exceedance
from gaussad_cli.extraction.engine import AUTO, Compute, Engine, build_engine
from gaussad_cli.extraction.store import Features, Recipe
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.thresholds import conformal_threshold

DEFAULT_BACKBONE = "efficientnet-b4"
DEFAULT_LEVELS = "7"  # the paper's best (Table I); of networks that have fewer levels, the last but one
HASH_HEAD = 16  # hexadecimal digits of an image's SHA-256 that a model keeps
AUTO_MODES = (NO_COMPRESSION, Compression("npca", 0.01))


@dataclass(frozen=True)
class Looking:
    """How images are looked at: the options of `gaussad train` and `predict`; see their help."""

    weights: Path | None = None
    verify: bool = True
    padding: str | None = None
    compute: Compute = AUTO
    cache: Path = Path("cache")
    ahead: int = LOOKAHEAD

    def open(self, name: str, levels: str | None) -> tuple[Engine, BackboneIdentity]:
        """Build the engine of a backbone's levels, and say what it is.

        Raises
        ------
        UserError
            If an option, or the weights, cannot be used.
        """
        choice = self.compute.choose()
        network = resolve(NetworkOptions(name, levels, self.weights, self.padding, self.verify))
        backbone, checkpoint = network.backbone, network.checkpoint
        identity = BackboneIdentity(
            *(backbone.name, checkpoint.label, checkpoint.sha256, network.padding, backbone.input_size, backbone.mean),
            *(backbone.std, Recipe.preprocessing, choice.engine, choice.precision),
        )
        return build_engine(choice, network, self.cache), identity


@dataclass(frozen=True)
class Extracted:
    """Features of normal and anomalous images, level -> (n, D), and the heads of the normal ones' hashes."""

    normal: Mapping[int, Features]
    anomalous: Mapping[int, Features]
    hashes: tuple[str, ...]

    def only(self, levels: Sequence[int]) -> Extracted:
        """Return these levels only."""
        normal, anomalous = ({k: v for k, v in of.items() if k in levels} for of in (self.normal, self.anomalous))
        return Extracted(normal, anomalous, self.hashes)


@dataclass(frozen=True)
class Trained:
    """A model, and what can be said of it; `auroc` and `tpr` are None without anomalies, and in [0, 1].

    Attributes
    ----------
    duplicates : files that are there more than once
    candidates : (name, AUROC) of those that `--auto` chose from
    """

    model: Model
    auroc: float | None
    tpr: float | None
    duplicates: int
    candidates: tuple[tuple[str, float], ...] = ()


@interruptible("interrupted: no model was written. Run the same command again.")
def train(
    images: OwnImages,
    backbones: Sequence[str],
    levels: str | None,
    compression: Compression,
    fpr: float,
    looking: Looking,
) -> Trained:
    """Fit a model to all normal images, and calibrate its threshold on images held out.

    Five Gaussians fitted to four fifths each score the fifth that they leave out; all n distances calibrate. They come
    from slightly fewer images than the model's own Gaussian, so they are larger, if anything: the threshold errs on the
    side of fewer false alarms. That is no proven bound.

    Parameters
    ----------
    levels : None for the default level
    fpr : wanted false-positive rate

    Raises
    ------
    UserError
        If an image or option cannot be used, or there are too few images for the rate.
    """
    (name,) = backbones
    check_rate(fpr, len(images.normal))
    engine, identity = looking.open(name, levels or default_levels(find_backbone(name)))
    extracted = extract(images, engine, identity, looking)
    return _fit(extracted, identity, compression, fpr)


@interruptible("interrupted: no model was written. Run the same command again.")
def train_best(images: OwnImages, backbones: Sequence[str], fpr: float, looking: Looking) -> Trained:
    """Choose backbone, level (or the sum) and mode by how well held-out normal images and anomalies are told apart.

    The choice has seen the anomalies: its AUROC flatters. See :func:`train`.
    """
    if not images.anomalous:
        raise UserError("--auto chooses by anomalies: give some with --anomalous.")
    check_rate(fpr, len(images.normal))
    found = []
    for name in backbones:
        engine, identity = looking.open(name, None)
        extracted = extract(images, engine, identity, looking)
        for levels in [*((level,) for level in engine.levels), engine.levels]:
            for mode in AUTO_MODES:
                some = extracted.only(levels)
                found.append((separation(some, mode), _candidate(name, levels, mode), some, identity, mode))
    best = max(found, key=lambda one: one[0])
    trained = _fit(best[2], best[3], best[4], fpr)
    candidates = sorted(((name, value) for value, name, *_ in found), key=lambda one: -one[1])
    return replace(trained, candidates=tuple(candidates))


def _candidate(name: str, levels: Sequence[int], mode: Compression) -> str:
    what = f"level {levels[0]}" if len(levels) == 1 else f"levels {format_levels(tuple(levels))}"
    return f"{name}, {what}, {mode.mode if mode.var is None else f'{mode.mode} {mode.var:g}'}"


def default_levels(backbone: Backbone) -> str:
    """Return the level that is used if nobody says."""
    return str(min(int(DEFAULT_LEVELS), max(1, backbone.n_levels - 1)))


def check_rate(fpr: float, n: int) -> None:
    """Check that n held-out images can promise a rate: UserError if not."""
    if not 0.0 < fpr < 1.0:
        raise UserError(f"--fpr {fpr:g}: a rate lies between 0 and 1, such as 0.01 for one false alarm in a hundred.")
    if n < N_FOLDS:
        raise UserError(f"{n} normal images: the {N_FOLDS} folds need at least {N_FOLDS}.")
    if fpr < 1.0 / (n + 1):
        needed = int(np.ceil(round(1.0 / fpr - 1.0, 9)))
        raise UserError(
            f"--fpr {fpr:g}: {n} normal images can promise no rate below {1.0 / (n + 1):.3g}. "
            f"Give at least {needed} images, or a larger rate."
        )


def extract(images: OwnImages, engine: Engine, identity: BackboneIdentity, looking: Looking) -> Extracted:
    """Return the features of all images; one that cannot be read is an error.

    Raises
    ------
    UserError
        Names the first image that cannot be used, and says how many more there are.
    """
    paths = [*images.normal, *images.anomalous]
    features: dict[int, list[Features]] = {level: [] for level in engine.levels}
    hashes: list[str] = []
    bad = []
    with tqdm(total=len(paths), desc=identity.name, unit="img", disable=None, dynamic_ncols=True) as bar:
        for batch in see(engine, identity.input_size, paths, looking.compute.images_at_once, looking.compute.threads):
            bad += [one.error for one in batch if one.error]
            for one in batch:
                hashes.append(one.sha256[:HASH_HEAD])
                for level, values in one.features.items():
                    features[level].append(values)
            bar.update(len(batch))
    if bad:
        more = f" And {len(bad) - 1} more images cannot be used." if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{more}")
    n = len(images.normal)
    _check_labels(paths, hashes, n)
    both = [{level: np.stack(rows[part]) for level, rows in features.items() if rows[part]} for part in _parts(n)]
    return Extracted(both[0], both[1], tuple(hashes[:n]))


def _check_labels(paths: Sequence[Path], hashes: Sequence[str], n: int) -> None:
    """Check that none of the first n files, the normal ones, is among the anomalous ones after them."""
    normal = dict(zip(hashes[:n], paths[:n], strict=True))
    for path, head in zip(paths[n:], hashes[n:], strict=True):
        if head in normal:
            raise UserError(f"{normal[head]} is given as normal, and the same image as anomalous: {path}. Remove one.")


def _parts(n: int) -> tuple[slice, slice]:
    return slice(None, n), slice(n, None)


def _fit(extracted: Extracted, identity: BackboneIdentity, compression: Compression, fpr: float) -> Trained:
    levels = tuple(fit_level(level, rows, compression) for level, rows in sorted(extracted.normal.items()))
    n = len(extracted.hashes)
    _check_variance(levels)
    held_out = np.concatenate([distances for distances, _ in _by_fold(extracted, compression)])
    threshold = float(conformal_threshold(held_out, fpr))
    provenance = {"gaussad": __version__, "images": n, "folds": N_FOLDS, "updates": 0}
    model = Model(identity, levels, Calibration(np.sort(held_out), fpr, threshold), provenance, extracted.hashes)
    tpr = None
    if extracted.anomalous:
        tpr = float(exceedance(model.score(extracted.anomalous), np.array([threshold]))[0])
    separated = separation(extracted, compression) if extracted.anomalous else None
    return Trained(model, separated, tpr, n - len(set(extracted.hashes)))


def _check_variance(levels: Sequence[LevelModel]) -> None:
    for level in levels:
        if level.spectrum.rank == 0:
            raise UserError(f"the normal images are all alike at level {level.level}: there is nothing to learn from.")


def _by_fold(extracted: Extracted, compression: Compression) -> list[tuple[Array, Array]]:
    """Return, per fold, the distances of the normal images held out, and of the anomalous ones."""
    folds = []
    for fitted in training_folds(len(extracted.hashes)):
        rest = np.setdiff1d(np.arange(len(extracted.hashes)), fitted)
        held_out, anomalous = {}, {}
        for level, rows in sorted(extracted.normal.items()):
            gaussian = fit_level(level, rows[fitted], compression)
            held_out[level] = gaussian.score(rows[rest])
            if extracted.anomalous:
                anomalous[level] = gaussian.score(extracted.anomalous[level])
        folds.append((combine(held_out), combine(anomalous) if anomalous else np.zeros(0)))
    return folds


def separation(extracted: Extracted, compression: Compression) -> float:
    """Return the mean over folds of the AUROC of anomalies against normal images held out, in [0, 1]."""
    values = [
        auroc(np.concatenate([normal, anomalous]), np.repeat([False, True], [normal.size, anomalous.size]))
        for normal, anomalous in _by_fold(extracted, compression)
    ]
    return float(np.mean(values))


def report(trained: Trained) -> str:
    """Say what there is to know of a model."""
    model, calibration = trained.model, trained.model.calibration
    k = calibration.distances.size
    lines = [
        f"{model.backbone.name} ({model.backbone.weights}, padding {model.backbone.padding}), "
        f"levels {format_levels(model.level_numbers)}, {model.levels[0].n} images",
        *(
            f"level {level.level}: {level.spectrum.dim} features, {level.shrinkage.dim} kept, "
            f"shrinkage {level.shrinkage.intensity:.4f}"
            for level in model.levels
        ),
        f"threshold {calibration.threshold:.6g} for a false-positive rate of {calibration.fpr:g}, "
        f"about {1000 * calibration.fpr:.0f} false alarms in 1000 images like these",
        f"calibrated on {k} images held out: no rate below {1.0 / (k + 1):.2g} can be had",
        f"by Gaussians of {N_FOLDS - 1}/{N_FOLDS} of the images: distances are, if anything, larger than the model's, "
        "and false alarms fewer than wanted; that is no proven bound",
    ]
    if trained.duplicates:
        lines.append(
            f"{trained.duplicates} images are copies of others: thresholds take them for new ones. Remove them."
        )
    if trained.auroc is not None:
        lines.append(
            f"anomalies: AUROC {100 * trained.auroc:.1f} % against normal images held out; "
            f"{100 * (trained.tpr or 0.0):.1f} % are beyond the threshold"
        )
    if trained.candidates:
        lines += ["chosen by AUROC, %, from these; the choice has seen the anomalies, so that figure flatters:"]
        lines += [f"  {100 * value:5.1f}  {name}" for name, value in trained.candidates]
    return "\n".join(lines)
