"""Formats the results of an evaluation as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gaussad_cli.evaluation.calibration import mean_gaps, per_category
from gaussad_cli.evaluation.scorings import PLACES_GREATEST, PLACES_SCALED, PLACES_TOP, Scoring


def summarise(metrics: pd.DataFrame, scorings: Sequence[Scoring]) -> str:
    """Format the AUROCs just measured: per level and category for one scoring, else per scoring and level."""
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


_OF_PLACES = {
    "AUROC, scaled": (PLACES_SCALED, "auroc"),
    "AUROC, max": (PLACES_GREATEST, "auroc"),
    "AUROC, top 1 %": (PLACES_TOP, "auroc"),
    "AP": (PLACES_GREATEST, "ap"),
    "pixel AUROC": (PLACES_GREATEST, "pixel_auroc"),
    "AUPRO": (PLACES_GREATEST, "aupro"),
    "pointing": (PLACES_GREATEST, "pointing"),
}  # a line's columns


def summarise_places(metrics: pd.DataFrame) -> str:
    """Format the metrics of places just measured: a line per category, then mean and SEM over categories."""
    blocks = []
    for (mode, var), rows in metrics.groupby(["mode", "var"], dropna=False, sort=False):
        name = f"{mode}{'' if pd.isna(var) else f' {100 * var:g}%'}"
        first = rows.iloc[0]
        heading = f"{first['backbone']}, level {first['level']}, {name}: in percent, mean over folds"
        blocks.append(f"{heading}\n{_places_table(rows).to_string(float_format='{:.1f}'.format, na_rep='-')}")
    return "\n\n".join(blocks)


def _places_table(rows: pd.DataFrame) -> pd.DataFrame:
    columns = {
        title: 100 * rows[rows["score"] == score].groupby("category", sort=False)[metric].mean()
        for title, (score, metric) in _OF_PLACES.items()
        if metric in rows
    }
    table = pd.DataFrame(columns).rename_axis(None)
    if len(table) > 1:
        sem = table.sem(ddof=1)
        table.loc["mean"] = table.mean(skipna=False)
        table.loc["SEM"] = sem
    return table


def _scoring_names(rows: pd.DataFrame) -> pd.Series:
    var = rows["var"].map(lambda value: "" if pd.isna(value) else f" {100 * value:g}%")
    mode = rows["mode"].replace({"all": "", "pca": "PCA", "npca": "NPCA"})
    return (rows["score"] + " " + mode + var).str.strip()


def summarise_thresholds(rows: pd.DataFrame) -> str:
    """Format wanted and achieved false-positive rates: in full for one scoring and level, else only the mean gaps."""
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
    """Return a line on whether normal test images are like the training images that calibrate the thresholds."""
    if pd.isna(row["drift"]):
        return []
    farther = f"Normal test images lie farther out than held-out training images in {100 * row['drift']:.0f} % of pairs"
    alike = "this may be chance" if row["drift_p"] >= 0.05 else "they differ, and calibration cannot keep its promise"
    return [f"{farther} (p = {row['drift_p']:.2g}): {alike}."]


def _rate_cell(row: Any) -> str:
    return f"{100 * row.fpr:.1f} ({100 * row.tpr:.0f}){' ' if row.within else '*'}"
