"""All categories of an extraction: what `gaussad fit` and `gaussad evaluate` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

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

    def resolve(self) -> tuple[Extraction, dict[str, tuple[int, ...]]]:
        """Return the extraction, and the levels per category.

        Raises
        ------
        UserError
            If the options fit no extraction, or several.
        """
        extraction = select_extraction(self.cache, self.backbone, self.dataset, self.padding, self.key)
        names = select_categories(extraction, self.categories)
        return extraction, {name: select_levels(extraction, name, self.levels) for name in names}


def fit_dataset(selection: Selection) -> tuple[Path, int, int]:
    """Fit and store the spectra of every category, level and fold that are not stored yet.

    Returns
    -------
    folder : of the extraction
    fitted, total : counts of (category, level) pairs
    """
    extraction, levels = selection.resolve()
    tasks = [(extraction.folder / name, level) for name, its_levels in levels.items() for level in its_levels]
    n_fitted = 0
    for category, level in tqdm(tasks, desc="fit", unit="level", disable=None, dynamic_ncols=True):
        spectra, fitted = fit_level(category, level)
        if fitted:
            store_spectra(category, level, spectra)
            n_fitted += 1
    return extraction.folder, n_fitted, len(tasks)


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave: the rows written, where to, and a warning per category without an AUROC."""

    metrics: pd.DataFrame
    path: Path
    warnings: tuple[str, ...]


def evaluate_dataset(selection: Selection, scorings: Sequence[Scoring], out: Path) -> Outcome:
    """Evaluate every category and write its rows before the next is begun."""
    extraction, levels = selection.resolve()
    frames, warnings = [], []
    for name in tqdm(list(levels), desc="evaluate", unit="category", disable=None, dynamic_ncols=True):
        evaluation = evaluate_category(extraction, name, levels[name], scorings)
        results.save(out, extraction.dataset, name, evaluation.metrics, evaluation.scores)
        frames.append(evaluation.metrics)
        warnings += [evaluation.warning] if evaluation.warning else []
    metrics = pd.concat(frames, ignore_index=True)
    return Outcome(metrics, results.metrics_path(out, extraction.dataset), tuple(warnings))


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
