"""All categories of an extraction: what `gaussad fit` and `gaussad evaluate` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.evaluate import evaluate_category
from gaussad_cli.evaluation.fitting import fit_level, store_spectra
from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.evaluation.selection import select_categories, select_extraction, select_levels
from gaussad_cli.extraction.store import Extraction


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

    def resolve(self) -> tuple[Extraction, list[str]]:
        """Return the extraction and its chosen categories.

        Raises
        ------
        UserError
            If the options fit no extraction, or several.
        """
        extraction = select_extraction(self.cache, self.backbone, self.dataset, self.padding, self.key)
        return extraction, select_categories(extraction, self.categories)


_SHOWN = 3  # problems told in full


@dataclass(frozen=True)
class FitReport:
    """What a fit did: counts of (category, level) pairs, and what went wrong, if anything."""

    folder: Path
    fitted: int
    already_there: int
    problem: str | None


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
    path: Path
    problem: str | None


def evaluate_dataset(selection: Selection, scorings: Sequence[Scoring], out: Path) -> Outcome:
    """Evaluate every category and write its rows before the next is begun.

    Raises
    ------
    UserError
        If no category can be evaluated, or the results cannot be written. A category that cannot be evaluated, or has
        no AUROC, does not keep the others back: it is reported.
    """
    extraction, names = selection.resolve()
    frames, problems = [], []
    for name in tqdm(names, desc="evaluate", unit="category", disable=None, dynamic_ncols=True):
        try:
            levels = select_levels(extraction, name, selection.levels)
            evaluation = evaluate_category(extraction, name, levels, scorings)
        except UserError as problem:
            problems.append(str(problem))
            continue
        results.save(out, extraction.dataset, name, evaluation.metrics, evaluation.scores)
        frames.append(evaluation.metrics)
        problems += [evaluation.warning] if evaluation.warning else []
    if not frames:
        raise UserError(_joined(problems) or "nothing to evaluate.")
    metrics = pd.concat(frames, ignore_index=True)
    return Outcome(metrics, results.metrics_path(out, extraction.dataset), _joined(problems))


def _joined(problems: Sequence[str]) -> str | None:
    """Make one message of several; many are seldom different."""
    more = f" And {len(problems) - _SHOWN} more categories have problems." if len(problems) > _SHOWN else ""
    return " ".join(problems[:_SHOWN]) + more if problems else None


def summarise(metrics: pd.DataFrame, scorings: Sequence[Scoring]) -> str:
    """Lay out the AUROCs just measured: per level and category for one scoring, else per scoring and level."""
    several = len(scorings) > 1
    var = metrics["var"].map(lambda value: "" if pd.isna(value) else f" {100 * value:g}%")
    mode = metrics["mode"].where(metrics["mode"] != "all", "").str.upper()
    frame = metrics.assign(scoring=(metrics["score"] + " " + mode + var).str.strip(), percent=100 * metrics["auroc"])
    index, columns = ("scoring", "level") if several else ("level", "category")
    per_category = frame.groupby([index, *{columns, "category"}], sort=False)["percent"].mean().reset_index()
    table = per_category.pivot_table(index=index, columns=columns, values="percent", sort=False, dropna=False)
    if not several:
        table["mean"] = table.mean(axis=1)
    table.columns.name = table.index.name = None
    heading = "AUROC in percent, mean over folds" + (
        f" and {frame['category'].nunique()} categories" if several else ""
    )
    return f"{heading}\n{table.to_string(float_format='{:.1f}'.format, na_rep='-')}"
