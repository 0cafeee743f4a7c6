"""Executes a plan stage by stage. Finished work is not done again, so that an interrupted run continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gaussad_cli.backbones.registry import format_levels
from gaussad_cli.backbones.resolve import NetworkOptions
from gaussad_cli.backbones.resolve import check as check_network
from gaussad_cli.datasets.index import Category
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.calibration import TARGETS, ThresholdsWanted, choose_methods
from gaussad_cli.evaluation.evaluate import evaluate_dataset, fit_and_forget
from gaussad_cli.evaluation.places import evaluate_places
from gaussad_cli.evaluation.scorings import MAHALANOBIS, PAPER_SCORINGS, Scoring, Setting, choose_scorings
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.experiments.config import PAPER
from gaussad_cli.experiments.plan import EvaluationStage, ExtractionStage, Stage, TrainingStage
from gaussad_cli.extraction.cluster import extract_on_cluster
from gaussad_cli.extraction.engine import AUTO, Compute
from gaussad_cli.extraction.extract import ExtractionReport, Request, extract_dataset
from gaussad_cli.parallel import HERE, Distribution
from gaussad_cli.training.train import TrainingRequest, train_autoencoders, train_classifiers


@dataclass(frozen=True)
class Setup:
    """The options of `gaussad run` that all stages share.

    Attributes
    ----------
    data, dataset : the folder of images, and the data set's name
    categories : the chosen categories in that folder
    cache, out : folders of features and results
    compute : how features are computed; trainings use its device, precision and threads
    seed, augmentation : the seed and the rules file of augmented epochs
    distribution : where evaluations run; extractions run there too if it is a cluster
    """

    data: Path
    dataset: str
    categories: Sequence[Category]
    cache: Path
    out: Path
    compute: Compute = AUTO
    seed: int = 0
    augmentation: Path | None = None
    distribution: Distribution = HERE

    @property
    def names(self) -> list[str]:
        """The categories' names."""
        return [category.name for category in self.categories]


