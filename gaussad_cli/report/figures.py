"""The figures of the report: one SVG per panel, so that panels stand side by side or, on a phone, in one column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gaussad_cli.errors import escaped
from gaussad_cli.evaluation.calibration import METHODS
from gaussad_cli.evaluation.scorings import SCORES
from gaussad_cli.report.calibration import draw_rates
from gaussad_cli.tables.build import LAYOUTS
from gaussad_cli.tables.cells import CellSource, TableCell, Variant, comparable, measure, publish

if TYPE_CHECKING:
    from matplotlib.figure import Figure
import io
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_RATE = 0.05  # the wanted false-positive rate of the thresholds in the histograms


@dataclass(frozen=True)
class Panel:
    """A drawing, and its description for readers who do not see it."""

    svg: str
    description: str


def _panel(figure: Figure, name: str, description: str) -> Panel:
    return Panel(as_svg(figure, name, description), description)


def draw_levels(metrics: pd.DataFrame, variant: Variant, levels: Sequence[str], name: str) -> Panel:
    """Draw AUROC against level, a line per score (Table I), mean and SEM over categories; dashed: the paper's means."""
    figure, axes = new_panel(3.6, 2.8)
    published = comparable(1, metrics)
    x = np.array(levels, dtype=int)
    ends = []
    for colour, scoring in zip(SERIES, LAYOUTS[1].scorings, strict=False):
        cells = [TableCell(level, source=CellSource.of(variant, scoring)) for level in levels]
        cells = [publish(published, measure(metrics, cell)) for cell in cells]
        mean, sem, paper = np.array([(c.mean, c.sem, c.published_mean) for c in cells], dtype=float).T
        axes.plot(x, mean, "o-", color=colour, markersize=3, linewidth=1.6, label=SCORES[scoring.score].title)
        axes.fill_between(x, mean - sem, mean + sem, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, paper, "--", color=colour, linewidth=0.9)
        ends.append(f"{SCORES[scoring.score].title} {mean[-1]:.1f} at level {x[-1]}")
    label(axes, variant.backbone, "level", "AUROC, %")
    axes.set_xticks(x)
    legend(axes, "lower right")
    return _panel(figure, name, f"AUROC by level, {variant.backbone}: {', '.join(ends)}.")


def draw_sweep(rows: pd.DataFrame, points: pd.DataFrame, title: str, name: str) -> Panel:
    """Draw AUROC against the number of kept components, by PCA and NPCA; dots are the points of Table III.

    Parameters
    ----------
    rows : of `sweeps.csv`, for one category, backbone and level
    points : of `metrics.csv`, for the same
    """
    figure, axes = new_panel()
    ends = []
    for colour, mode, words in zip(SERIES, ("pca", "npca"), ("PCA: most-variant", "NPCA: least-variant"), strict=False):
        line = rows[rows["mode"] == mode].sort_values("dim")
        axes.plot(line["dim"], 100 * line["auroc"], "-", color=colour, linewidth=1.6, label=words)
        dots = points[points["mode"] == mode].groupby("var")[["dim", "auroc"]].mean()
        axes.plot(dots["dim"], 100 * dots["auroc"], "o", color=colour, markersize=3.5)
        if len(line):
            best = line.loc[line["auroc"].idxmax()]
            ends.append(f"{mode.upper()} best {100 * best['auroc']:.1f} with {best['dim']:.0f} components")
    axes.set_xscale("log")
    label(axes, title, "components kept", "AUROC, %")
    legend(axes, "lower right")
    return _panel(figure, name, f"{title}: {'; '.join(ends)}.")


def draw_roc(scores: Iterable[tuple[str, pd.DataFrame]], category: str, name: str) -> Panel:
    """Draw the ROC curve of every network on one category.

    Parameters
    ----------
    scores : names of networks, and their rows of `scores/<category>.csv` for one scoring and level
    """
    from sklearn.metrics import auc, roc_curve

    figure, axes = new_panel(3.3, 3.1)
    axes.plot([0, 100], [0, 100], color=GRID, linewidth=1)
    ends = []
    for colour, (network, rows) in zip(SERIES, scores, strict=False):
        fpr, tpr, _ = roc_curve(rows["anomalous"] == 1, rows["distance"], drop_intermediate=False)
        area = float(auc(fpr, tpr))
        axes.plot(100 * fpr, 100 * tpr, color=colour, linewidth=1.5, label=f"{network} {100 * area:.1f}")
        ends.append(f"{network} {100 * area:.1f} %")
    label(axes, category, "false-positive rate, %", "true-positive rate, %")
    legend(axes, "lower right")
    return _panel(figure, name, f"ROC curves, {category}: area {', '.join(ends)}.")


