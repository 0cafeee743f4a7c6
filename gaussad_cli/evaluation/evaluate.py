"""Fits and evaluates all categories of an extraction: what `gaussad fit` and `gaussad evaluate` do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gaussad_cli.datasets.folds import held_out_parts
from gaussad_cli.errors import UserError, escaped, interruptible
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.calibration import ThresholdsWanted
from gaussad_cli.evaluation.category import (
    OpenCategory,
    choose_levels,
    open_category,
    read_plain_train,
    read_test,
    training_features,
)
from gaussad_cli.evaluation.fitting import level_spectra, store_spectra
from gaussad_cli.evaluation.rows import ByScoring, CategoryRows, LevelDistances, assemble
from gaussad_cli.evaluation.scorings import SCORES, Fold, Scoring, score_all
from gaussad_cli.evaluation.selection import Selection, select_categories, select_extraction
from gaussad_cli.evaluation.sweeping import sweep_level
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.spectrum import Spectrum
from gaussad_cli.parallel import HERE, Distribution, run_tasks

_SHOWN = 3  # number of problems shown in a message


INTERRUPTED = (
    "interrupted. The rows of finished categories and all fitted spectra are kept: run the same command again, or "
    "choose the remaining categories with --categories."
)


@dataclass(frozen=True)
class Opened:
    """The chosen categories and levels of an extraction, and the problems of those that cannot be opened."""

    extraction: store.Extraction
    levels: list[tuple[OpenCategory, tuple[int, ...]]]
    problems: list[str]


def open_categories(selection: Selection, distribution: Distribution) -> Opened:
    """Open the chosen categories at the chosen levels.

    Raises
    ------
    UserError
        If no extraction, or several, fit the selection, or a chosen category is missing.
    """
    extraction = select_extraction(selection)
    if not distribution.is_here:  # other processes may have other working directories
        extraction = replace(extraction, folder=extraction.folder.resolve())
    levels, problems = [], []
    for name in select_categories(extraction, selection.categories):
        try:
            category = open_category(extraction, name)
            levels.append((category, choose_levels(category, selection.levels)))
        except UserError as problem:
            problems.append(str(problem))
    return Opened(extraction, levels, problems)


# --- fit ---


@dataclass(frozen=True)
class FitReport:
    """What a fit did: counts of (category, level) pairs, and the problems, if any."""

    folder: Path
    fitted: int
    already_there: int
    problem: str | None


@interruptible("interrupted. The spectra fitted so far are kept: run the same command again to go on.")
def fit_dataset(selection: Selection, distribution: Distribution = HERE) -> FitReport:
    """Fit and store the spectra of all categories, levels and folds that are not stored yet."""
    opened = open_categories(selection, distribution)
    tasks = [(category.folder, category.train, level) for category, levels in opened.levels for level in levels]
    results_of = run_tasks(_fit_task, tasks, distribution)
    bar = tqdm(results_of, total=len(tasks), desc="fit", unit="level", disable=None, dynamic_ncols=True)
    outcomes = list(bar)
    problems = [*opened.problems, *(str(outcome) for outcome in outcomes if isinstance(outcome, UserError))]
    fitted = [outcome for outcome in outcomes if not isinstance(outcome, UserError)]
    return FitReport(opened.extraction.folder, sum(fitted), len(fitted) - sum(fitted), join_problems(problems))


def _fit_task(category: Path, train: store.Manifest, level: int) -> bool | UserError:
    try:
        return _fit_and_store(category, train, level)
    except UserError as problem:
        return problem


def fit_and_forget(category: Path) -> None:
    """Fit every level of a category, then remove the features: an evaluation needs only the spectra.

    No digits are lost: the features stay on disk until both passes over them are done.
    """
    train = store.read_manifest(category / "train")
    title = f"{escaped(category.name)}, fit"
    for level in tqdm(train.levels, desc=title, unit="level", disable=None, dynamic_ncols=True):
        _fit_and_store(category, train, level)
    store.forget_features(category, train.levels)


def _fit_and_store(category: Path, train: store.Manifest, level: int) -> bool:
    """Fit a level and store its spectra unless they are stored; return whether it had to be fitted."""
    spectra, fitted = level_spectra(category, train, level)
    if fitted:
        store_spectra(category, train, level, spectra)
    return fitted


# --- evaluate ---


@dataclass(frozen=True)
class EvaluationReport:
    """The result of an evaluation.

    Attributes
    ----------
    metrics, thresholds : the rows; None if no thresholds were wanted
    path : the file that the metrics were written to
    problem : what the user must change, if anything
    remarks : what was left out, without being wrong
    """

    metrics: pd.DataFrame
    thresholds: pd.DataFrame | None
    path: Path
    problem: str | None
    remarks: tuple[str, ...] = ()


@interruptible(INTERRUPTED)
def evaluate_dataset(
    selection: Selection,
    scorings: Sequence[Scoring],
    out: Path,
    wanted: ThresholdsWanted | None = None,
    sweep: bool = False,
    distribution: Distribution = HERE,
) -> EvaluationReport:
    """Evaluate every category and write its rows as soon as they are complete.

    Parameters
    ----------
    wanted : the thresholds to compute, if any
    sweep : whether to compute the AUROC for every number of kept components too
    distribution : where the levels are scored

    Raises
    ------
    UserError
        If no category can be evaluated, or the results cannot be written. If only some categories cannot be evaluated,
        or have no AUROC, they are reported and the others are evaluated.
    """
    opened = open_categories(selection, distribution)
    tasks = [
        _Task(category, level, tuple(scorings), wanted, sweep) for category, levels in opened.levels for level in levels
    ]
    scored = run_tasks(_score_task, [(task,) for task in tasks], distribution)
    problems, done = opened.problems, []
    for category, levels in tqdm(opened.levels, desc="evaluate", unit="category", disable=None, dynamic_ncols=True):
        of_levels = [next(scored) for _ in levels]
        try:
            rows = _assemble(category, levels, of_levels, scorings, wanted)
        except UserError as problem:
            problems.append(str(problem))
            continue
        manifest = manifests.of_extraction(category, rows.metrics)
        results.save(out, opened.extraction.dataset, category.name, rows, manifest)
        done.append(rows)
        problems += [rows.warning] if rows.warning else []
    if not done:
        raise UserError(join_problems(problems) or "there is no category to evaluate.")
    thresholds = [rows.thresholds for rows in done if rows.thresholds is not None]
    return EvaluationReport(
        pd.concat([rows.metrics for rows in done], ignore_index=True),
        pd.concat(thresholds, ignore_index=True) if thresholds else None,
        results.metrics_path(out, opened.extraction.dataset),
        join_problems(problems),
    )


@dataclass(frozen=True)
class _Task:
    """One level of one category: levels are scored in parallel."""

    category: OpenCategory
    level: int
    scorings: tuple[Scoring, ...]
    wanted: ThresholdsWanted | None
    sweep: bool


_ScoredLevel = tuple[LevelDistances, pd.DataFrame | None]  # distances, and rows of the sweep


def _score_task(task: _Task) -> _ScoredLevel | UserError:
    """Score one level; a UserError is returned instead of raised, so that other categories go on."""
    try:
        spectra = _spectra(task.category, task.level)
        distances = score_level(task.category, task.level, spectra, task.scorings, task.wanted)
        return distances, sweep_level(task.category, task.level, spectra) if task.sweep else None
    except UserError as problem:
        return problem


def _spectra(category: OpenCategory, level: int) -> list[Spectrum]:
    """Return the spectra of a level's folds; newly fitted spectra are stored if the cache can be written."""
    spectra, fitted = level_spectra(category.folder, category.train, level)
    if fitted:
        with suppress(UserError):  # the cache may be read-only: fitting again is cheap
            store_spectra(category.folder, category.train, level, spectra)
    return spectra