@dataclass
class Progress:
    """What a run has done so far.

    Attributes
    ----------
    folders : folders in the cache, by network and number of epochs
    took : stages and their seconds
    problems : why categories are incomplete
    """

    folders: dict[tuple[NetworkOptions, int], Path] = field(default_factory=dict)
    took: list[tuple[str, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str | None) -> None:
        """Keep a problem, if there is one."""
        self.problems += [problem] if problem else []

    @property
    def problem(self) -> str | None:
        """All distinct problems as one message."""
        return " ".join(dict.fromkeys(self.problems)) or None


def check(stages: Sequence[Stage]) -> None:
    """Find wrong names and options of all stages before hours of work on the first ones.

    Raises
    ------
    UserError
        If a stage names an unknown backbone, padding, level, weight file, or threshold method.
    """
    for stage in stages:
        for network in stage.networks if isinstance(stage, ExtractionStage) else [stage.network]:
            check_network(network)
        if isinstance(stage, EvaluationStage):
            choose_methods(stage.thresholds)
        if isinstance(stage, ExtractionStage) and stage.moments_only:
            _check_moments_only(stage)


def _check_moments_only(stage: ExtractionStage) -> None:
    if not any(stage.epochs):
        raise UserError("--moments-only needs --epochs: features of the original images are always kept.")
    if any(network.grid for network in stage.networks):
        raise UserError("--moments-only keeps the spectra of averaged features: leave it out with --grid.")


def execute(stages: Sequence[Stage], setup: Setup, say: Callable[[str], object]) -> Progress:
    """Run the stages in order.

    Parameters
    ----------
    say : function that is called with a line about every stage

    Raises
    ------
    UserError
        If a stage cannot be executed. Problems with some categories do not end the run: they are in the returned
        progress.
    """
    results.check_data(setup.out, setup.dataset, setup.data, setup.names)
    progress = Progress()
    for number, stage in enumerate(stages, start=1):
        say(f"[{number}/{len(stages)}] {stage}")
        start = time.perf_counter()
        if isinstance(stage, ExtractionStage):
            _extract(stage, setup, progress, say)
        elif isinstance(stage, EvaluationStage):
            _evaluate(stage, setup, progress, say)
        else:
            _train(stage, setup, progress)
        progress.took.append((str(stage), time.perf_counter() - start))
    return progress


def _extract(stage: ExtractionStage, setup: Setup, progress: Progress, say: Callable[[str], object]) -> None:
    for epochs in [count for count in stage.epochs if count] or [0]:
        request = Request(
            data=setup.data,
            networks=stage.networks,
            cache=setup.cache,
            dataset=setup.dataset,
            categories=setup.names,
            compute=setup.compute,
            epochs=epochs,
            seed=setup.seed,
            augmentation=setup.augmentation,
        )
        after = fit_and_forget if stage.moments_only and epochs else None
        scheduler = setup.distribution.scheduler
        report = extract_on_cluster(request, after, scheduler) if scheduler else extract_dataset(request, after)
        say(str(report))
        if not report.categories:
            raise UserError(report.problem)
        _note_folders(stage, report, epochs, progress)


def _note_folders(stage: ExtractionStage, report: ExtractionReport, epochs: int, progress: Progress) -> None:
    for network, plain, folder in zip(stage.networks, report.plain_folders, report.folders, strict=True):
        progress.folders[network, 0] = plain
        progress.folders[network, epochs] = folder
    progress.note(report.problem)


def _evaluate(stage: EvaluationStage, setup: Setup, progress: Progress, say: Callable[[str], object]) -> None:
    folder = progress.folders[stage.network, stage.epochs]
    dataset, key = folder.parent.parent.name, folder.name
    # The extraction has reported the problems of all other categories.
    complete = [name for name in setup.names if (folder / name / "train" / "manifest.json").is_file()]
    levels = stage.levels or stage.network.levels
    scorings, thresholds = _scorings(stage.scores), None
    if stage.network.grid:
        levels = levels or format_levels(check_network(stage.network).levels)  # the cache may hold others too
    selection = Selection(
        stage.network.backbone, setup.cache, dataset, complete, levels, key=key, grid=stage.network.grid
    )
    if stage.network.grid:
        outcome = evaluate_places(selection, scorings, setup.out, distribution=setup.distribution)
        for remark in outcome.remarks:
            say(remark)
        return progress.note(outcome.problem)
    if stage.thresholds:
        calibrated = Scoring(MAHALANOBIS)
        thresholds = ThresholdsWanted(choose_methods(stage.thresholds), TARGETS, (calibrated,))
        scorings = tuple(dict.fromkeys([*scorings, calibrated]))
    sweep = PAPER in stage.scores
    outcome = evaluate_dataset(selection, scorings, setup.out, thresholds, sweep, setup.distribution)
    progress.note(outcome.problem)


def _scorings(scores: Sequence[str]) -> tuple[Scoring, ...]:
    by_score = [PAPER_SCORINGS if score == PAPER else choose_scorings(score, Setting()) for score in scores]
    return tuple(dict.fromkeys(scoring for scorings in by_score for scoring in scorings))


def _train(stage: TrainingStage, setup: Setup, progress: Progress) -> None:
    request = TrainingRequest(
        data=setup.data,
        cache=setup.cache,
        out=setup.out,
        dataset=setup.dataset,
        categories=setup.names,
        seed=setup.seed,
        augmentation=setup.augmentation,
        max_epochs=stage.max_epochs,
        compute=replace(setup.compute, batch_size=None),  # an extraction's batch size would change the training
    )
    if stage.kind == "classifier":
        trained = train_classifiers(request, stage.network, stage.fresh)
    else:
        trained = train_autoencoders(request, stage.size)
    progress.note(trained.problem)
