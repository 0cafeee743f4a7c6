"""Figures from the results."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gaussad_cli.evaluation.calibration import per_category
from gaussad_cli.files import write_whole

_COLUMNS = 3
_MARKERS = "osD^v"
_TICKS = (0, 1, 5, 10, 20, 30, 50, 70, 100)


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
    columns = 2 if len(categories) in (2, 4) else min(_COLUMNS, len(categories))
    lines = ceil(len(categories) / columns)
    figure = Figure(figsize=(max(6.0, 4.0 * columns), 3.9 * lines + 1.0), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels[len(categories) :]:
        panel.set_visible(False)
    for panel, category in zip(panels, categories, strict=False):
        _draw_category(panel, category, frame[frame["category"] == category])
    figure.suptitle(title, fontsize=11)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))


def draw_histories(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw the losses of every fold by epoch, a figure per category, as PNG; dots are the epochs that scored.

    Parameters
    ----------
    rows : of one kind of network (`results.HISTORIES`)

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    return [_draw_history(of_category, folder) for _, of_category in rows.groupby("category", sort=False)]


def _draw_history(rows: pd.DataFrame, folder: Path) -> Path:
    from matplotlib.figure import Figure

    first = rows.iloc[0]
    ranked = rows["valid_auroc"].notna().any()
    panels = [("train_loss", "training loss"), ("valid_loss", "validation loss")]
    panels += [("valid_auroc", "validation AUROC")] if ranked else []
    figure = Figure(figsize=(4.0 * len(panels), 3.6), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for fold, line in rows.groupby("fold"):
            (drawn,) = axes.plot(line["epoch"] + 1, line[column], label=f"fold {fold}", linewidth=1)
            best = line[line["best"] == 1]
            axes.plot(best["epoch"] + 1, best[column], "o", color=drawn.get_color(), markersize=5)
        axes.set(xlabel="epoch", title=title, yscale="linear" if column == "valid_auroc" else "log")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"{first['category']}, {first['score']}, {first['backbone']} ({first['weights']})", fontsize=11)
    name = f"training-{first['category']}-{first['score']}-{first['backbone']}-{first['key']}.png"
    path = folder / str(name).replace(":", "-")
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))
    return path


def _draw_category(panel: Any, category: str, frame: pd.DataFrame) -> None:
    n = int(frame["n_normal"].iloc[0])
    widest = 1.1 * frame["target"].max()
    wanted = np.linspace(0, widest, 200)
    low, high = stats.binom.interval(0.95, n, wanted)
    panel.fill_between(100 * wanted, 100 * low / n, 100 * high / n, color="0.92", label="95 % binomial range")
    panel.plot(100 * wanted, 100 * wanted, color="0.6", linewidth=1, label="wanted = achieved")
    for number, (method, line) in enumerate(frame.groupby("method", sort=False)):
        points = 100 * line.sort_values("target")[["target", "fpr"]]
        marker = _MARKERS[number % len(_MARKERS)]
        panel.plot(points["target"], points["fpr"], label=method, marker=marker, markersize=4, linewidth=1)
    # Roots: small rates are the ones that matter, and zero, which a logarithm would not show, is one of them.
    roots = (lambda x: np.sqrt(np.maximum(x, 0)), np.square)
    panel.set(xlabel="wanted FPR, %", ylabel="achieved FPR, %")
    panel.set_title(f"{category}, {n} normal test images", fontsize=10)
    for axis, limit in (("x", 100 * widest), ("y", 100.0)):
        ticks = [tick for tick in _TICKS if tick <= limit]
        getattr(panel, f"set_{axis}scale")("function", functions=roots)
        getattr(panel, f"set_{axis}ticks")(ticks, [f"{tick:g}" for tick in ticks])
        getattr(panel, f"set_{axis}lim")(0, limit)
