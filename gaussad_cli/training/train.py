"""Networks trained on a category's images, to tidy rows: what `gaussad train` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from gaussad_cli.backbones.resolve import NetworkOptions, resolve
from gaussad_cli.datasets.index import Category, dataset_name, find_categories
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.metrics import auroc
from gaussad_cli.evaluation.rows import NETWORK, CategoryRows, score_rows, undefined_auroc
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.extraction.engine import AUTO, Compute, choose_engine
from gaussad_cli.extraction.store import digest
from gaussad_cli.training.autoencoder import SIZE, TRUNK, resnet_autoencoder, train_autoencoder
from gaussad_cli.training.classifier import pretrained_classifier, train_classifier
from gaussad_cli.training.loop import RECIPE, FoldScores, Network, TrainingOptions

TRAINED = "trained"  # folder of the networks' states in a data set's cache


@dataclass(frozen=True)
class TrainingRequest:
    """The options that `gaussad train classifier` and `autoencoder` share; see their help."""

    data: Path
    cache: Path
    out: Path
    dataset: str | None = None
    categories: Sequence[str] | None = None
    seed: int = 0
    augmentation: Path | None = None
    max_epochs: int = 100
    patience: int = 3
    compute: Compute = AUTO

    def options(self) -> TrainingOptions:
        """Return how to train.

        Raises
        ------
        UserError
            If device and precision do not go together.
        """
        choice = choose_engine("torch", self.compute.device, self.compute.precision)
        return TrainingOptions(
            seed=self.seed,
            batch_size=self.compute.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            device=choice.device,
            precision=choice.precision,
            workers=max(1, self.compute.threads),
        )


@dataclass(frozen=True)
class Trained:
    """The rows written, where to, the histories of all folds, and what went wrong, if anything."""

    metrics: pd.DataFrame
    histories: pd.DataFrame
    path: Path
    fresh: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class _Kind:
    """What tells one kind of trained network from another."""

    identity: dict[str, object]
    network: Network
    train: Callable[[Category, Augmentation, TrainingOptions, Path], list[FoldScores]]
    names: dict[str, str]  # of its scores, in results
    folds: dict[str, Any]  # how images are split, for the manifest


def train_classifiers(request: TrainingRequest, options: NetworkOptions, fresh: bool = False) -> Trained:
    """Fine-tune and score the five folds of every category: the fully supervised rows of Tables V and VIII.

    Parameters
    ----------
    fresh : whether tensors that the weight file lacks may start at random

    Raises
    ------
    UserError
        If an option, the data, or the weights cannot be used, or no category can be trained.
    """
    resolved = resolve(options)
    backbone, padding, checkpoint = resolved.backbone, resolved.padding, resolved.checkpoint
    network = pretrained_classifier(backbone, padding, checkpoint, fresh)
    weights = checkpoint.label + (f", {len(network.fresh)} tensors at random" if network.fresh else "")
    identity: dict[str, object] = {"backbone": backbone.name, "weights": weights, "padding": padding}

    def train(
        category: Category, augmentation: Augmentation, options: TrainingOptions, folder: Path
    ) -> list[FoldScores]:
        return train_classifier(category, network, augmentation, options, folder)

    return _train_all(request, _Kind(identity, network, train, {"logit": "classifier"}, manifests.STRATIFIED))


def train_autoencoders(request: TrainingRequest, input_size: int = SIZE) -> Trained:
    """Train and score the five folds of every category: the autoencoder rows of Tables V and VIII.

    Raises
    ------
    UserError
        See :func:`train_classifiers`.
    """
    network = resnet_autoencoder(input_size)
    weights = "random" if input_size == SIZE else f"random, {input_size} px"
    identity: dict[str, object] = {"backbone": TRUNK.name, "weights": weights, "padding": "native"}

    def train(
        category: Category, augmentation: Augmentation, options: TrainingOptions, folder: Path
    ) -> list[FoldScores]:
        return train_autoencoder(category, augmentation, options, folder, network)

    names = {"map_mean": "map-mean", "cca": "cca"}
    return _train_all(request, _Kind(identity, network, train, names, manifests.KFOLD))


def _train_all(request: TrainingRequest, kind: _Kind) -> Trained:
    """Train every category, and write its rows before the next is begun."""
    options = request.options()
    if options.precision != "fp32":
        kind = dataclasses.replace(
            kind, identity={**kind.identity, "weights": f"{kind.identity['weights']}, {options.precision}"}
        )
    augmentation = Augmentation(read_rules(request.augmentation), request.seed)
    categories = find_categories(request.data, request.categories)
    dataset = dataset_name(request.data, request.dataset)
    key = _key(kind.network, options, augmentation)
    metrics, histories, problems = [], [], []
    for category in tqdm(categories, desc="train", unit="category", disable=True if len(categories) == 1 else None):
        names = "-".join(sorted(kind.names.values()))
        folder = request.cache / dataset / TRAINED / f"{names}-{kind.identity['backbone']}" / category.name
        try:
            folds = kind.train(category, augmentation, options, folder)
        except UserError as problem:
            problems.append(str(problem))
            continue
        identity = {"dataset": dataset, "category": category.name, **kind.identity, "key": key, "level": NETWORK}
        of_category = [_rows(identity, category, folds, name, score) for name, score in _scores(kind, folds)]
        rows = pd.concat([rows for rows, _ in of_category], ignore_index=True)
        history = _history({**identity, "score": of_category[0][0]["score"].iloc[0]}, folds)
        scores = pd.concat([scores for _, scores in of_category], ignore_index=True)
        labels = {image.name: image.label for image in (*category.train, *category.test)}
        manifest = manifests.of_training(identity, folds[0].state.parent / RECIPE, labels, rows, kind.folds)
        results.save(request.out, dataset, category.name, CategoryRows(rows, scores, histories=history), manifest)
        metrics.append(rows)
        histories.append(history)
        anomalous = np.concatenate([fold.anomalous for fold in folds])
        problems += filter(None, [undefined_auroc(category.name, anomalous)])
    if not metrics:
        raise UserError(" ".join(problems) or "nothing to train.")
    return Trained(
        pd.concat(metrics, ignore_index=True),
        pd.concat(histories, ignore_index=True),
        results.metrics_path(request.out, dataset),
        kind.network.fresh,
        " ".join(problems) or None,
    )


def _key(network: Network, options: TrainingOptions, augmentation: Augmentation) -> str:
    """Identify everything that changes the numbers but the images, as an extraction's key does."""
    how = {name: value for name, value in vars(options).items() if name != "workers"}
    return digest([dict(network.identity), list(network.fresh), network.input_size, how, augmentation.name])[:16]


