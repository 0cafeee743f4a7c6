"""The commands under `gaussad train`: a detector (see model.py), and the comparators classifier and autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    note,
    raise_problems,
    split_names,
)

if TYPE_CHECKING:
    from gaussad_cli.training.train import TrainingReport

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
    """Fine-tune an ImageNet network on normal and anomalous images: the fully supervised upper bound.

    The training and test images of a category are pooled and split into five stratified folds: one is tested, another
    picks the best epoch, and three are trained on.

    Example: gaussad train classifier --data mvtec --backbone resnet-18 --categories bottle
    """
    from gaussad_cli.backbones.resolve import NetworkOptions
    from gaussad_cli.extraction.engine import Compute
    from gaussad_cli.training.train import TrainingRequest, train_classifiers

    names, compute = split_names(categories), Compute("torch", device, precision, batch_size, workers)
    request = TrainingRequest(data, cache, out, dataset, names, seed, augmentation, max_epochs, patience, compute)
    _print_report(train_classifiers(request, NetworkOptions(backbone, None, weights, padding, verify), fresh))


@train.command()
def autoencoder(
    data: Data,
    categories: Categories = None,
    size: Annotated[
        int, typer.Option(min=32, help="Width and height of the images in pixels, a multiple of 32; paper: 224.")
    ] = 224,
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
    """Train the ResNet-18 autoencoder on normal images and score by its error maps.

    The scores are map-mean and, where the data set has masks, CCA.

    Example: gaussad train autoencoder --data mvtec --categories bottle
    """
    from gaussad_cli.extraction.engine import Compute
    from gaussad_cli.training.train import TrainingRequest, train_autoencoders

    names, compute = split_names(categories), Compute("torch", device, precision, batch_size, workers)
    request = TrainingRequest(data, cache, out, dataset, names, seed, augmentation, max_epochs, patience, compute)
    _print_report(train_autoencoders(request, size))


def _print_report(report: TrainingReport) -> None:
    from gaussad_cli.backbones.weights import shorten
    from gaussad_cli.report.histories import draw_histories
    from gaussad_cli.training.rows import summarise_training

    typer.echo(summarise_training(report.metrics, report.histories))
    if report.fresh:
        note(f"{len(report.fresh)} tensors that the weight file lacks started at random: {shorten(report.fresh)}.")
    for path in draw_histories(report.histories, report.path.parent / "figures"):
        note(f"Figure: {path}")
    note(f"The rows are in {report.path}.")
    raise_problems(report.problem)
