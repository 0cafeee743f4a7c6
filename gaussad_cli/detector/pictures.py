"""Pictures of explanations by pooled models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.detector.attribution import Component
from gaussad_cli.detector.axes import Axis, axis_over
from gaussad_cli.detector.charts import Bar, Bars, put_bars, put_rows
from gaussad_cli.detector.explain import Explanation
from gaussad_cli.detector.page import (
    NOTE_HEIGHT,
    bar_room,
    new_page,
    put_titled_image,
    save,
    titled_chart,
)
from gaussad_cli.detector.panels import (
    BLUE,
    NOTE,
    PALE,
    RED,
    Box,
    Canvas,
    Pixels,
    colour_map,
    put_colour_bar,
    write,
)
from gaussad_cli.gaussian.moments import Array

CAVEAT = (
    "The distance map scores the features of single places by a Gaussian of features averaged over whole images, which "
    "vary far less. It is not the model behind the score, and neither map is a segmentation."
)
_ALPHA = 0.6  # of a map over the image
_EXPECTED = "#d9d9d9"  # bars of the training images
_GROUPS = {"leading": BLUE, "trailing": RED, "outside": "#8d8d8d"}
_NOTES = {"leading": "99 % of variance", "trailing": "", "outside": "of training data"}


def draw_explanation(explanation: Explanation, path: Path) -> None:
    """Draw the image, both maps, the levels and the components as one PNG.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    page = new_page(explanation.headline, note_height=NOTE_HEIGHT)
    canvas, (image, distance, contribution), (levels, groups, components) = page.canvas, page.images, page.charts
    put_titled_image(canvas, image, explanation.square, "image as the network sees it")
    _put_distance(canvas, distance, explanation)
    _put_contribution(canvas, contribution, explanation)
    chart = titled_chart(canvas, levels, "levels", "numbers: distances; red: the maps' level")
    put_bars(canvas, chart, level_bars(explanation))
    chart = titled_chart(canvas, groups, "components of that level", "gray: training images")
    put_bars(canvas, chart, group_bars(explanation))
    chart = titled_chart(canvas, components, "components with the largest shares")
    put_rows(canvas, chart, component_bars(explanation))
    write(canvas, (page.note.middle, page.note.bottom), CAVEAT, NOTE, "md")
    save(canvas, path)


def level_bars(explanation: Explanation) -> Bars:
    """Return the distances of the levels as multiples of the training images'."""
    bars = [
        Bar(share.ratio, RED if share.level == explanation.level else PALE, f"{share.distance:.1f}")
        for share in explanation.levels
    ]
    return Bars(
        names=[str(share.level) for share in explanation.levels],
        groups=[[bar] for bar in bars],
        measured="distance / training images'",
        named="level",
        reference=1.0,
    )


def group_bars(explanation: Explanation) -> Bars:
    """Return the shares of the groups of components, beside those of the training images."""
    groups = explanation.directions.groups
    shares = [(Bar(100 * group.share, _GROUPS[group.name]), Bar(100 * group.expected, _EXPECTED)) for group in groups]
    return Bars(
        names=[f"{group.name} ({group.size})\n{_NOTES[group.name]}" for group in groups],
        groups=shares,
        measured="share of the squared distance, %",
    )


def component_bars(explanation: Explanation) -> Bars:
    """Return the shares of single components, and how many standard deviations the image is off along them."""
    largest = explanation.directions.largest
    return Bars(
        names=[f"#{component.number}" for component in largest],
        groups=[[_component_bar(component)] for component in largest],
        measured="share of the squared distance, %",
        named="component (1: most variant)",
    )


def _component_bar(component: Component) -> Bar:
    colour = _GROUPS["leading" if component.leading else "trailing"]
    return Bar(100 * component.share, colour, f"{component.deviations:+.1f} std")


def _put_distance(canvas: Canvas, column: Box, explanation: Explanation) -> None:
    values = _enlarge(explanation.located.distance, explanation.square)
    axis, colours = axis_over([values.min(), values.max()]), colour_map(cv2.COLORMAP_INFERNO)
    title = f"distance of each place, {_level_name(explanation)}"
    pixels = blend(explanation.square, values, axis, colours)
    put_titled_image(canvas, column, pixels, title, "not the model behind the score")
    put_colour_bar(canvas, bar_room(column), _on_gray(colours), axis, "x median")


def _put_contribution(canvas: Canvas, column: Box, explanation: Explanation) -> None:
    located = explanation.located.contribution
    values = _enlarge(located / (located.mean() or 1.0), explanation.square)
    limit = float(np.abs(values).max()) or 1.0
    axis, colours = Axis(-limit, limit), cool_to_warm()
    title = f"contribution to the squared distance, {_level_name(explanation)}"
    pixels = blend(explanation.square, values, axis, colours)
    put_titled_image(canvas, column, pixels, title, "exact; blue pulls towards normal")
    put_colour_bar(canvas, bar_room(column), _on_gray(colours), axis, "x mean")


def _level_name(explanation: Explanation) -> str:
    return f"level {explanation.level}{' less normal pattern' if explanation.centred else ''}"


def blend(square: Pixels, values: Array, axis: Axis, colours: Pixels) -> Pixels:
    """Return an image (H, W, 3) in gray with values (H, W) over it, in colours (256, 3) from an axis's low to high."""
    steps = axis.between(0, len(colours) - 1)
    shares = (values - steps.low) / (steps.high - steps.low)
    mapped = colours[np.clip(np.rint(shares * (len(colours) - 1)), 0, len(colours) - 1).astype(int)]
    return np.rint(_ALPHA * mapped + (1 - _ALPHA) * square.mean(axis=2, keepdims=True)).astype(np.uint8)


def _on_gray(colours: Pixels) -> Pixels:
    return np.rint(_ALPHA * colours + (1 - _ALPHA) * 128).astype(np.uint8)


def cool_to_warm() -> Pixels:
    """Return 256 colours (256, 3) RGB from blue through light gray to red.

    Straight lines in the polar form (M, s, h) of CIE Lab, whose hue turns on the way to gray: Moreland, Diverging Color
    Maps for Scientific Visualization (2009), with the ends and the middle that he recommends.
    """
    signed = np.linspace(-1.0, 1.0, 256)
    away = np.abs(signed)
    radius, angle = 88.0 - 8.0 * away, 1.08 * away
    hue = np.where(signed < 0, -1.661 + 0.561 * away, 1.061 - 0.561 * away)
    flat = radius * np.sin(angle)
    lab = np.stack([radius * np.cos(angle), flat * np.cos(hue), flat * np.sin(hue)], axis=1).astype(np.float32)
    rgb: Any = cv2.cvtColor(lab[None], cv2.COLOR_Lab2RGB)
    return np.rint(255 * np.asarray(rgb[0])).astype(np.uint8)


def _enlarge(values: Array, square: NDArray[np.uint8]) -> Array:
    """Resize a map to the size of the image, bilinearly."""
    height, width = square.shape[:2]
    enlarged: Any = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, dtype=np.float64)
