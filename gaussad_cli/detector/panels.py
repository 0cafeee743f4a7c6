"""Panels of a picture: boxes of pixels, and text, images and colour bars in them. Drawn by Pillow.

Lines are at whole pixels and the font is Pillow's own, so that a picture looks the same on every machine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gaussad_cli.detector.axes import Axis

Pixels = NDArray[np.uint8]
Anchor = Literal["la", "ma", "ra", "ld", "md", "lm", "rm"]  # left, middle, right; ascender, middle, descender

BLACK, DARK, GRAY = "#000000", "#262626", "#666666"
RED, BLUE, PALE = "#c8553d", "#7a9cc6", "#b9c4d0"
APART = 8  # pixels between things that belong together
TICKS_APART = 36  # pixels, on an upright axis
_TICK = 5  # length of a tick
_FRAME = "#a6a6a6"  # around images, which may be as white as the page
_NEAREST_FROM = 3  # times enlarged, from which on pixels are shown as the squares that they are
_LINE = 4  # pixels between lines of text
_RIM = 2  # of white around letters
_BAR = 18  # width of a colour bar
_REACH = 8  # of a cross's arms


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; the right and the bottom are just outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def middle(self) -> int:
        """The middle column."""
        return (self.left + self.right) // 2

    def inside(self, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> Box:
        """Return the box less margins."""
        return Box(self.left + left, self.top + top, self.right - right, self.bottom - bottom)

    def columns(self, n: int, gap: int) -> list[Box]:
        """Return n boxes of one width side by side."""
        width = (self.width - (n - 1) * gap) // n
        lefts = [self.left + i * (width + gap) for i in range(n)]
        return [Box(left, self.top, left + width, self.bottom) for left in lefts]

    def rows(self, heights: Sequence[int]) -> list[Box]:
        """Return boxes of these heights below each other, from the top."""
        tops = accumulate(heights, initial=self.top)
        return [Box(self.left, top, self.right, bottom) for top, bottom in pairwise(tops)]

    def around(self, height: int, width: int) -> Box:
        """Return the largest box in the middle whose sides are to each other as a height and a width."""
        scale = min(self.width / width, self.height / height)
        across, down = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = self.left + (self.width - across) // 2, self.top + (self.height - down) // 2
        return Box(left, top, left + across, top + down)


@dataclass(frozen=True)
class Lettering:
    """Size in pixels and colour of letters."""

    size: int
    colour: str


HEADLINE, TITLE, LABEL, NOTE = Lettering(21, BLACK), Lettering(18, BLACK), Lettering(15, DARK), Lettering(14, GRAY)
TITLE_HEIGHT = TITLE.size + NOTE.size + _LINE + 2 * APART


@dataclass(frozen=True)
class Canvas:
    """A picture that is drawn on."""

    image: Image.Image
    draw: ImageDraw.ImageDraw

    @property
    def box(self) -> Box:
        """All of it."""
        return Box(0, 0, self.image.width, self.image.height)


def new_canvas(width: int, height: int) -> Canvas:
    """Return a white canvas."""
    image = Image.new("RGB", (width, height), "white")
    return Canvas(image, ImageDraw.Draw(image))


# --- text ---


def write(canvas: Canvas, place: tuple[float, float], text: str, lettering: Lettering, anchor: Anchor = "la") -> None:
    """Write lines of text; they have a white rim, so that no line below touches them.

    Parameters
    ----------
    place : x and y of the text's anchor
    """
    align = {"l": "left", "m": "center", "r": "right"}[anchor[0]]
    font = _font(lettering.size)
    canvas.draw.text(
        place, spell(text), lettering.colour, font, anchor, _LINE, align, stroke_width=_RIM, stroke_fill="white"
    )


def put_title(canvas: Canvas, box: Box, title: str, subtitle: str = "") -> None:
    """Write a title, and a line below it, in the middle of a box's `TITLE_HEIGHT` topmost pixels."""
    write(canvas, (box.middle, box.top), title, TITLE, "ma")
    write(canvas, (box.middle, box.top + TITLE.size + _LINE + 2), subtitle, NOTE, "ma")


def width_of(text: str, lettering: Lettering) -> int:
    """Return how many pixels wide a line of text is."""
    return int(np.ceil(_font(lettering.size).getlength(spell(text))))


