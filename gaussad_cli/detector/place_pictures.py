"""Pictures of what a model of places says about an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gaussad_cli.detector.axes import Axis
from gaussad_cli.detector.charts import Bar, Bars, Histogram, Line, Mark, put_bars, put_histogram
from gaussad_cli.detector.explain_places import PlacesExplanation
from gaussad_cli.detector.heatmaps import colour, mask_of, overlay
from gaussad_cli.detector.page import IMAGE, bar_room, image_room, new_page, put_titled_image, save, titled_chart
from gaussad_cli.detector.panels import (
    BLACK,
    BLUE,
    RED,
    Box,
    Canvas,
    fit,
    put_colour_bar,
    put_cross,
)

_LOWEST = 160  # height of the images' row, however wide an image is: the colour bar needs it


def draw_places(explanation: PlacesExplanation, path: Path) -> None:
    """Draw the image, its heat map and mask, the levels, and the score among held-out ones as one PNG.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    height, width = explanation.pixels.shape[:2]
    page = new_page(explanation.headline, int(np.clip(IMAGE * height / width, _LOWEST, IMAGE)))
    canvas, (image, heat_map, mask), (levels, scores, last) = page.canvas, page.images, page.charts
    put_titled_image(canvas, image, explanation.pixels, "image")
    _put_heat_map(canvas, heat_map, explanation)
    _put_mask(canvas, mask, explanation)
    chart = titled_chart(
        canvas, levels, "levels' shares of the squared distance there", "negative: pulls towards normal"
    )
    put_bars(canvas, chart, level_bars(explanation))
    scores = Box(scores.left, scores.top, last.right, last.bottom)
    chart = titled_chart(canvas, scores, "scores of normal images that the model had not seen")
    put_histogram(canvas, chart, score_histogram(explanation))
    save(canvas, path)


def level_bars(explanation: PlacesExplanation) -> Bars:
    """Return the shares that the levels have in the greatest deviation."""
    return Bars(
        names=[str(level) for level in explanation.shares],
        groups=[[Bar(100 * share, BLUE, f"{100 * share:.0f} %")] for share in explanation.shares.values()],
        measured="share, %",
        named="level",
    )


def score_histogram(explanation: PlacesExplanation) -> Histogram:
    """Return the scores of held-out normal images, with the image's own and the threshold marked."""
    score = Mark(explanation.score, f"this image: {explanation.score:.2f}", Line(RED, 3))
    threshold = Mark(explanation.threshold, f"threshold: {explanation.threshold:.2f}", Line(BLACK, is_dashed=True))
    return Histogram(explanation.held_out, [score, threshold], "score", "normal images")


def _put_heat_map(canvas: Canvas, column: Box, explanation: PlacesExplanation) -> None:
    scale, shown = explanation.scale, fit(explanation.pixels, image_room(column))
    put_titled_image(
        canvas,
        column,
        overlay(shown, explanation.distances, scale),
        "heat map",
        "from what is typical of normal images; outlined: beyond the threshold",
    )
    if np.isfinite(scale.end) and scale.end > scale.typical:
        steps = np.arange(256, dtype=np.uint8)
        colours, room = colour(np.full(256, 128, np.uint8), steps), bar_room(column)
        axis = put_colour_bar(canvas, room, colours, Axis(scale.typical, scale.end), "distance")
        y = axis.at(scale.threshold)
        canvas.draw.line((room.left - 5, y, room.left + 22, y), BLACK, 2)


def _put_mask(canvas: Canvas, column: Box, explanation: PlacesExplanation) -> None:
    deviation, (height, width) = explanation.deviation, explanation.pixels.shape[:2]
    room = image_room(column).around(height, width)
    shape = (min(height, room.height), min(width, room.width))  # a small image's mask is shown pixel by pixel
    mask = mask_of(explanation.distances, explanation.threshold, shape)
    title = "beyond the threshold" if deviation.box else "nothing is beyond the threshold"
    place = put_titled_image(canvas, column, mask.astype(np.uint8) * 255, title, "cross: greatest deviation")
    scale = np.array([place.width / width, place.height / height])  # pixels of the picture per pixel of the image
    x, y = (place.left, place.top) + scale * (deviation.x + 0.5, deviation.y + 0.5)
    put_cross(canvas, int(x), int(y), RED)
    if deviation.box:
        corners = (place.left, place.top) + scale * np.reshape(deviation.box, (2, 2)) + [[-1, -1], [0, 0]]
        canvas.draw.rectangle(corners.round().ravel().tolist(), outline=RED, width=2)