def _scores(kind: _Kind, folds: Sequence[FoldScores]) -> list[tuple[str, str]]:
    return [(name, kind.names[name]) for name in folds[0].scores]


def _rows(
    identity: dict[str, object], category: Category, folds: Sequence[FoldScores], name: str, score: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows for `metrics.csv` and `scores/<category>.csv`: an image that a fold does not test has no distance."""
    key = {**identity, "score": score, "mode": "", "var": None}
    metrics = [
        {**key, "fold": fold.fold, "n_train": fold.n_train, "auroc": auroc(fold.scores[name], fold.anomalous)}
        for fold in folds
    ]
    tested = {image for fold in folds for image in fold.names}
    images = [image for image in (*category.train, *category.test) if image.name in tested]
    number = {image.name: i for i, image in enumerate(images)}
    distances = np.full((len(folds), len(images)), np.nan)
    anomalous = np.zeros(len(images), dtype=bool)
    for row, fold in zip(distances, folds, strict=True):
        where = [number[image] for image in fold.names]
        row[where], anomalous[where] = fold.scores[name], fold.anomalous
    scores = score_rows(key, images, anomalous, list(distances))
    return pd.DataFrame(metrics), scores.assign(distance=np.nanmean(distances, axis=0))


def _history(identity: dict[str, object], folds: Sequence[FoldScores]) -> pd.DataFrame:
    key = {**identity, "mode": "", "var": None}
    return pd.DataFrame(
        {**key, "fold": fold.fold, **dataclasses.asdict(row), "best": int(row.epoch == fold.best_epoch)}
        for fold in folds
        for row in fold.history
    )


def summarise_training(metrics: pd.DataFrame, histories: pd.DataFrame) -> str:
    """Lay out AUROCs per category and fold, and how long each fold was trained."""
    percent = metrics.assign(percent=100 * metrics["auroc"])
    table = percent.pivot_table(index=["score", "category"], columns="fold", values="percent", sort=False, dropna=False)
    table["mean"] = table.mean(axis=1, skipna=False)
    epochs = histories.groupby("category", sort=False).apply(_epochs, include_groups=False)
    lines = ["AUROC in percent, by fold", table.to_string(float_format="{:.1f}".format, na_rep="-")]
    lines += [f"{category}: epochs by fold (the best): {text}" for category, text in epochs.items()]
    return "\n".join(lines)


def _epochs(rows: pd.DataFrame) -> str:
    per_fold = rows.groupby("fold")
    best = rows[rows["best"] == 1].set_index("fold")["epoch"]
    return ", ".join(f"{len(of_fold)} ({best[fold] + 1})" for fold, of_fold in per_fold)