def clip_start(text: str, lettering: Lettering, room: int) -> str:
    """Return a line of text, without as much of its beginning as does not fit into so many pixels."""
    if width_of(text, lettering) <= room:
        return text
    clipped = (f"…{text[cut:]}" for cut in range(1, len(text) + 1))
    return next((shorter for shorter in clipped if width_of(shorter, lettering) <= room), "")


def spell(text: str) -> str:
    """Return a text in letters that the font has, which are those of ASCII and a few signs.

    Others lose their accents, or stay and are drawn as empty boxes.
    """
    return "".join(letter if letter == "\n" or _is_in_font(letter) else _plain(letter) for letter in text)


def _plain(letter: str) -> str:
    parts = unicodedata.normalize("NFKD", letter.replace("ß", "ss"))
    return "".join(part for part in parts if not unicodedata.combining(part))


@lru_cache
def _is_in_font(letter: str) -> bool:
    missing, drawn = (_font(LABEL.size).getmask(character) for character in ("\uffff", letter))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font: Any = ImageFont.load_default(size)
    return font


# --- images ---


def fit(pixels: Pixels, box: Box) -> Pixels:
    """Return an image (H, W) or (H, W, 3) as large as fits into a box."""
    place = box.around(*pixels.shape[:2])
    times = place.width / pixels.shape[1]
    how = cv2.INTER_NEAREST if times >= _NEAREST_FROM else cv2.INTER_CUBIC if times > 1 else cv2.INTER_AREA
    return _resize(pixels, place, how)


def put_image(canvas: Canvas, box: Box, pixels: Pixels) -> Box:
    """Put an image (H, W) or (H, W, 3) into the middle of a box, as large as fits, framed; return where it is."""
    place = box.around(*pixels.shape[:2])
    canvas.image.paste(Image.fromarray(fit(pixels, place)), (place.left, place.top))
    canvas.draw.rectangle((place.left - 1, place.top - 1, place.right, place.bottom), outline=_FRAME)
    return place


def put_cross(canvas: Canvas, x: int, y: int, colour: str) -> None:
    """Draw an upright cross with its middle at a pixel."""
    canvas.draw.line((x - _REACH, y, x + _REACH, y), colour, 2)
    canvas.draw.line((x, y - _REACH, x, y + _REACH), colour, 2)


def colour_map(number: int) -> Pixels:
    """Return the colours (256, 3) RGB of one of OpenCV's colour maps, such as ``cv2.COLORMAP_INFERNO``."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(ramp, number), np.uint8)[:, 0, ::-1]


def put_colour_bar(canvas: Canvas, box: Box, colours: Pixels, axis: Axis, title: str) -> Axis:
    """Draw the colours (n, 3) of an axis's values from low to high, upwards, with ticks and a title above.

    Returns
    -------
    the axis, at its pixels
    """
    bar = Box(box.left, box.top + LABEL.size + APART, box.left + _BAR, box.bottom)
    write(canvas, (bar.left, box.top - _LINE), title, LABEL)
    canvas.image.paste(Image.fromarray(_resize(colours[::-1, None], bar, cv2.INTER_LINEAR)), (bar.left, bar.top))
    canvas.draw.rectangle((bar.left, bar.top, bar.right - 1, bar.bottom - 1), outline=BLACK)
    upwards = axis.between(bar.bottom - 1, bar.top)
    put_ticks(canvas, upwards, bar.right, 1)
    return upwards


def put_ticks(canvas: Canvas, axis: Axis, x: int, side: Literal[-1, 1]) -> None:
    """Draw the ticks of a vertical axis, and their labels, to the left (-1) or the right (1) of a column."""
    for value, label in axis.ticks(TICKS_APART):
        y = axis.at(value)
        canvas.draw.line((x, y, x + side * _TICK, y), DARK)
        write(canvas, (x + side * (_TICK + _LINE), y), label, LABEL, "lm" if side > 0 else "rm")


def _resize(pixels: Pixels, place: Box, how: int) -> Pixels:
    resized: Any = cv2.resize(pixels, (place.width, place.height), interpolation=how)
    return np.asarray(resized, np.uint8)
