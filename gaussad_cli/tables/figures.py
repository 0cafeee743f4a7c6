"""Figures from the results."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pandas as pd

from gaussad_cli.evaluation.calibration import per_category
from gaussad_cli.files import write_whole

_COLUMNS = 3
_MARKERS = "osD^v"


def draw_calibration(rows: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the wanted against the achieved false-positive rate, a panel per category and a line per method, as PNG.

    Parameters
    ----------
    rows : of one scoring and level (`results.THRESHOLDS`)

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    frame = per_category(rows)
    categories = frame["category"].unique()
    columns = min(_COLUMNS, len(categories))
    lines = ceil(len(categories) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.9 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels[len(categories) :]:
        panel.set_visible(False)
    for panel, category in zip(panels, categories, strict=False):
        of_category = frame[frame["category"] == category]
        lowest = 100 * of_category["target"].min()
        panel.plot([lowest, 100], [lowest, 100], color="0.6", linewidth=1, label="wanted = achieved")
        for number, (method, line) in enumerate(of_category.groupby("method", sort=False)):
            line = line.sort_values("target")  # noqa: PLW2901
            wanted, achieved = 100 * line["target"], 100 * line["fpr"]
            style = {"marker": _MARKERS[number % len(_MARKERS)], "markersize": 4, "linewidth": 1}
            (drawn,) = panel.plot(wanted, achieved, label=method, **style)
            low, high = 100 * line["fpr_low"], 100 * line["fpr_high"]
            panel.fill_between(wanted, low, high, color=drawn.get_color(), alpha=0.08, linewidth=0)
        panel.set(title=f"{category} ({int(of_category['n_normal'].iloc[0])} normal test images)")
        panel.set(xscale="log", xlabel="wanted FPR, %", ylabel="achieved FPR, %", ylim=(-3, 103))
    figure.suptitle(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))
