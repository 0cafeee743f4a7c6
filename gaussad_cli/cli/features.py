"""Images to features to spectra: extract, fit, augment-preview."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaussad_cli.cli.options import (
    BackboneName,
    BackboneNames,
    BatchSize,
    Cache,
    Categories,
    Data,
    Dataset,
    Device,
    Engine,
    Epochs,
    Jobs,
    Key,
    Levels,
    MomentsOnly,
    Padding,
    Precision,
    Rules,
    Scheduler,
    Seed,
    Verify,
    Weights,
    WhichDataset,
    WhichEpochs,
    Workers,
    after_augmentation,
    canonical_name,
    canonical_names,
    note,
    raise_problems,
    split_names,
)
from gaussad_cli.errors import UserError


def extract(
    data: Data,
    backbone: BackboneNames,
    categories: Categories = None,
    levels: Levels = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    epochs: Epochs = 0,
    seed: Seed = 0,
    augmentation: Rules = None,
    moments_only: MomentsOnly = False,
    cache: Cache = Path("cache"),
    dataset: Dataset = None,
    scheduler: Scheduler = None,
) -> None:
    """Run images through one or several backbones and cache the pooled features of every level.

    What is in the cache is not done again; interrupted work continues. With several backbones, every file is read once.

    Example: gaussad extract --data mvtec --backbone efficientnet-b4 --categories bottle,screw

    Example: gaussad extract --data mvtec --backbone efficientnet-b4 --epochs 100
    """
    from gaussad_cli.backbones.resolve import NetworkOptions
    from gaussad_cli.extraction.cluster import extract_on_cluster
    from gaussad_cli.extraction.engine import Compute
    from gaussad_cli.extraction.extract import Request, extract_dataset

    if weights is not None and len(backbone) > 1:
        raise UserError("--weights is one backbone's file: give one --backbone with it.")
    networks = [NetworkOptions(name, levels, weights, padding, verify) for name in canonical_names(backbone)]
    compute = Compute(engine, device, precision, batch_size, workers)
    chosen = split_names(categories)
    request = Request(data, networks, cache, dataset, chosen, compute, epochs, seed, augmentation)
    after = after_augmentation(moments_only, epochs)
    report = extract_dataset(request, after) if scheduler is None else extract_on_cluster(request, after, scheduler)
    note(str(report))
    for folder in report.folders:
        typer.echo(folder)
    raise_problems(report.problem)


def fit(
    backbone: BackboneName,
    cache: Cache = Path("cache"),
    dataset: WhichDataset = None,
    categories: Categories = None,
    levels: Levels = None,
    padding: Padding = None,
    epochs: WhichEpochs = None,
    key: Key = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
) -> None:
    """Fit one spectrum per category, level and fold to cached features.

    evaluate does this by itself where it was not done.

    Example: gaussad fit --backbone efficientnet-b4
    """
    from gaussad_cli.evaluation.evaluate import fit_dataset
    from gaussad_cli.evaluation.selection import Selection
    from gaussad_cli.parallel import Distribution

    names = split_names(categories)
    selection = Selection(canonical_name(backbone), cache, dataset, names, levels, padding, key, epochs)
    report = fit_dataset(selection, Distribution(jobs, scheduler))
    note(f"{report.fitted} levels fitted, {report.already_there} were already there.")
    typer.echo(report.folder)
    raise_problems(report.problem)


def augment_preview(
    data: Data,
    categories: Categories = None,
    augmentation: Rules = None,
    seed: Seed = 0,
    images: Annotated[int, typer.Option(min=1, help="Rows of a sheet.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Columns of a sheet, besides the image as it is.")] = 9,
    size: Annotated[
        int, typer.Option(min=32, max=1024, help="Pixels; a backbone's input size shows what it sees.")
    ] = 224,
    out: Annotated[Path, typer.Option(help="Folder of the sheets.")] = Path("preview"),
) -> None:
    """Show what augmentation does: one contact sheet per category.

    Example: gaussad augment-preview --data mvtec --categories bottle,screw --out preview
    """
    from gaussad_cli.datasets.index import find_categories
    from gaussad_cli.extraction.augment import Augmentation, read_rules
    from gaussad_cli.extraction.preview import write_preview

    rules = Augmentation(read_rules(augmentation), seed)
    for category in find_categories(data, split_names(categories)):
        typer.echo(write_preview(category, rules, out, images, epochs, size))
