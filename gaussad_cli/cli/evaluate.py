"""The command evaluate: features to results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaussad_cli.cli.layout import OUTPUT, SCORE
from gaussad_cli.cli.options import (
    BackboneName,
    Cache,
    Categories,
    Channels,
    Components,
    Covariance,
    Fpr,
    Jobs,
    Key,
    Levels,
    Mode,
    Neighbours,
    Out,
    Padding,
    Rho,
    Scheduler,
    ScoreName,
    ShrinkTarget,
    Smooth,
    Thresholds,
    Var,
    WhichDataset,
    WhichEpochs,
    WhichGrid,
    canonical_name,
    note,
    print_result,
    raise_problems,
    split_names,
)
from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from gaussad_cli.evaluation.scorings import Scoring
    from gaussad_cli.evaluation.selection import Selection
    from gaussad_cli.parallel import Distribution


def evaluate(
    backbone: BackboneName,
    score: ScoreName = None,
    mode: Mode = None,
    var: Var = None,
    k: Neighbours = None,
    components: Components = None,
    covariance: Covariance = None,
    rho: Rho = None,
    target: ShrinkTarget = None,
    channels: Channels = None,
    smooth: Smooth = None,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: WhichDataset = None,
    categories: Categories = None,
    levels: Levels = None,
    padding: Padding = None,
    epochs: WhichEpochs = None,
    grid: WhichGrid = None,
    key: Key = None,
    threshold: Thresholds = None,
    fpr: Fpr = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Compute the AUROC for every number of kept components too, for the report.",
            rich_help_panel=SCORE,
        ),
    ] = False,
    maps: Annotated[
        bool,
        typer.Option(
            "--maps",
            help="Keep the test images' heat maps of places in the results folder too.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
) -> None:
    """Score the test sets for every fold and level; write AUROCs and distances to the results folder.

    Without --score and --mode, the scores are L2, SED, and Mahalanobis with every compression of Table III. Comparators
    on the same features: ocsvm (one-class SVM), knn (distance to the nearest neighbours, as in SPADE), gmm (a mixture
    of shrunk Gaussians), ood (Lee et al. 2018: a tenth of the test images, anomalies too, teaches weights of levels).

    --score places fits a Gaussian per place to features extracted with --grid, all levels joined. It gives heat maps
    and three scores: their greatest value (places), the mean of their greatest 1 % (places-top), and the detector's, on
    the scale of held-out images (places-scaled). Where the data set has masks, it measures pixels too.

    --threshold also computes thresholds for the --fpr rates, by the chi-square law or calibrated on the images that
    each fold leaves out, and the rates that they achieve on the test set.

    Example: gaussad evaluate --backbone efficientnet-b4 --mode npca --var 0.01

    Example: gaussad evaluate --backbone efficientnet-b4 --mode all --levels 7 --threshold all --fpr 0.1,0.05

    Example: gaussad evaluate --backbone wide-resnet50-2 --levels 5 --score knn --k 50

    Example: gaussad evaluate --backbone efficientnet-lite0 --score places
    """
    from gaussad_cli.evaluation.calibration import ThresholdsWanted, choose_methods, parse_targets
    from gaussad_cli.evaluation.evaluate import evaluate_dataset
    from gaussad_cli.evaluation.scorings import Setting, choose_scorings, is_of_places
    from gaussad_cli.evaluation.selection import Selection
    from gaussad_cli.evaluation.summary import summarise, summarise_thresholds
    from gaussad_cli.parallel import Distribution

    scorings = choose_scorings(score, Setting(mode, var, k, components, covariance, rho, target, channels, smooth))
    if fpr is not None and not threshold:
        raise UserError("--fpr needs --threshold: name a method, or all.")
    thresholds = ThresholdsWanted(choose_methods(threshold), parse_targets(fpr)) if threshold else None
    of_places = is_of_places(scorings[0])
    selection = Selection(
        canonical_name(backbone),
        cache,
        dataset,
        split_names(categories),
        levels,
        padding,
        key,
        epochs,
        grid if of_places else 0,
    )
    if of_places:
        _refuse("goes with averaged features, not with places", threshold=bool(threshold), sweep=sweep)
        return _evaluate_places(selection, scorings, out, maps, Distribution(jobs, scheduler))
    _refuse("goes with --score places", grid=grid is not None, maps=maps)
    outcome = evaluate_dataset(selection, scorings, out, thresholds, sweep, Distribution(jobs, scheduler))
    print_result(summarise(outcome.metrics, scorings))
    if outcome.thresholds is not None:
        print_result(f"\n{summarise_thresholds(outcome.thresholds)}")
        _draw(outcome.thresholds, outcome.path.parent / "figures", len(scorings) == 1)
    note(f"Rows are in {outcome.path}.")
    raise_problems(outcome.problem)


def _refuse(why: str, **given: bool) -> None:
    """Refuse options that do not go with the score."""
    for option, is_given in given.items():
        if is_given:
            raise UserError(f"--{option} {why}.")


def _evaluate_places(
    selection: Selection, scorings: Sequence[Scoring], out: Path, keep_maps: bool, distribution: Distribution
) -> None:
    from gaussad_cli.evaluation.places import evaluate_places
    from gaussad_cli.evaluation.summary import summarise_places

    outcome = evaluate_places(selection, scorings, out, keep_maps, distribution)
    print_result(summarise_places(outcome.metrics))
    for remark in outcome.remarks:
        note(remark)
    note(f"Rows are in {outcome.path}.")
    raise_problems(outcome.problem)


def _draw(thresholds: pd.DataFrame, folder: Path, one_scoring: bool) -> None:
    """Draw a calibration figure per level of a single scoring; figures of all scorings would be too many to look at."""
    if not one_scoring:
        note("Figures are drawn for one score and mode at a time: choose them with --score, --mode and --var.")
        return
    from gaussad_cli.report.calibration import draw_calibration

    first = thresholds.iloc[0]
    mode = f"{first['mode']}{'' if first['mode'] == 'all' else format(first['var'], '-g')}"
    for level, rows in thresholds.groupby("level", sort=False):
        name = (
            f"{first['score']}-{mode}-level-{str(level).replace(':', '-')}-{first['padding']}-epochs-{first['epochs']}"
        )
        path = folder / f"calibration-{str(first['backbone']).replace(':', '-')}-{name}.png"
        title = f"{first['backbone']}, level {level}, {first['score']} {mode}, {first['epochs']} augmented epochs"
        draw_calibration(rows, title, path)
        note(f"Figure: {path}")
