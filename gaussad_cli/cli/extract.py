"""The command extract: images to features."""

from __future__ import annotations

from pathlib import Path

from gaussad_cli.cli.options import (
    BackboneNames,
    BatchSize,
    Cache,
    Categories,
    Data,
    Dataset,
    Depth,
    Device,
    Engine,
    Epochs,
    Grid,
    Levels,
    MomentsOnly,
    Padding,
    Precision,
    Rules,
    Scheduler,
    Seed,
    Verify,
    Weights,
    Workers,
    after_augmentation,
    announce_images,
    canonical_names,
    note,
    print_result,
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
    depth: Depth = None,
    grid: Grid = 0,
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
    """Run images through one or several backbones and cache the features of every level, averaged or per place.

    Cached features are not computed again; interrupted work continues. Several backbones read each file only once.

    Example: gaussad extract --data mvtec --backbone efficientnet-b4 --categories bottle,screw

    Example: gaussad extract --data mvtec --backbone efficientnet-b4 --epochs 100

    Example: gaussad extract --data mvtec --backbone efficientnet-lite0 --grid 28
    """
    from gaussad_cli.backbones.resolve import NetworkOptions
    from gaussad_cli.extraction.cluster import extract_on_cluster
    from gaussad_cli.extraction.engine import Compute
    from gaussad_cli.extraction.extract import Request, extract_dataset

    if weights is not None and len(backbone) > 1:
        raise UserError("--weights is the file of a single backbone: give only one --backbone with it.")
    names = canonical_names(backbone)
    networks = [NetworkOptions(name, levels, weights, padding, verify, depth, grid) for name in names]
    compute = Compute(engine, device, precision, batch_size, workers)
    chosen = split_names(categories)
    announce_images(data, chosen)
    request = Request(data, networks, cache, dataset, chosen, compute, epochs, seed, augmentation)
    after = after_augmentation(moments_only, epochs, grid)
    report = extract_dataset(request, after) if scheduler is None else extract_on_cluster(request, after, scheduler)
    note(str(report))
    for folder in report.folders:
        print_result(folder)
    raise_problems(report.problem)
