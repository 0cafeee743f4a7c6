"""What is trained: a detector (see model.py), and the comparators classifier, autoencoder, ood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.model import train_model
from gaussad_cli.cli.options import (
    BackboneName,
    Cache,
    Categories,
    Data,
    Dataset,
    Device,
    Fresh,
    Key,
    Levels,
    MaxEpochs,
    Out,
    Padding,
    Patience,
    Precision,
    Rules,
    Seed,
    TrainBatch,
    TrainWorkers,
    Verify,
    Weights,
    WhichDataset,
    WhichEpochs,
    canonical_name,
    note,
    raise_problems,
    split_names,
)

if TYPE_CHECKING:
    import pandas as pd

    from gaussad_cli.evaluation.trained import Trained

train = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train.callback(invoke_without_command=True)(train_model)


@train.command()
def classifier(
    data: Data,
    backbone: BackboneName,
    categories: Categories = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    fresh: Fresh = False,
    max_epochs: MaxEpochs = 100,
    patience: Patience = 3,
    batch_size: TrainBatch = None,
    seed: Seed = 0,
    augmentation: Rules = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    workers: TrainWorkers = None,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: Dataset = None,
) -> None:
    """Fine-tune an ImageNet network on normal and anomalous images, in five stratified folds: the upper bound.

    Training and test images of a category are pooled; one fold tests, another picks the epoch, three train.

    Example: gaussad train classifier --data mvtec --backbone resnet-18 --categories bottle
    """
    from gaussad_cli.evaluation.trained import Classifier, TrainingRequest, train_classifiers

    request = TrainingRequest(
        data,
        cache,
        out,
        dataset,
        split_names(categories),
        seed,
        augmentation,
        max_epochs,
        patience,
        batch_size,
        device,
        precision,
        workers,
    )
    _report_training(train_classifiers(request, Classifier(backbone, weights, verify, padding, fresh)))


@train.command()
def autoencoder(
    data: Data,
    categories: Categories = None,
    size: Annotated[int, typer.Option(min=32, help="Pixels, a multiple of 32; paper: 224.")] = 224,
    max_epochs: MaxEpochs = 100,
    patience: Patience = 3,
    batch_size: TrainBatch = None,
    seed: Seed = 0,
    augmentation: Rules = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    workers: TrainWorkers = None,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: Dataset = None,
) -> None:
    """Train the ResNet-18 autoencoder on normal images, and score by its error maps: map-mean and, with masks, CCA.

    Example: gaussad train autoencoder --data mvtec --categories bottle
    """
    from gaussad_cli.evaluation.trained import TrainingRequest, train_autoencoders

    request = TrainingRequest(
        data,
        cache,
        out,
        dataset,
        split_names(categories),
        seed,
        augmentation,
        max_epochs,
        patience,
        batch_size,
        device,
        precision,
        workers,
    )
    _report_training(train_autoencoders(request, size))


@train.command()
def ood(
    data: Data,
    backbone: BackboneName,
    step: Annotated[
        Optional[float],
        typer.Option(min=0.0, help="In units of RGB in [0, 1].  [default: chosen on the labelled share]"),
    ] = None,
    categories: Categories = None,
    levels: Levels = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    epochs: WhichEpochs = None,
    key: Key = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: WhichDataset = None,
) -> None:
    """Score as Lee et al. 2018 do: every image is moved a step towards the training data before its levels are weighed.

    Weights and step are learnt from a tenth of the test images, anomalies among them, which are then not tested. Needs
    the features of gaussad extract, and the images for the gradients; evaluate --score ood does without the step.

    Example: gaussad train ood --data mvtec --backbone efficientnet-b4 --categories bottle --step 0.002
    """
    from gaussad_cli.evaluation.dataset import Selection, summarise
    from gaussad_cli.evaluation.scorings import Scoring
    from gaussad_cli.evaluation.stepped import StepRequest, evaluate_stepped

    selection = Selection(
        canonical_name(backbone), cache, dataset, split_names(categories), levels, padding, key, epochs
    )
    rows = evaluate_stepped(StepRequest(data, selection, out, weights, verify, step, device, batch_size))
    typer.echo(summarise(rows, [Scoring("ood")]))
    note(f"Steps by category and fold: {_steps(rows)}.")


def _steps(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"{name} {', '.join(map('{:g}'.format, steps))}" for name, steps in rows.groupby("category")["step"]
    )


def _report_training(trained: Trained) -> None:
    from gaussad_cli.backbones.weights import shorten
    from gaussad_cli.evaluation.trained import summarise_training
    from gaussad_cli.report.histories import draw_histories

    typer.echo(summarise_training(trained.metrics, trained.histories))
    if trained.fresh:
        note(f"{len(trained.fresh)} tensors, which the weight file lacks, started at random: {shorten(trained.fresh)}.")
    for path in draw_histories(trained.histories, trained.path.parent / "figures"):
        note(f"Figure: {path}")
    note(f"Rows are in {trained.path}.")
    raise_problems(trained.problem)
