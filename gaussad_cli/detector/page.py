"""How the picture of an explanation is laid out: a headline, three images, and charts below them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.detector.panels import (
    HEADLINE,
    TITLE_HEIGHT,
    Box,
    Canvas,
    Pixels,
    clip_start,
    new_canvas,
    put_image,
    put_title,
    write,
)
from gaussad_cli.errors import escaped
from gaussad_cli.files import write_whole

IMAGE = 448  # side of the room for an image
COLUMNS = 3
NOTE_HEIGHT = 36
_MARGIN, _GAP = 28, 36
_BAR, _BESIDE_BAR = 68, 16  # width of a colour bar with its labels, and of the gap between it and the image
_HEADLINE, _CHART = 56, 356  # heights
_COLUMN = IMAGE + _BESIDE_BAR + _BAR
WIDTH = COLUMNS * _COLUMN + (COLUMNS - 1) * _GAP + 2 * _MARGIN


@dataclass(frozen=True)
class Page:
    """A canvas and its parts.

    Attributes
    ----------
    images : three columns; each has room for a title, an image, and a colour bar
    charts : three columns below; each has room for a title and a chart
    note : the last line
    """

    canvas: Canvas
    images: list[Box]
    charts: list[Box]
    note: Box


def new_page(headline: str, image_height: int = IMAGE, note_height: int = 0) -> Page:
    """Return an empty page with its headline, of which only the end is there if it is too long."""
    heights = [_HEADLINE, TITLE_HEIGHT + image_height, _GAP, TITLE_HEIGHT + _CHART, note_height]
    canvas = new_canvas(WIDTH, sum(heights) + 2 * _MARGIN)
    top, images, _, charts, note = canvas.box.inside(_MARGIN, _MARGIN, _MARGIN, _MARGIN).rows(heights)
    write(canvas, (top.middle, top.top), clip_start(escaped(headline), HEADLINE, top.width), HEADLINE, "ma")
    return Page(canvas, images.columns(COLUMNS, _GAP), charts.columns(COLUMNS, _GAP), note)


def image_room(column: Box) -> Box:
    """Return where the image of a column goes."""
    return column.inside(top=TITLE_HEIGHT, right=_BESIDE_BAR + _BAR)


def bar_room(column: Box) -> Box:
    """Return where the colour bar of a column goes."""
    return column.inside(left=column.width - _BAR, top=TITLE_HEIGHT)


def put_titled_image(canvas: Canvas, column: Box, pixels: Pixels, title: str, subtitle: str = "") -> Box:
    """Put an image and its title into a column; return where the image is."""
    room = image_room(column)
    put_title(canvas, room.inside(top=-TITLE_HEIGHT), title, subtitle)
    return put_image(canvas, room, pixels)


def titled_chart(canvas: Canvas, box: Box, title: str, subtitle: str = "") -> Box:
    """Write the title of a chart; return the room below."""
    put_title(canvas, box, title, subtitle)
    return box.inside(top=TITLE_HEIGHT)


def save(canvas: Canvas, path: Path) -> None:
    """Write a canvas as PNG.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    write_whole(path, lambda file: canvas.image.save(file, format="png"))
