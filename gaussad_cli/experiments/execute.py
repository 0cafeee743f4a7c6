"""Doing what was planned, stage by stage. What is done is not done again: a run that was cut short goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gaussad_cli.backbones.registry import choose_padding, find_backbone, parse_levels
from gaussad_cli.datasets.index import Category
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.calibration import TARGETS, choose_methods
from gaussad_cli.evaluation.cluster import extract_on_cluster
from gaussad_cli.evaluation.dataset import Selection, evaluate_dataset, fit_and_forget
from gaussad_cli.evaluation.evaluate import Calibration
from gaussad_cli.evaluation.parallel import HERE, Distribution
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS, Scoring, Setting, choose_scorings
from gaussad_cli.evaluation.trained import Classifier, TrainingRequest, train_autoencoders, train_classifiers
from gaussad_cli.experiments.config import PAPER
from gaussad_cli.experiments.estimate import estimate, remember_speed
from gaussad_cli.experiments.plan import Evaluation, Extraction, Stage, Training
from gaussad_cli.extraction.extract import Report, Request, extract_dataset


@dataclass(frozen=True)
class Setup:
    """What all stages share: the options of `gaussad run`.

    Attributes
    ----------
    request : of an extraction, without its backbones
    training : of a training
    categories : indexed
    distribution : where evaluations run; extractions too, if that is a cluster
    """

    request: Request
    training: TrainingRequest
    categories: Sequence[Category]
    distribution: Distribution = HERE

    @property
    def cache(self) -> Path:
        """Where features are."""
        return self.request.cache


@dataclass
class Progress:
    """What was done so far.

    Attributes
    ----------
    folders : in the cache, by (backbone, weights, padding, epochs)
    took : stages and their seconds
    problems : what kept categories from being complete
    """

    folders: dict[tuple[str, Path | None, str | None, int], Path] = field(default_factory=dict)
    took: list[tuple[str, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def problem(self) -> str | None:
        """All problems, each once, as one message."""
        return " ".join(dict.fromkeys(self.problems)) or None


def check(stages: Sequence[Stage]) -> None:
    """Find wrong names and options before hours of work on the stages before.

    Raises
    ------
    UserError
        If a stage names a backbone, padding, level, weight file, or threshold method that there is not.
    """
    for stage in stages:
        names = stage.backbones if isinstance(stage, Extraction) else (stage.backbone,)
        padding = stage.padding if isinstance(stage, Training) else stage.source.padding
        levels = None if isinstance(stage, Training) else stage.source.levels
        weights = stage.weights if isinstance(stage, Training) else stage.source.weights
        if weights is not None and not weights.is_file():
            raise UserError(f"no such weight file: {weights}.")
        for backbone in map(find_backbone, names):
            choose_padding(backbone, padding)
            parse_levels(levels, backbone.n_levels)
        if isinstance(stage, Evaluation):
            choose_methods(stage.thresholds)
        if isinstance(stage, Extraction) and stage.source.moments_only and not any(stage.source.epochs):
            raise UserError(
                "--moments-only goes with --epochs: the features of the images as they are are always kept."
            )


def execute(stages: Sequence[Stage], setup: Setup, say: Callable[[str], object]) -> Progress:
    """Run the stages in order.

    Parameters
    ----------
    say : is told what every stage does

    Raises
    ------
    UserError
        If something is asked for that cannot be had. Problems with some categories do not end the run: they are in
        what is returned.
    """
    progress = Progress()
    for number, stage in enumerate(stages, start=1):
        say(f"[{number}/{len(stages)}] {stage}")
        expected = estimate(stage, setup.categories, setup.cache, str(setup.request.dataset))
        start = time.perf_counter()
        _run(stage, setup, progress, say)
        seconds = time.perf_counter() - start
        progress.took.append((str(stage), seconds))
        remember_speed(setup.cache, expected, seconds)
    return progress


def _run(stage: Stage, setup: Setup, progress: Progress, say: Callable[[str], object]) -> None:
    if isinstance(stage, Extraction):
        _extract(stage, setup, progress, say)
    elif isinstance(stage, Evaluation):
        _evaluate(stage, setup, progress)
    else:
        _train(stage, setup, progress)


def _extract(stage: Extraction, setup: Setup, progress: Progress, say: Callable[[str], object]) -> None:
    source = stage.source
    for epochs in [count for count in source.epochs if count] or [0]:
        request = replace(
            setup.request,
            backbones=stage.backbones,
            levels=source.levels,
            weights=source.weights,
            padding=source.padding,
            epochs=epochs,
        )
        after = fit_and_forget if source.moments_only and epochs else None
        scheduler = setup.distribution.scheduler
        report = extract_on_cluster(request, after, scheduler) if scheduler else extract_dataset(request, after)
        say(str(report))
        if not report.categories:
            raise UserError(report.problem)
        _note_folders(stage, report, epochs, progress)


def _note_folders(stage: Extraction, report: Report, epochs: int, progress: Progress) -> None:
    source = stage.source
    for backbone, plain, folder in zip(stage.backbones, report.plain_folders, report.folders, strict=True):
        progress.folders[backbone, source.weights, source.padding, 0] = plain
        progress.folders[backbone, source.weights, source.padding, epochs] = folder
    progress.problems += [report.problem] if report.problem else []


def _evaluate(stage: Evaluation, setup: Setup, progress: Progress) -> None:
    source = stage.source
    folder = progress.folders[stage.backbone, source.weights, source.padding, stage.epochs]
    dataset, key = folder.parent.parent.name, folder.name
    levels = stage.levels or source.levels
    there = _complete(folder, setup.categories)
    selection = Selection(stage.backbone, setup.cache, dataset, there, levels, key=key)
    out, where = setup.training.out, setup.distribution
    scorings, calibration = _scorings(stage.scores), None
    if stage.thresholds:
        calibrated = Scoring("mahalanobis")
        calibration = Calibration(choose_methods(stage.thresholds), TARGETS, (calibrated,))
        scorings = tuple(dict.fromkeys([*scorings, calibrated]))
    outcome = evaluate_dataset(selection, scorings, out, calibration, PAPER in stage.scores, where)
    progress.problems += [outcome.problem] if outcome.problem else []


def _complete(folder: Path, categories: Sequence[Category]) -> list[str]:
    """Return the categories that were extracted; what kept the others from it was said."""
    return [category.name for category in categories if (folder / category.name / "train" / "manifest.json").is_file()]


def _scorings(scores: Sequence[str]) -> tuple[Scoring, ...]:
    several = [PAPER_SCORINGS if score == PAPER else choose_scorings(score, Setting()) for score in scores]
    return tuple(dict.fromkeys(scoring for some in several for scoring in some))


def _train(stage: Training, setup: Setup, progress: Progress) -> None:
    request = replace(setup.training, max_epochs=stage.max_epochs)
    if stage.kind == "classifier":
        network = Classifier(stage.backbone, stage.weights, setup.request.verify, stage.padding, stage.fresh)
        trained = train_classifiers(request, network)
    else:
        trained = train_autoencoders(request, stage.size)
    progress.problems += [trained.problem] if trained.problem else []
