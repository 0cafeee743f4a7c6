"""Pictures of explanations. Figure objects only: no global state of pyplot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.detector.explain import Explanation
from gaussad_cli.errors import escaped
from gaussad_cli.files import write_whole
from gaussad_cli.gaussian.moments import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAVEAT = (
    "The distance map scores the features of single places by a Gaussian of features averaged over whole images, which "
    "vary far less. It is not the model behind the score, and neither map is a segmentation."
)
_ALPHA = 0.6  # of a map over the image
_GROUPS = {"leading": "#7a9cc6", "trailing": "#c8553d", "outside": "#8d8d8d"}
_LABELS = {"leading": "leading\n99 % of variance", "trailing": "trailing", "outside": "outside\nof training data"}
_BLAMED, _OTHER = "#c8553d", "#b9c4d0"


def draw_explanation(explanation: Explanation, path: Path) -> None:
    """Draw the image, both maps, the levels and the components as one PNG.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 8.6), layout="constrained")
    panels = figure.subplots(2, 3, height_ratios=[1.15, 1.0])
    (square, distance, contribution), (levels, groups, components) = panels
    _draw_image(square, explanation)
    _draw_distance(distance, explanation)
    _draw_contribution(contribution, explanation)
    _draw_levels(levels, explanation)
    _draw_groups(groups, explanation)
    _draw_components(components, explanation)
    figure.suptitle(escaped(explanation.headline), fontsize=12, parse_math=False)
    figure.supxlabel(CAVEAT, fontsize=8, color="0.35")
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _draw_image(axes: Axes, explanation: Explanation) -> None:
    axes.imshow(explanation.square)
    axes.set_axis_off()
    axes.set_title("image as the network sees it", fontsize=10)


def _draw_distance(axes: Axes, explanation: Explanation) -> None:
    values = _upsample(explanation.located.distance, explanation.square)
    _overlay(axes, explanation.square, values, "inferno", (float(values.min()), float(values.max())), "x median")
    axes.set_title(f"distance of each place, {_level_name(explanation)}\n(not the model behind the score)", fontsize=10)


def _draw_contribution(axes: Axes, explanation: Explanation) -> None:
    located = explanation.located.contribution
    values = _upsample(located / located.mean(), explanation.square)
    limit = float(np.abs(values).max())
    _overlay(axes, explanation.square, values, "coolwarm", (-limit, limit), "x mean")
    axes.set_title(
        f"contribution to the squared distance, {_level_name(explanation)}\n(exact; blue pulls towards normal)",
        fontsize=10,
    )


def _level_name(explanation: Explanation) -> str:
    return f"level {explanation.level}{' less normal pattern' if explanation.centred else ''}"


def _overlay(
    axes: Axes, square: NDArray[np.uint8], values: Array, colours: str, limits: tuple[float, float], unit: str
) -> None:
    gray = square.mean(axis=2)
    axes.imshow(gray, cmap="gray", vmin=0, vmax=255)
    drawn = axes.imshow(values, cmap=colours, alpha=_ALPHA, vmin=limits[0], vmax=limits[1])
    axes.set_axis_off()
    axes.figure.colorbar(drawn, ax=axes, shrink=0.75, label=unit)


def _draw_levels(axes: Axes, explanation: Explanation) -> None:
    names = [str(level.level) for level in explanation.levels]
    ratios = [level.ratio for level in explanation.levels]
    colours = [_BLAMED if level.level == explanation.level else _OTHER for level in explanation.levels]
    bars = axes.bar(names, ratios, width=min(0.8, 0.2 * len(names)), color=colours)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.bar_label(bars, [f"{level.distance:.1f}" for level in explanation.levels], fontsize=8)
    axes.axhline(1.0, color="0.4", linewidth=1, linestyle="--", zorder=0)
    axes.set(xlabel="level", ylabel="distance / training images'")
    axes.margins(y=0.12)
    axes.set_title("levels (numbers: distances; red: the maps' level)", fontsize=10)


def _draw_groups(axes: Axes, explanation: Explanation) -> None:
    groups = explanation.directions.groups
    places = np.arange(len(groups))
    colours = [_GROUPS[group.name] for group in groups]
    axes.bar(places - 0.2, [100 * group.share for group in groups], 0.38, color=colours)
    axes.bar(places + 0.2, [100 * group.expected for group in groups], 0.38, color="0.85")
    axes.set_xticks(places, [f"{_LABELS[group.name]}\n({group.size})" for group in groups])
    axes.set(ylabel="share of the squared distance, %")
    axes.set_title("components of that level\n(gray: training images)", fontsize=10)


def _draw_components(axes: Axes, explanation: Explanation) -> None:
    largest = explanation.directions.largest
    colours = [_GROUPS["leading" if component.leading else "trailing"] for component in largest]
    bars = axes.barh(range(len(largest)), [100 * component.share for component in largest], color=colours)
    axes.bar_label(bars, [f" {component.deviations:+.1f} std" for component in largest], fontsize=8)
    axes.set_yticks(range(len(largest)), [f"#{component.number}" for component in largest])
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.set(xlabel="share of the squared distance, %", ylabel="component (1: most variant)")
    axes.set_title("components with the largest shares", fontsize=10)


def _upsample(values: Array, square: NDArray[np.uint8]) -> Array:
    """Resize a map to the size of the image, bilinearly."""
    height, width = square.shape[:2]
    upsampled: Any = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(upsampled, dtype=np.float64)