def evaluate_category(category: OpenCategory, levels: Sequence[int], scorings: Sequence[Scoring]) -> CategoryRows:
    """Score the test set of one category in this process; see :func:`evaluate_dataset`."""
    scored = [_score_task(_Task(category, level, tuple(scorings), None, sweep=False)) for level in levels]
    return _assemble(category, levels, scored, scorings, None)


def score_level(
    category: OpenCategory,
    level: int,
    spectra: Sequence[Spectrum],
    scorings: Sequence[Scoring],
    wanted: ThresholdsWanted | None = None,
) -> LevelDistances:
    """Return the distances of the test set, and of the training images that each fold is not fitted to.

    Only scorings with thresholds need the latter; the original images are scored, not augmented ones, as in the test.
    """
    dim = spectra[0].dim
    test = read_test(category, level, dim)
    folds = [Fold(spectrum, training_features(category, level, k)) for k, spectrum in enumerate(spectra)]
    tested = _by_scoring([(fold, test) for fold in folds], scorings)
    if wanted is None:
        return LevelDistances(tested, {})
    plain = read_plain_train(category, level, dim)
    parts = [plain[part] for part in held_out_parts(len(plain))]
    return LevelDistances(tested, _by_scoring(list(zip(folds, parts, strict=True)), wanted.among(scorings)))


def _by_scoring(folds: Sequence[tuple[Fold, store.Features]], scorings: Sequence[Scoring]) -> ByScoring:
    with threadpool_limits(1, user_api="blas"):  # as in level_spectra
        by_fold = [score_all(fold, features, scorings) for fold, features in folds]
    return dict(zip(scorings, map(list, zip(*by_fold, strict=True)), strict=True))


def _assemble(
    category: OpenCategory,
    levels: Sequence[int],
    scored: Sequence[_ScoredLevel | UserError],
    scorings: Sequence[Scoring],
    wanted: ThresholdsWanted | None,
) -> CategoryRows:
    """Turn a category's scored levels into rows; if a level has a problem, it is raised here."""
    weighing = [scoring for scoring in scorings if SCORES[scoring.score].weighs_levels]
    if weighing and len(levels) == 1:
        raise UserError(
            f"--score {weighing[0].score} weighs levels, but '{category.name}' has only level {levels[0]}: "
            "use several levels."
        )
    if wanted and (refused := wanted.among(weighing)):
        raise UserError(f"--threshold does not go with --score {refused[0].score}, which learns from anomalies.")
    good: list[_ScoredLevel] = []
    for level in scored:
        if isinstance(level, UserError):
            raise level
        good.append(level)
    rows = assemble(category, dict(zip(levels, (distances for distances, _ in good), strict=True)), wanted)
    sweeps = [sweep for _, sweep in good if sweep is not None]
    return replace(rows, sweeps=pd.concat(sweeps, ignore_index=True) if sweeps else None)


def join_problems(problems: Sequence[str]) -> str | None:
    """Join distinct problems into one message, which shows only the first few."""
    distinct = list(dict.fromkeys(problems))
    more = f" And {len(distinct) - _SHOWN} more problems." if len(distinct) > _SHOWN else ""
    return " ".join(distinct[:_SHOWN]) + more if distinct else None