def draw_histogram(rows: pd.DataFrame, thresholds: pd.DataFrame, category: str, name: str) -> Panel:
    """Draw the distances of normal and anomalous test images, and thresholds for one wanted false-positive rate.

    Parameters
    ----------
    rows : of `scores/<category>.csv`, for one scoring and level
    thresholds : of `thresholds.csv`, for the same; may be empty
    """
    figure, axes = new_panel()
    distance, anomalous = rows["distance"].to_numpy(), rows["anomalous"].to_numpy() == 1
    top = np.quantile(distance, 0.995)
    bins = np.linspace(distance.min(), max(top, distance.min() + 1e-9), 30)
    shown = np.minimum(distance, bins[-1])
    for colour, which, words in ((SERIES[0], ~anomalous, "normal"), (SERIES[1], anomalous, "anomalous")):
        axes.hist(shown[which], bins=bins.tolist(), color=colour, alpha=0.65, label=f"{words} ({which.sum()})")
    wanted = thresholds[np.isclose(thresholds["target"].astype(float), SHOWN_RATE)]
    for style, method in (("--", "chi2"), ("-", "conformal")):
        values = wanted.loc[wanted["method"] == method, "threshold"].astype(float)
        if len(values) and np.isfinite(values.mean()) and values.mean() <= bins[-1]:
            axes.axvline(
                values.mean(), color=INK, linestyle=style, linewidth=1.1, label=f"{method}, {100 * SHOWN_RATE:g} %"
            )
    label(axes, category, "distance", "images")
    legend(axes, "upper right")
    return _panel(
        figure, name, f"Distances, {category}: {int((~anomalous).sum())} normal, {int(anomalous.sum())} anomalous."
    )


def draw_working_point(frame: pd.DataFrame, category: str, name: str) -> Panel:
    """Draw the wanted against the achieved false-positive rate, a line per method.

    Parameters
    ----------
    frame : of `calibration.per_category`, for one category
    """
    figure, axes = new_panel(3.3, 3.1)
    draw_rates(axes, frame, SERIES, FAINT, GRID)
    label(axes, f"{category}, {frame['n_normal'].iloc[0]:.0f} normal images", "wanted FPR, %", "achieved FPR, %")
    legend(axes)
    gaps = 100 * (frame["fpr"] - frame["target"]).abs().groupby(frame["method"]).mean()
    ends = ", ".join(f"{method} {gaps[method]:.1f}" for method in METHODS if method in gaps)
    return _panel(figure, name, f"Calibration, {category}: mean gaps in points: {ends}.")


# Colours that nothing else uses: matplotlib draws with them, then they are replaced by the page's CSS variables.
INK, FAINT, GRID = "#010101", "#010102", "#010103"
SERIES = tuple(f"#0102{number:02x}" for number in range(1, 9))
_VARIABLES = {INK: "ink", FAINT: "faint", GRID: "grid"} | {c: f"c{n}" for n, c in enumerate(SERIES)}
WIDTH, HEIGHT = 3.3, 2.6  # inches; the page scales a panel to the width of its place


def new_panel(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return a figure of one panel, styled like the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(which="both", colors=FAINT, labelcolor=INK, labelsize=8)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Name a panel and its axes."""
    axes.set_title(escaped(title), fontsize=9, color=INK, loc="left", parse_math=False)  # names may hold $
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)


def legend(axes: Axes, where: Literal["best", "upper left", "upper right", "lower right"] = "best") -> None:
    """Show a panel's legend."""
    axes.legend(loc=where, fontsize=7, frameon=False, labelcolor=INK, handlelength=1.6)


def as_svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an SVG element for HTML.

    Parameters
    ----------
    name : unique in the page; the ids inside the drawing begin with it
    description : for readers who do not see it
    """
    from html import escape

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gaussad"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id=")([^"]+)"', rf'\g<1>{name}-\g<2>"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(font: (?:[a-z0-9]+ )*?[\d.]+px) [^;"]+', r"\g<1> var(--font)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"(<svg[^>]*?) (?:width|height)=\"[^\"]*\"", r"\g<1>", svg)
    svg = re.sub(r"(<svg[^>]*?) (?:width|height)=\"[^\"]*\"", r"\g<1>", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
