"""All categories of an extraction: what `gaussad fit` and `gaussad evaluate` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.calibration import mean_gaps, per_category
from gaussad_cli.evaluation.evaluate import ByFold, Calibration, Evaluation, assemble, check_levels, score_level
from gaussad_cli.evaluation.fitting import fit_level, store_spectra
from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.evaluation.selection import select_categories, select_extraction, select_levels
from gaussad_cli.evaluation.sweeping import sweep_category
from gaussad_cli.extraction.store import Extraction, forget_features, read_manifest
from gaussad_cli.parallel import HERE, Distribution, run_tasks


@dataclass(frozen=True)
class Selection:
    """Which cached features are meant: the options that `fit` and `evaluate` share; see their help."""

    backbone: str
    cache: Path
    dataset: str | None = None
    categories: Sequence[str] | None = None
    levels: str | None = None
    padding: str | None = None
    key: str | None = None
    epochs: int | None = None

    def resolve(self) -> tuple[Extraction, list[str]]:
        """Return the extraction and its chosen categories.

        Raises
        ------
        UserError
            If the options fit no extraction, or several.
        """
        extraction = select_extraction(self.cache, self.backbone, self.dataset, self.padding, self.key, self.epochs)
        return extraction, select_categories(extraction, self.categories)


_SHOWN = 3  # problems told in full


@dataclass(frozen=True)
class FitReport:
    """What a fit did: counts of (category, level) pairs, and what went wrong, if anything."""

    folder: Path
    fitted: int
    already_there: int
    problem: str | None


@interruptible("interrupted. The spectra fitted so far are kept: run the same command again to go on.")
def fit_dataset(selection: Selection, distribution: Distribution = HERE) -> FitReport:
    """Fit and store the spectra of every category, level and fold that are not stored yet."""
    extraction, names = selection.resolve()
    if not distribution.is_here:  # other processes may be in other folders
        extraction = replace(extraction, folder=extraction.folder.resolve())
    levels, problems = _levels_of(extraction, names, selection.levels)
    tasks = [(extraction.folder / name, level) for name, several in levels.items() for level in several]
    fitted = []
    results_of = run_tasks(_fit_task, tasks, distribution)
    for result in tqdm(results_of, total=len(tasks), desc="fit", unit="level", disable=None, dynamic_ncols=True):
        if isinstance(result, UserError):
            problems.append(str(result))
        else:
            fitted.append(result)
    return FitReport(extraction.folder, sum(fitted), len(fitted) - sum(fitted), _joined(list(dict.fromkeys(problems))))


def _levels_of(
    extraction: Extraction, names: Sequence[str], wanted: str | None
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Return the levels of every category that has them, and what is wrong with the others."""
    levels, problems = {}, []
    for name in names:
        try:
            levels[name] = select_levels(extraction, name, wanted)
        except UserError as problem:
            problems.append(str(problem))
    return levels, problems


def _fit_task(category: Path, level: int) -> bool | UserError:
    try:
        return _fit_and_store(category, level)
    except UserError as problem:
        return problem


def fit_and_forget(category: Path) -> None:
    """Fit every level of a category, then remove the features: the spectra are all that an evaluation needs of them.

    That costs no digit: the features lie on disk until both passes over them are done.
    """
    levels = sorted(read_manifest(category / "train").levels)
    for level in tqdm(levels, desc=f"{category.name}, fit", unit="level", disable=None, dynamic_ncols=True):
        _fit_and_store(category, level)
    forget_features(category, levels)


