"""The report's figures: one SVG per panel, so that a phone shows one beside or below the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from gaussad_cli.report.vector import FAINT, GRID, INK, SERIES, as_svg, label, legend, new_panel
from gaussad_cli.tables.build import LAYOUTS
from gaussad_cli.tables.cells import Cell, Source, Variant, comparable, measure, publish

_LINES = {"l2": "L2", "sed": "SED", "mahalanobis": "Mahalanobis"}
_METHODS = ("chi2", "empirical", "gamma", "conformal", "cross-conformal")
SHOWN_RATE = 0.05  # wanted false-positive rate of the thresholds in the histograms


@dataclass(frozen=True)
class Panel:
    """A drawing, and what a reader who does not see it is told."""

    svg: str
    description: str


def _panel(figure: object, name: str, description: str) -> Panel:
    return Panel(as_svg(figure, name, description), description)  # type: ignore[arg-type]


def draw_levels(metrics: pd.DataFrame, variant: Variant, levels: Sequence[str], name: str) -> Panel:
    """Draw AUROC against level, a line per score (Table I), mean and SEM over categories; dashed: the paper's means."""
    figure, axes = new_panel(3.6, 2.8)
    published = comparable(1, metrics)
    ends = []
    for colour, scoring in zip(SERIES, LAYOUTS[1].scorings, strict=False):
        cells = [publish(published, measure(metrics, Cell(one, source=Source.of(variant, scoring)))) for one in levels]
        mean = np.array([np.nan if cell.mean is None else cell.mean for cell in cells])
        sem = np.array([np.nan if cell.sem is None else cell.sem for cell in cells])
        x = np.array([int(one) for one in levels])
        axes.plot(x, mean, "o-", color=colour, markersize=3, linewidth=1.6, label=_LINES[scoring.score])
        axes.fill_between(x, mean - sem, mean + sem, color=colour, alpha=0.15, linewidth=0)
        paper = np.array([np.nan if cell.published_mean is None else cell.published_mean for cell in cells])
        axes.plot(x, paper, "--", color=colour, linewidth=0.9)
        ends.append(f"{_LINES[scoring.score]} {mean[-1]:.1f} at level {x[-1]}")
    label(axes, variant.backbone, "level", "AUROC, %")
    axes.set_xticks([int(one) for one in levels])
    legend(axes, "lower right")
    return _panel(figure, name, f"AUROC by level, {variant.backbone}: {', '.join(ends)}.")


def draw_sweep(rows: pd.DataFrame, points: pd.DataFrame, title: str, name: str) -> Panel:
    """Draw AUROC against the number of kept components, PCA and NPCA; dots are the table's points.

    Parameters
    ----------
    rows : of `sweeps.csv`, of one category, backbone and level
    points : of `metrics.csv`, of the same
    """
    figure, axes = new_panel()
    ends = []
    for colour, mode, words in zip(
        SERIES[:2], ("pca", "npca"), ("PCA: most-variant", "NPCA: least-variant"), strict=True
    ):
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
    scores : names of networks, and their rows of `scores/<category>.csv`, of one scoring and level
    """
    figure, axes = new_panel(3.3, 3.1)
    axes.plot([0, 100], [0, 100], color=GRID, linewidth=1)
    ends = []
    for colour, (network, rows) in zip(SERIES, scores, strict=False):
        fpr, tpr = roc_curve(rows["distance"].to_numpy(), rows["anomalous"].to_numpy() == 1)
        area = float(np.trapezoid(tpr, fpr))
        axes.plot(100 * fpr, 100 * tpr, color=colour, linewidth=1.5, label=f"{network} {100 * area:.1f}")
        ends.append(f"{network} {100 * area:.1f} %")
    label(axes, category, "false-positive rate, %", "true-positive rate, %")
    legend(axes, "lower right")
    return _panel(figure, name, f"ROC curves, {category}: area {', '.join(ends)}.")


def roc_curve(distance: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false- and true-positive rates in [0, 1] of every threshold, from the strictest; ties are one step."""
    order = np.argsort(-distance, kind="stable")
    last = np.append(np.diff(distance[order]) != 0, True)
    hits, misses = np.cumsum(anomalous[order])[last], np.cumsum(~anomalous[order])[last]
    return np.append(0.0, misses / max(1, misses[-1])), np.append(0.0, hits / max(1, hits[-1]))


def draw_histogram(rows: pd.DataFrame, thresholds: pd.DataFrame, category: str, name: str) -> Panel:
    """Draw the distances of normal and anomalous test images, and thresholds for one wanted false-positive rate.

    Parameters
    ----------
    rows : of `scores/<category>.csv`, of one scoring and level
    thresholds : of `thresholds.csv`, of the same; may be empty
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


def draw_calibration(frame: pd.DataFrame, category: str, name: str) -> Panel:
    """Draw the wanted against the achieved false-positive rate, a line per method.

    Parameters
    ----------
    frame : of `calibration.per_category`, of one category
    """
    figure, axes = new_panel(3.3, 3.1)
    n, widest = int(frame["n_normal"].iloc[0]), 1.1 * frame["target"].max()
    wanted = np.linspace(0, widest, 100)
    low, high = stats.binom.interval(0.95, n, wanted)
    axes.fill_between(100 * wanted, 100 * low / n, 100 * high / n, color=GRID, alpha=0.7, linewidth=0)
    axes.plot(100 * wanted, 100 * wanted, color=FAINT, linewidth=1)
    ends = []
    for colour, method in zip(SERIES, _METHODS, strict=False):
        line = frame[frame["method"] == method].sort_values("target")
        axes.plot(
            100 * line["target"], 100 * line["fpr"], "o-", color=colour, markersize=2.5, linewidth=1.2, label=method
        )
        if len(line):
            ends.append(f"{method} {100 * (line['fpr'] - line['target']).abs().mean():.1f}")
    label(axes, f"{category}, {n} normal images", "wanted FPR, %", "achieved FPR, %")
    axes.set_xlim(0, 100 * widest)
    legend(axes)
    return _panel(figure, name, f"Calibration, {category}: mean gaps in points: {', '.join(ends)}.")
