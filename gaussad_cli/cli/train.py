"""`gaussad train`: a detector; and its subcommands for the comparators, `classifier` and `autoencoder`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.layout import (
    IMAGES,
    NETWORK,
    OUTPUT,
    SCORE,
    THRESHOLD,
    SectionedCommand,
    SectionedGroup,
    plain_typer,
)
from gaussad_cli.cli.options import (
    MODES,
    BackboneName,
    BatchSize,
    Cache,
    Categories,
    Data,
    Dataset,
    Depth,
    Device,
    Engine,
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
    Var,
    Verify,
    Weights,
    Workers,
    announce_images,
    backbone_option,
    canonical_names,
    choice,
    note,
    raise_problems,
    split_names,
)
from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from gaussad_cli.backbones.resolve import NetworkOptions
    from gaussad_cli.datasets.own import OwnImages
    from gaussad_cli.gaussian.compression import Compression
    from gaussad_cli.training.train import TrainingReport

train = plain_typer(cls=SectionedGroup, no_args_is_help=True)


@train.callback(invoke_without_command=True)
def detector(
    ctx: typer.Context,
    normal: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DIR", help="Train on every image below this folder of normal images.", rich_help_panel=IMAGES
        ),
    ] = None,
    anomalous: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DIR",
            help="Report how well the anomalous images below this folder stand out, if you have some.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Write this model file, such as screw.gaussad.", rich_help_panel=OUTPUT),
    ] = None,
    data: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DIR",
            help="Take the images from a folder in the MVTec layout; goes with --category.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    csv: Annotated[
        Optional[Path],
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Take the images from a list with columns path, label, split, category.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    category: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="Train on this category of --data, or of --csv if it has several.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    fpr: Annotated[
        Optional[float],
        typer.Option(
            metavar="RATE",
            help="Aim for this false-positive rate.  [default: 0.01, or the lowest that fewer images allow]",
            rich_help_panel=THRESHOLD,
        ),
    ] = None,
    pooled: Annotated[
        bool,
        typer.Option(
            "--pooled",
            help="Average features over the image, as the paper does: one Gaussian per level.",
            rich_help_panel=SCORE,
        ),
    ] = False,
    grid: Annotated[
        Optional[int],
        typer.Option(
            min=2,
            metavar="N",
            help="Fit a Gaussian at each of N x N places.  [default: 28]",
            rich_help_panel=SCORE,
        ),
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Choose a pooled detector's backbone, level and mode by how well anomalous images stand out.",
            rich_help_panel=SCORE,
        ),
    ] = False,
    backbone: Annotated[
        Optional[list[str]],
        backbone_option(
            help="Use this network, such as resnet-18; with --auto repeatable.  [default: efficientnet-lite0; pooled: "
            "efficientnet-b4, or the best one whose weights are here]"
        ),
    ] = None,
    levels: Annotated[
        Optional[str],
        typer.Option(
            metavar="LEVELS",
            help="Use these feature levels, such as 3,5 or 4-6: joined at each place, or, pooled, their distances are "
            "averaged.  [default: the middle ones; pooled: 7, or a smaller network's last but one]",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    mode: Annotated[
        Optional[str],
        choice(
            MODES,
            help="Keep these components; for places, of the covariance within places.  [default: npca with --var 0.1; "
            "pooled: all]",
            rich_help_panel=SCORE,
        ),
    ] = None,
    var: Var = None,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable", help="Leave out images that cannot be read, and name them.", rich_help_panel=IMAGES
        ),
    ] = False,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    depth: Depth = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    cache: Cache = Path("cache"),
) -> None:
    """Train a detector on normal images, or one of the paper's comparators.

    A folder of normal images becomes a model file: a Gaussian at every place of the images, fitted to their features,
    and a threshold for --fpr that is calibrated on images held out. It shows where an image deviates, and nothing is
    downloaded for it. With --pooled, it is the paper's detector. The images come from --normal DIR, --data DIR
    --category NAME, or --csv FILE.

    The commands below train and evaluate the comparators of Tables V and VIII instead. Every finished epoch is kept in
    the cache, and an interrupted training goes on from there.

    Example: gaussad train --normal screws/good --out screw.gaussad --fpr 0.01

    Example: gaussad train classifier --data mvtec --backbone resnet-18
    """
    if ctx.invoked_subcommand is not None:
        return
    if out is None or out.is_dir():
        raise UserError("say which model file to write, such as --out screw.gaussad.")
    if auto and (levels is not None or mode is not None or var is not None):
        raise UserError("--auto chooses level and mode itself: leave out --levels, --mode and --var.")
    from gaussad_cli.backbones.resolve import NetworkOptions
    from gaussad_cli.detector import train as training
    from gaussad_cli.detector.container import write_model
    from gaussad_cli.extraction.engine import Compute

    images = replace(_own_images(normal, anomalous, data, csv, category), skip_unreadable=skip_unreadable)
    note(images.summary)
    names = canonical_names(backbone or [])
    if len(names) > 1 and (weights is not None or not auto):
        raise UserError("several --backbone go with --auto, and without --weights.")
    given = NetworkOptions("", levels, weights, padding, verify, depth)
    networks = [training.choose_network(given, name, pooled or auto, grid) for name in names]
    if not names:
        default = training.choose_network(given, None, pooled or auto, grid)
        networks = [_with_weights(default) if weights is None else default]
    compute = Compute(engine, device, precision, batch_size, workers)
    if auto:
        trained = training.train_best_detector(images, networks, fpr, compute, cache)
    else:
        options = training.DetectorOptions(_compression(mode, var), fpr)
        trained = training.train_detector(images, networks[0], options, compute, cache)
    write_model(out, trained.model)
    note(training.describe_training(trained))
    typer.echo(out)


def _own_images(
    normal: Path | None, anomalous: Path | None, data: Path | None, csv: Path | None, category: str | None
) -> OwnImages:
    from gaussad_cli.datasets.own import of_category, of_csv, of_folders

    if sum(source is not None for source in (normal, data, csv)) != 1:
        raise UserError("say where the images are: --normal DIR, or --data DIR --category NAME, or --csv FILE.")
    if anomalous is not None and normal is None:
        raise UserError("--anomalous goes with --normal.")
    if csv is not None:
        return of_csv(csv, category)
    if data is not None:
        if category is None:
            raise UserError("--data DIR goes with --category NAME here: a detector is trained on one kind of object.")
        return of_category(data, category)
    return of_folders(normal or Path(), anomalous)


def _with_weights(network: NetworkOptions) -> NetworkOptions:
    """Return a network of the default backbone, or, if its weights cannot be had, of the best one here; say so."""
    from gaussad_cli.backbones.available import choose_available
    from gaussad_cli.backbones.resolve import check

    name, remark = choose_available(check(network).backbone)
    if remark:
        note(remark)
    return replace(network, backbone=name)


def _compression(mode: str | None, var: float | None) -> Compression | None:
    from gaussad_cli.gaussian.compression import choose_compression

    if mode is None and var is None:
        return None

    try:
        return choose_compression(mode or "all", var)
    except ValueError as error:
        raise UserError(f"--mode {mode or 'all'}{'' if var is None else f' --var {var:g}'}: {error}.") from None


@train.command(cls=SectionedCommand, short_help="Fine-tune a network on normal and anomalous images.")
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
    announce_images(data, names)
    request = TrainingRequest(data, cache, out, dataset, names, seed, augmentation, max_epochs, patience, compute)
    _print_report(train_classifiers(request, NetworkOptions(backbone, None, weights, padding, verify), fresh))


@train.command(cls=SectionedCommand, short_help="Train an autoencoder on normal images.")
def autoencoder(
    data: Data,
    categories: Categories = None,
    size: Annotated[
        int,
        typer.Option(
            min=32,
            metavar="PIXELS",
            help="Resize images to this width and height, a multiple of 32; paper: 224.",
            rich_help_panel=NETWORK,
        ),
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
    announce_images(data, names)
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
