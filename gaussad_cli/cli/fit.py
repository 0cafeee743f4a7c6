"""The command fit: features to spectra."""

from __future__ import annotations

from pathlib import Path

from gaussad_cli.cli.options import (
    BackboneName,
    Cache,
    Categories,
    Jobs,
    Key,
    Levels,
    Padding,
    Scheduler,
    WhichDataset,
    WhichEpochs,
    canonical_name,
    note,
    print_result,
    raise_problems,
    split_names,
)


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

    evaluate fits missing spectra by itself.

    Example: gaussad fit --backbone efficientnet-b4
    """
    from gaussad_cli.evaluation.evaluate import fit_dataset
    from gaussad_cli.evaluation.selection import Selection
    from gaussad_cli.parallel import Distribution

    names = split_names(categories)
    selection = Selection(canonical_name(backbone), cache, dataset, names, levels, padding, key, epochs)
    report = fit_dataset(selection, Distribution(jobs, scheduler))
    note(f"{report.fitted} levels fitted, {report.already_there} were already there.")
    print_result(report.folder)
    raise_problems(report.problem)