def _fit_and_store(category: Path, level: int) -> bool:
    """Return whether the level had to be fitted."""
    spectra, fitted = fit_level(category, level)
    if fitted:
        store_spectra(category, level, spectra)
    return fitted


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave: the rows written, where to, and what went wrong, if anything."""

    metrics: pd.DataFrame
    thresholds: pd.DataFrame | None
    path: Path
    problem: str | None


@interruptible(
    "interrupted. The rows of the categories before are kept, and what is fitted is not fitted again: run the same "
    "command again, or name the categories that are left with --categories."
)
def evaluate_dataset(
    selection: Selection,
    scorings: Sequence[Scoring],
    out: Path,
    calibration: Calibration | None = None,
    sweep: bool = False,
    distribution: Distribution = HERE,
) -> Outcome:
    """Evaluate every category and write its rows as soon as they are complete.

    Parameters
    ----------
    sweep : whether to evaluate every number of kept components too
    distribution : where the levels are scored

    Raises
    ------
    UserError
        If no category can be evaluated, or the results cannot be written. A category that cannot be evaluated, or has
        no AUROC, does not keep the others back: it is reported.
    """
    extraction, names = selection.resolve()
    if not distribution.is_here:  # other processes may be in other folders
        extraction = replace(extraction, folder=extraction.folder.resolve())
    levels, problems = _levels_of(extraction, names, selection.levels)
    tasks = [
        _Task(extraction, name, level, tuple(scorings), calibration, sweep)
        for name, several in levels.items()
        for level in several
    ]
    scored = run_tasks(_score, [(task,) for task in tasks], distribution)
    evaluations = []
    for name in tqdm(levels, desc="evaluate", unit="category", disable=None, dynamic_ncols=True):
        of_levels = [next(scored) for _ in levels[name]]
        try:
            evaluation, sweeps = _put_together(extraction, name, levels[name], of_levels, scorings, calibration)
            manifest = manifests.of_extraction(extraction, name, evaluation.metrics)
        except UserError as problem:
            problems.append(str(problem))
            continue
        rows = evaluation.metrics, evaluation.scores, evaluation.thresholds
        results.save(out, extraction.dataset, name, *rows, sweeps=sweeps, manifest=manifest)
        evaluations.append(evaluation)
        problems += [evaluation.warning] if evaluation.warning else []
    if not evaluations:
        raise UserError(_joined(problems) or "nothing to evaluate.")
    metrics = pd.concat([evaluation.metrics for evaluation in evaluations], ignore_index=True)
    calibrated = [evaluation.thresholds for evaluation in evaluations if evaluation.thresholds is not None]
    thresholds = pd.concat(calibrated, ignore_index=True) if calibrated else None
    return Outcome(metrics, thresholds, results.metrics_path(out, extraction.dataset), _joined(problems))


@dataclass(frozen=True)
class _Task:
    """One level of one category: what is done in parallel."""

    extraction: Extraction
    category: str
    level: int
    scorings: tuple[Scoring, ...]
    calibration: Calibration | None
    sweep: bool


_Level = tuple[tuple[ByFold, ByFold], pd.DataFrame | None]  # distances, and rows of the sweep


def _score(task: _Task) -> _Level | UserError:
    """Score one level; what the user can put right is returned, so that it keeps no other category back."""
    try:
        where = task.extraction, task.category
        scored = score_level(*where, task.level, task.scorings, task.calibration)
        return scored, sweep_category(*where, [task.level]) if task.sweep else None
    except UserError as problem:
        return problem


def _put_together(
    extraction: Extraction,
    category: str,
    levels: Sequence[int],
    of_levels: Sequence[_Level | UserError],
    scorings: Sequence[Scoring],
    calibration: Calibration | None,
) -> tuple[Evaluation, pd.DataFrame | None]:
    check_levels(category, levels, scorings, calibration)
    scored, sweeps = {}, []
    for level, one in zip(levels, of_levels, strict=True):
        if isinstance(one, UserError):
            raise one
        scored[level] = one[0]
        sweeps += [one[1]] if one[1] is not None else []
    evaluation = assemble(extraction, category, scored, calibration)
    return evaluation, pd.concat(sweeps, ignore_index=True) if sweeps else None


def _joined(problems: Sequence[str]) -> str | None:
    """Make one message of several; many are seldom different."""
    more = f" And {len(problems) - _SHOWN} more categories have problems." if len(problems) > _SHOWN else ""
    return " ".join(problems[:_SHOWN]) + more if problems else None


def summarise(metrics: pd.DataFrame, scorings: Sequence[Scoring]) -> str:
    """Lay out the AUROCs just measured: per level and category for one scoring, else per scoring and level."""
    several = len(scorings) > 1
    frame = metrics.assign(scoring=_scoring_names(metrics), percent=100 * metrics["auroc"])
    index, columns = ("scoring", "level") if several else ("level", "category")
    averaged = frame.groupby([index, *{columns, "category"}], sort=False)["percent"].mean().reset_index()
    table = averaged.pivot_table(index=index, columns=columns, values="percent", sort=False, dropna=False)
    if not several:
        table["mean"] = table.mean(axis=1)
    table.columns.name = table.index.name = None
    heading = "AUROC in percent, mean over folds" + (
        f" and {frame['category'].nunique()} categories" if several else ""
    )
    return f"{heading}\n{table.to_string(float_format='{:.1f}'.format, na_rep='-')}"


def _scoring_names(rows: pd.DataFrame) -> pd.Series:
    var = rows["var"].map(lambda value: "" if pd.isna(value) else f" {100 * value:g}%")
    mode = rows["mode"].replace({"all": "", "pca": "PCA", "npca": "NPCA"})
    return (rows["score"] + " " + mode + var).str.strip()


def summarise_thresholds(rows: pd.DataFrame) -> str:
    """Lay out wanted and achieved false-positive rates: in full for one scoring and level, else the mean gaps."""
    gaps = mean_gaps(rows.assign(scoring=_scoring_names(rows)))
    lines = [
        "Mean gap between wanted and achieved FPR, percentage points, over categories and wanted rates",
        gaps.to_string(float_format="{:.1f}".format, na_rep="-"),
    ]
    if len(gaps) == 1:
        frame = per_category(rows)
        for category, of_category in frame.groupby("category", sort=False):
            cells = of_category.assign(
                wanted=(100 * of_category["target"]).map("{:.4g}".format),
                cell=[_rate_cell(row) for row in of_category.itertuples()],
            )
            table = cells.pivot_table(index="wanted", columns="method", values="cell", sort=False, aggfunc="first")
            table.columns.name = table.index.name = None
            first = of_category.iloc[0]
            heading = f"{category}: achieved FPR in percent (TPR), {first['n_normal']:.0f} normal test images"
            lines += ["", heading, table.to_string(), *_drift_line(first)]
        lines += ["", "*: the wanted rate lies outside the 95 % binomial interval of the achieved one."]
    return "\n".join(lines)


def _drift_line(row: Any) -> list[str]:
    """Say whether normal test images are like the training images that thresholds are calibrated on."""
    if pd.isna(row["drift"]):
        return []
    farther = f"Normal test images lie farther out than held-out training images in {100 * row['drift']:.0f} % of pairs"
    alike = "this may be chance" if row["drift_p"] >= 0.05 else "they differ, and calibration cannot keep its promise"
    return [f"{farther} (p = {row['drift_p']:.2g}): {alike}."]


def _rate_cell(row: Any) -> str:
    return f"{100 * row.fpr:.1f} ({100 * row.tpr:.0f}){' ' if row.within else '*'}"
