"""The command run: from images to tables in one go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.layout import AUGMENTATION, EXPERIMENT, NETWORK, SCORE
from gaussad_cli.cli.options import (
    SCORES,
    BatchSize,
    Cache,
    Categories,
    Data,
    Dataset,
    Depth,
    Device,
    Engine,
    Format,
    Grid,
    Jobs,
    Levels,
    MomentsOnly,
    Out,
    Padding,
    Precision,
    Rules,
    Scheduler,
    Seed,
    TableNumbers,
    Verify,
    Workers,
    announce_images,
    backbone_option,
    canonical_names,
    choice,
    note,
    print_result,
    raise_problems,
    split_names,
)
from gaussad_cli.cli.tables import check_tables, render_tables
from gaussad_cli.errors import UserError
from gaussad_cli.experiments.named import find_experiment, names

if TYPE_CHECKING:
    from gaussad_cli.experiments.config import Experiment, Overrides
    from gaussad_cli.experiments.execute import Setup

_EXPERIMENT = "gaussad.experiment"  # the context's key for the experiment read from --config


def _read_config(ctx: typer.Context, given: Optional[list[str]]) -> Optional[list[str]]:
    """Read the files; their options become defaults, which the command line overrides."""
    if given:
        from gaussad_cli.experiments.config import read_experiments

        paths = [find_experiment(name) for name in given]
        options = {option.removeprefix("--") for p in ctx.command.params for option in p.opts if option != "--config"}
        ctx.meta[_EXPERIMENT] = experiment = read_experiments(paths, options)
        parameters = {option.removeprefix("--"): p for p in ctx.command.params for option in p.opts}
        ctx.default_map = {str(parameters[name].name): value for name, value in experiment.options.items()}
    return given


def run(
    ctx: typer.Context,
    data: Data,
    config: Annotated[  # noqa: ARG001 (its callback reads it)
        Optional[list[str]],
        typer.Option(
            callback=_read_config,
            is_eager=True,
            metavar="NAME|FILE",
            autocompletion=names,
            help=f"Run this experiment: {', '.join(names())}, or a YAML file of your own; repeatable.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    backbone: Annotated[
        Optional[list[str]],
        backbone_option(help="Use these networks (repeatable or comma-separated); overrides the config's."),
    ] = None,
    categories: Categories = None,
    levels: Levels = None,
    weights: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="[NAME=]FILE",
            help="Read this file, not the published one; NAME=FILE for each of several backbones.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    verify: Verify = True,
    padding: Padding = None,
    depth: Depth = None,
    grid: Grid = 0,
    score: Annotated[
        Optional[str],
        choice(
            ("paper", *SCORES),
            help="Compute this score, as evaluate does, without thresholds; with --grid, places.  [default: paper, "
            "those of Tables I and III; none with --grid]",
            rich_help_panel=SCORE,
        ),
    ] = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    epochs: Annotated[
        Optional[int],
        typer.Option(
            min=0,
            metavar="N",
            help="Add this many augmented epochs to the original images; the paper uses 100.",
            rich_help_panel=AUGMENTATION,
        ),
    ] = None,
    seed: Seed = 0,
    augmentation: Rules = None,
    moments_only: MomentsOnly = False,
    cache: Cache = Path("cache"),
    dataset: Dataset = None,
    out: Out = Path("results"),
    table: TableNumbers = None,
    style: Format = "text",
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only show the stages, and the time and disk space that they need.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = False,
) -> None:
    """Extract, fit, evaluate every score of Tables I and III, and print the tables.

    With --epochs, it does so without and with augmentation. With --grid alone, it only extracts; with --score places,
    it makes their table. With --config, it does what the tables of those files need, each thing once. Finished work is
    not done again.

    Example: gaussad run --data mvtec --backbone efficientnet-b4 --table 1 --table 3

    Example: gaussad run --data mvtec --backbone efficientnet-lite0 --grid 28 --score places

    Example: gaussad run --config table1 --config table5 --data mvtec --dry-run
    """
    from gaussad_cli.datasets.index import dataset_name
    from gaussad_cli.experiments.config import Overrides
    from gaussad_cli.experiments.execute import Setup
    from gaussad_cli.extraction.engine import Compute
    from gaussad_cli.parallel import Distribution

    tables = check_tables(table, style)
    backbones = canonical_names([name for value in backbone or () for name in split_names(value) or ()])
    overrides = Overrides(tuple(backbones), epochs, levels, _weights(weights), padding, moments_only, depth, grid)
    experiment = _experiment(ctx, overrides, score)
    setup = Setup(
        data=data,
        dataset=dataset_name(data, dataset),
        categories=announce_images(data, split_names(categories)),
        cache=cache,
        out=out,
        compute=Compute(engine, device, precision, batch_size, workers),
        seed=seed,
        augmentation=augmentation,
        distribution=Distribution(jobs, scheduler),
    )
    _run_experiment(experiment, overrides, setup, tables, style, dry_run, bool(ctx.meta.get(_EXPERIMENT)), verify)


def _weights(values: list[str] | None) -> dict[str, Path]:
    """Read FILE or NAME=FILE; a value that is an existing file's name is FILE, even with an equals sign in it."""
    found = {}
    for value in values or ():
        name, equals, file = value.partition("=")
        named = equals and not Path(value).exists()
        found[name.lower() if named else ""] = Path(file if named else value)
    return found


def _experiment(ctx: typer.Context, overrides: Overrides, score: str | None) -> Experiment:
    from gaussad_cli.experiments.config import Experiment
    from gaussad_cli.experiments.plan import one_step

    read = ctx.meta.get(_EXPERIMENT)
    if isinstance(read, Experiment):
        if score is not None:
            raise UserError("--score does not go with --config: the steps of a file name their scores.")
        return read
    if not overrides.backbone:
        raise UserError(
            "no network is given: choose one with --backbone efficientnet-b4, or an experiment with --config table3."
        )
    return Experiment((), (one_step(overrides, score),))


def _run_experiment(
    experiment: Experiment,
    overrides: Overrides,
    setup: Setup,
    tables: list[int],
    style: str,
    dry_run: bool,
    show_plan: bool,
    verify: bool,
) -> None:
    """Plan the stages, show them, run them, show the times, and print the tables."""
    from gaussad_cli.experiments.config import override
    from gaussad_cli.experiments.execute import check, execute
    from gaussad_cli.experiments.plan import ExtractionStage, plan_stages
    from gaussad_cli.experiments.show import show_plan as planned
    from gaussad_cli.experiments.show import show_times

    stages = plan_stages(override(experiment.steps, overrides), overrides, verify)
    check(stages)
    if dry_run or show_plan:
        (print_result if dry_run else note)(planned(stages, setup))
    if dry_run:
        return
    progress = execute(stages, setup, note)
    if show_plan:
        note(show_times(progress.took))
    if all(isinstance(stage, ExtractionStage) for stage in stages):  # there are no results to show
        return raise_problems(progress.problem)
    extracted = [network for stage in stages if isinstance(stage, ExtractionStage) for network in stage.networks]
    only = None if experiment.tables else [network.backbone for network in extracted]
    numbers = tables or list(experiment.tables)
    typer.echo(render_tables(numbers, only, setup.out, setup.dataset, style, setup.names), nl=False)
    raise_problems(progress.problem)
