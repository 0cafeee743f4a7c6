"""Pictures of what a model of places says about an image. Figure objects only: no global state of pyplot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gaussad_cli.detector.explain_places import PlacesExplanation
from gaussad_cli.detector.heatmaps import colour, mask_of, overlay
from gaussad_cli.errors import escaped
from gaussad_cli.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RED, _BLUE, _GRAY = "#c8553d", "#7a9cc6", "#b9c4d0"


def draw_places(explanation: PlacesExplanation, path: Path) -> None:
    """Draw the image, its heat map and mask, the levels, and the score among held-out ones as one PNG.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 7.6), layout="constrained")
    places = figure.add_gridspec(2, 3, height_ratios=[1.5, 1.0])
    image, heat_map, mask = (figure.add_subplot(places[0, column]) for column in range(3))
    levels, scores = figure.add_subplot(places[1, 0]), figure.add_subplot(places[1, 1:])
    image.imshow(explanation.pixels)
    image.set_title("image", fontsize=10)
    _draw_heat_map(heat_map, explanation)
    _draw_mask(mask, explanation)
    for axes in (image, heat_map, mask):
        axes.set_axis_off()
    _draw_levels(levels, explanation)
    _draw_scores(scores, explanation)
    figure.suptitle(escaped(explanation.headline), fontsize=12, parse_math=False)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _draw_heat_map(axes: Axes, explanation: PlacesExplanation) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    scale = explanation.scale
    axes.imshow(overlay(explanation.pixels, explanation.distances, scale))
    axes.set_title("heat map\n(from what is typical of normal images; outlined: beyond the threshold)", fontsize=10)
    if np.isfinite(scale.end) and scale.end > scale.typical:
        on_gray = colour(np.full(256, 128, np.uint8), np.arange(256, dtype=np.uint8)) / 255
        colours = ScalarMappable(Normalize(scale.typical, scale.end), ListedColormap(on_gray))
        bar = axes.figure.colorbar(colours, ax=axes, shrink=0.75, label="distance")
        bar.ax.axhline(scale.threshold, color="black", linewidth=1)


def _draw_mask(axes: Axes, explanation: PlacesExplanation) -> None:
    from matplotlib.patches import Rectangle

    deviation, shape = explanation.deviation, explanation.pixels.shape[:2]
    axes.imshow(mask_of(explanation.distances, explanation.threshold, shape), cmap="gray", vmin=0, vmax=1)
    axes.plot(deviation.x, deviation.y, "+", color=_RED, markersize=12, markeredgewidth=2)
    title = "nothing is beyond the threshold"
    if deviation.box:
        left, top, right, bottom = deviation.box
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=_RED))
        title = "beyond the threshold"
    axes.set_title(f"{title}\n(cross: greatest deviation)", fontsize=10)


def _draw_levels(axes: Axes, explanation: PlacesExplanation) -> None:
    shares = [100 * share for share in explanation.shares.values()]
    bars = axes.bar([str(level) for level in explanation.shares], shares, width=0.5, color=_BLUE)
    axes.bar_label(bars, fmt="%.0f %%", fontsize=8)
    axes.axhline(0.0, color="0.4", linewidth=1)
    axes.margins(y=0.15)
    axes.set(xlabel="level", ylabel="share, %")
    axes.set_title("levels' shares of the squared distance there\n(negative: pulls towards normal)", fontsize=10)


def _draw_scores(axes: Axes, explanation: PlacesExplanation) -> None:
    axes.hist(explanation.held_out, bins="auto", color=_GRAY)
    axes.axvline(explanation.score, color=_RED, linewidth=2, label=f"this image: {explanation.score:.2f}")
    if np.isfinite(explanation.threshold):
        label = f"threshold: {explanation.threshold:.2f}"
        axes.axvline(explanation.threshold, color="black", linestyle="--", linewidth=1, label=label)
    axes.set(xlabel="score", ylabel="normal images")
    axes.set_title("scores of normal images that the model had not seen", fontsize=10)
    axes.legend(fontsize=9)
