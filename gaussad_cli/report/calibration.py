"""The calibration picture: wanted against achieved false-positive rates, for the report and as a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from gaussad_cli.evaluation.calibration import METHODS, per_category
from gaussad_cli.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_MARKERS = "osD^v"
_COLOURS = tuple(f"C{number}" for number in range(len(METHODS)))
_TICKS = (0, 1, 5, 10, 20, 30, 50, 70, 100)


def draw_calibration(rows: pd.DataFrame, title: str, path: Path) -> None:
    """Draw a panel per category, and write them as PNG.

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
        of_category = frame[frame["category"] == category]
        draw_rates(panel, of_category)
        panel.set(xlabel="wanted FPR, %", ylabel="achieved FPR, %")
        title_of = f"{category}, {of_category['n_normal'].iloc[0]:.0f} normal test images"
        panel.set_title(title_of, fontsize=10, parse_math=False)  # names may hold $
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))


def draw_rates(
    axes: Axes, frame: pd.DataFrame, colours: Sequence[str] = _COLOURS, line: str = "0.6", band: str = "0.92"
) -> None:
    """Draw the achieved rates of one category, a line per method, over the range that chance explains.

    Parameters
    ----------
    frame : of `calibration.per_category`, of one category
    colours : of the methods, in the order of METHODS
    line, band : colours of the diagonal and of the range of 95 % of test sets of this size
    """
    n, widest = int(frame["n_normal"].iloc[0]), 1.1 * frame["target"].max()
    wanted = np.linspace(0, widest, 200)
    low, high = stats.binom.interval(0.95, n, wanted)
    axes.fill_between(100 * wanted, 100 * low / n, 100 * high / n, color=band, linewidth=0, label="95 % binomial range")
    axes.plot(100 * wanted, 100 * wanted, color=line, linewidth=1, label="wanted = achieved")
    for method, colour, marker in zip(METHODS, colours, _MARKERS, strict=False):
        points = frame[frame["method"] == method].sort_values("target")
        if len(points):
            (rates,) = axes.plot(100 * points["target"], 100 * points["fpr"], color=colour, marker=marker, label=method)
            rates.set(markersize=3.5, linewidth=1.2)
    # Roots: the small rates matter most, and zero, which a logarithm would not show, is one of them.
    roots = (lambda x: np.sqrt(np.maximum(x, 0)), np.square)
    for name, limit in (("x", 100 * widest), ("y", 100.0)):
        ticks = [tick for tick in _TICKS if tick <= limit]
        getattr(axes, f"set_{name}scale")("function", functions=roots)
        getattr(axes, f"set_{name}ticks")(ticks, list(map(str, ticks)))
        getattr(axes, f"set_{name}lim")(0, limit)
