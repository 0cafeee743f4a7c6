"""All categories of an extraction: what `gaussad fit` and `gaussad evaluate` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.calibration import mean_gaps, per_category
from gaussad_cli.evaluation.evaluate import Calibration, evaluate_category
from gaussad_cli.evaluation.fitting import fit_level, store_spectra
from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.evaluation.selection import select_categories, select_extraction, select_levels
from gaussad_cli.evaluation.sweeping import sweep_category
from gaussad_cli.extraction.store import Extraction, forget_features, read_manifest


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
def fit_dataset(selection: Selection) -> FitReport:
    """Fit and store the spectra of every category, level and fold that are not stored yet."""
    extraction, names = selection.resolve()
    fitted, problems = [], []
    for name in tqdm(names, desc="fit", unit="category", disable=None, dynamic_ncols=True):
        try:
            levels = select_levels(extraction, name, selection.levels)
            fitted += [_fit_and_store(extraction.folder / name, level) for level in levels]
        except UserError as problem:
            problems.append(str(problem))
    return FitReport(extraction.folder, sum(fitted), len(fitted) - sum(fitted), _joined(problems))


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
) -> Outcome:
    """Evaluate every category and write its rows before the next is begun.

    Parameters
    ----------
    sweep : whether to evaluate every number of kept components too

    Raises
    ------
    UserError
        If no category can be evaluated, or the results cannot be written. A category that cannot be evaluated, or has
        no AUROC, does not keep the others back: it is reported.
    """
    extraction, names = selection.resolve()
    evaluations, problems = [], []
    for name in tqdm(names, desc="evaluate", unit="category", disable=None, dynamic_ncols=True):
        try:
            levels = select_levels(extraction, name, selection.levels)
            evaluation = evaluate_category(extraction, name, levels, scorings, calibration)
            sweeps = sweep_category(extraction, name, levels) if sweep else None
        except UserError as problem:
            problems.append(str(problem))
            continue
        rows = evaluation.metrics, evaluation.scores, evaluation.thresholds
        results.save(out, extraction.dataset, name, *rows, sweeps=sweeps)
        evaluations.append(evaluation)
        problems += [evaluation.warning] if evaluation.warning else []
    if not evaluations:
        raise UserError(_joined(problems) or "nothing to evaluate.")
    metrics = pd.concat([evaluation.metrics for evaluation in evaluations], ignore_index=True)
    calibrated = [evaluation.thresholds for evaluation in evaluations if evaluation.thresholds is not None]
    thresholds = pd.concat(calibrated, ignore_index=True) if calibrated else None
    return Outcome(metrics, thresholds, results.metrics_path(out, extraction.dataset), _joined(problems))


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
