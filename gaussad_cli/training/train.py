"""Networks trained on the images of every category, and their rows in the results: what `gaussad train` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gaussad_cli.backbones.resolve import NetworkOptions, resolve
from gaussad_cli.datasets.index import Category, dataset_name, find_categories
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.rows import NETWORK, CategoryRows
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.extraction.engine import AUTO, Compute, choose_engine
from gaussad_cli.extraction.store import digest
from gaussad_cli.training import autoencoder, classifier
from gaussad_cli.training.autoencoder import TRUNK, autoencoder_training, resnet_autoencoder
from gaussad_cli.training.classifier import classifier_training, pretrained_classifier
from gaussad_cli.training.loop import train_folds
from gaussad_cli.training.rows import category_rows
from gaussad_cli.training.task import RECIPE, CategoryTraining, TrainableNetwork, TrainingOptions

STATES = "trained"  # folder of the networks' states in a data set's cache


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
class TrainingReport:
    """What was trained.

    Attributes
    ----------
    metrics, histories : the rows of all categories
    path : file of the metrics
    fresh : tensors that the weight file lacks and that started at random
    problem : what went wrong with some categories, or None
    """

    metrics: pd.DataFrame
    histories: pd.DataFrame
    path: Path
    fresh: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class _Method:
    """What differs between the classifier and the autoencoder.

    Attributes
    ----------
    network : of every category
    plan : returns the training of a category
    identity : the columns backbone, weights and padding of the rows
    scores : the objective's name of a score -> its name in the results
    folds : how images are split, for the manifest
    """

    network: TrainableNetwork
    plan: Callable[[Category, TrainableNetwork, Augmentation, TrainingOptions, Path], CategoryTraining]
    identity: dict[str, str]
    scores: dict[str, str]
    folds: dict[str, Any]


def train_classifiers(request: TrainingRequest, options: NetworkOptions, fresh: bool = False) -> TrainingReport:
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
    network = pretrained_classifier(resolved.backbone, resolved.padding, resolved.checkpoint, fresh)
    weights = resolved.checkpoint.label + (f", {len(network.fresh)} tensors at random" if network.fresh else "")
    identity = {"backbone": resolved.backbone.name, "weights": weights, "padding": resolved.padding}
    scores = {classifier.SCORE: "classifier"}
    return _train(request, _Method(network, classifier_training, identity, scores, manifests.STRATIFIED))


def train_autoencoders(request: TrainingRequest, input_size: int = autoencoder.SIZE) -> TrainingReport:
    """Train and score the five folds of every category: the autoencoder rows of Tables V and VIII.

    Raises
    ------
    UserError
        See :func:`train_classifiers`.
    """
    network = resnet_autoencoder(input_size)
    weights = "random" if input_size == autoencoder.SIZE else f"random, {input_size} px"
    identity = {"backbone": TRUNK.name, "weights": weights, "padding": "native"}
    scores = {autoencoder.MAP_MEAN: "map-mean", autoencoder.CCA: "cca"}
    return _train(request, _Method(network, autoencoder_training, identity, scores, manifests.KFOLD))


def _train(request: TrainingRequest, method: _Method) -> TrainingReport:
    """Train all categories; the rows of each are written before the next category begins."""
    options = request.options()
    augmentation = Augmentation(read_rules(request.augmentation), request.seed)
    categories = find_categories(request.data, request.categories)
    dataset = dataset_name(request.data, request.dataset)
    results.check_data(request.out, dataset, request.data, [category.name for category in categories])
    identity = _identity(method, options, augmentation, dataset)
    states = request.cache / dataset / STATES / f"{'-'.join(sorted(method.scores.values()))}-{identity['backbone']}"
    trained, problems = [], []
    for category in tqdm(categories, desc="train", unit="category", disable=True if len(categories) == 1 else None):
        try:
            training = method.plan(category, method.network, augmentation, options, states / category.name)
            folds = train_folds(training)
        except UserError as problem:
            problems.append(str(problem))
            continue
        rows = category_rows({**identity, "category": category.name}, category, folds, method.scores)
        _save(rows, training, category, method, request.out)
        trained.append(rows)
        problems += [rows.warning] if rows.warning else []
    if not trained:
        raise UserError(" ".join(problems) or "nothing to train.")
    return TrainingReport(
        metrics=pd.concat([rows.metrics for rows in trained], ignore_index=True),
        histories=pd.concat([rows.histories for rows in trained if rows.histories is not None], ignore_index=True),
        path=results.metrics_path(request.out, dataset),
        fresh=method.network.fresh,
        problem=" ".join(problems) or None,
    )


def _identity(method: _Method, options: TrainingOptions, augmentation: Augmentation, dataset: str) -> dict[str, object]:
    """Return the columns that the rows of all categories share.

    Their key identifies everything that changes the numbers, except the images, as an extraction's key does.
    """
    network = method.network
    recipe = [dict(network.identity), list(network.fresh), network.input_size, options.identity, augmentation.name]
    weights = method.identity["weights"] + ("" if options.precision == "fp32" else f", {options.precision}")
    key = digest(recipe)[:16]
    return {"dataset": dataset, **method.identity, "weights": weights, "key": key, "level": NETWORK}


def _save(rows: CategoryRows, training: CategoryTraining, category: Category, method: _Method, out: Path) -> None:
    """Write the rows of a category, and the manifest of what they were computed from, into the results."""
    labels = {image.name: image.label for image in (*category.train, *category.test)}
    identity = rows.metrics.iloc[0].to_dict()
    manifest = manifests.of_training(identity, training.folder / RECIPE, labels, rows.metrics, method.folds)
    results.save(out, manifest.dataset, category.name, rows, manifest)
