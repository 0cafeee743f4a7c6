"""Charts in panels: upright bars, bars in rows, and a histogram with marked values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gaussad_cli.detector.axes import Axis, axis_over, bar_axis
from gaussad_cli.detector.panels import (
    APART,
    DARK,
    GRAY,
    LABEL,
    NOTE,
    PALE,
    TICKS_APART,
    Box,
    Canvas,
    Lettering,
    put_ticks,
    width_of,
    write,
)
from gaussad_cli.gaussian.moments import Array

_HEADER = LABEL.size + APART  # height above a chart, for what its upright axis measures
_LEFT = 56  # width of the labels of an upright axis
_LINE_HEIGHT = LABEL.size + 5
_BELOW = 2 * _LINE_HEIGHT + APART  # height below a chart, for what its level axis has and measures
_BINS = 30  # of a histogram; a rule that follows the values would make millions where one is far off
_WIDEST = 80  # bar, in pixels
_FILLED = 0.7  # share of the room that bars fill
_ROOM = 0.15  # share of an axis beyond the longest bar, for its label
_BESIDE = 88  # width of the labels beside bars in rows
_BLANK = 0.04  # share of an axis beyond what a histogram shows
_TICKS_APART = 80  # on a level axis
_DASH, _SAMPLE = 6, 30  # lengths of a dash, and of a line in the legend
_GRID = "#e4e4e4"
_VALUE = Lettering(NOTE.size, DARK)


@dataclass(frozen=True)
class Bar:
    """A bar from zero to a value, with a label at its end; a value that is not finite has no bar."""

    value: float
    colour: str
    label: str = ""


@dataclass(frozen=True)
class Bars:
    """What a bar chart shows.

    Attributes
    ----------
    names : of the groups; a name may have several lines
    groups : the bars of each name, side by side
    measured : what the bars' lengths are
    named : what the names are
    reference : a value that is marked by a dashed line
    """

    names: Sequence[str]
    groups: Sequence[Sequence[Bar]]
    measured: str
    named: str = ""
    reference: float | None = None

    @property
    def values(self) -> list[float]:
        """The values of all bars, and the one that is marked."""
        marked = [] if self.reference is None else [self.reference]
        return [bar.value for group in self.groups for bar in group] + marked


@dataclass(frozen=True)
class Line:
    """How a line looks."""

    colour: str
    width: int = 1
    is_dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A value that is marked in a histogram by a line, which the legend names; one that is not finite has none."""

    value: float
    label: str
    line: Line


@dataclass(frozen=True)
class Histogram:
    """What a histogram shows.

    Attributes
    ----------
    values : (n,)
    marks : values that are marked
    measured : what the values are
    counted : what has the values
    """

    values: Array
    marks: Sequence[Mark]
    measured: str
    counted: str


def put_bars(canvas: Canvas, box: Box, bars: Bars) -> None:
    """Draw upright bars."""
    plot = box.inside(left=_LEFT, top=_HEADER, bottom=_BELOW)
    axis = bar_axis(bars.values, _ROOM).between(plot.bottom - 1, plot.top)
    _put_upright_axis(canvas, box, plot, axis, bars.measured)
    if bars.reference is not None:
        y = axis.at(bars.reference)
        _put_line(canvas, (plot.left, y), (plot.right, y), Line(GRAY, is_dashed=True))
    for name, group, place in zip(bars.names, bars.groups, plot.columns(len(bars.names), 0), strict=True):
        write(canvas, (place.middle, plot.bottom + APART), name, LABEL, "ma")
        for bar, across in zip(group, _side_by_side(place, len(group)), strict=True):
            _put_upright(canvas, across, axis, bar)
    canvas.draw.line((plot.left, axis.at(0.0), plot.right, axis.at(0.0)), DARK)
    write(canvas, (plot.middle, box.bottom), bars.named, LABEL, "md")


def _side_by_side(place: Box, n: int) -> list[Box]:
    width = min(_WIDEST, int(_FILLED * place.width / n))
    left = place.middle - n * width // 2
    return [Box(left + i * width, place.top, left + (i + 1) * width - (n > 1), place.bottom) for i in range(n)]


def _put_upright(canvas: Canvas, across: Box, axis: Axis, bar: Bar) -> None:
    if not math.isfinite(bar.value):
        return
    top, bottom = sorted((axis.at(bar.value), axis.at(0.0)))
    canvas.draw.rectangle((across.left, top, across.right - 1, bottom), bar.colour)
    if bar.value < 0:
        write(canvas, (across.middle, bottom + 3), bar.label, _VALUE, "ma")
    else:
        write(canvas, (across.middle, top - 3), bar.label, _VALUE, "md")


def put_rows(canvas: Canvas, box: Box, bars: Bars) -> None:
    """Draw bars to the right, one for each name, none negative, with their labels beside them."""
    plot = box.inside(left=_LEFT, top=_HEADER, bottom=_BELOW)
    axis = bar_axis(bars.values, 0.0).between(plot.left, plot.right - _BESIDE)
    _put_level_axis(canvas, plot, axis, bars.measured)
    height = plot.height // len(bars.names)
    write(canvas, (box.left, box.top), bars.named, LABEL)
    for name, (bar,), row in zip(bars.names, bars.groups, plot.rows([height] * len(bars.names)), strict=True):
        y, half = (row.top + row.bottom) // 2, int(_FILLED * height / 2)
        write(canvas, (plot.left - APART, y), name, LABEL, "rm")
        if math.isfinite(bar.value):
            canvas.draw.rectangle((plot.left, y - half, axis.at(bar.value), y + half), bar.colour)
            write(canvas, (axis.at(bar.value) + APART, y), bar.label, _VALUE, "lm")
    canvas.draw.line((plot.left, plot.top, plot.left, plot.bottom), DARK)


def put_histogram(canvas: Canvas, box: Box, histogram: Histogram) -> None:
    """Draw how many values lie where, and lines at the marked ones."""
    counts, edges = np.histogram(histogram.values, _BINS)
    marks = [mark for mark in histogram.marks if math.isfinite(mark.value)]
    plot = box.inside(left=_LEFT, top=_HEADER, bottom=_BELOW)
    level = axis_over([*edges, *(mark.value for mark in marks)], _BLANK).between(plot.left, plot.right - 1)
    upright = bar_axis(counts, _BLANK).between(plot.bottom - 1, plot.top)
    _put_upright_axis(canvas, box, plot, upright, histogram.counted)
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        if count:
            canvas.draw.rectangle((level.at(left), upright.at(count), level.at(right), upright.at(0)), PALE)
    for mark in marks:
        _put_line(canvas, (level.at(mark.value), plot.top), (level.at(mark.value), plot.bottom - 1), mark.line)
    _put_level_axis(canvas, plot, level, histogram.measured)
    _put_legend(canvas, plot, marks)


def _put_legend(canvas: Canvas, plot: Box, marks: Sequence[Mark]) -> None:
    """Write what the lines are above a plot, from the right to the left."""
    right, y = plot.right, plot.top - _HEADER + LABEL.size // 2
    for mark in reversed(marks):
        left = right - width_of(mark.label, LABEL)
        write(canvas, (left, y), mark.label, LABEL, "lm")
        _put_line(canvas, (left - _SAMPLE - APART, y), (left - APART, y), mark.line)
        right = left - _SAMPLE - 4 * APART


def _put_upright_axis(canvas: Canvas, box: Box, plot: Box, axis: Axis, measured: str) -> None:
    write(canvas, (box.left, box.top), measured, LABEL)
    for value, _ in axis.ticks(TICKS_APART):
        canvas.draw.line((plot.left, axis.at(value), plot.right, axis.at(value)), _GRID)
    put_ticks(canvas, axis, plot.left, -1)
    canvas.draw.line((plot.left, plot.top, plot.left, plot.bottom), DARK)


def _put_level_axis(canvas: Canvas, plot: Box, axis: Axis, measured: str) -> None:
    for value, label in axis.ticks(_TICKS_APART):
        canvas.draw.line((axis.at(value), plot.bottom, axis.at(value), plot.bottom + 4), DARK)
        write(canvas, (axis.at(value), plot.bottom + APART), label, LABEL, "ma")
    canvas.draw.line((plot.left, plot.bottom, plot.right, plot.bottom), DARK)
    write(canvas, (plot.middle, plot.bottom + APART + _LINE_HEIGHT), measured, LABEL, "ma")


def _put_line(canvas: Canvas, start: tuple[int, int], end: tuple[int, int], line: Line) -> None:
    """Draw an upright or a level line."""
    (left, top), (right, bottom) = start, end
    length = max(right - left, bottom - top)
    for dash in range(0, length, 2 * _DASH) if line.is_dashed else [0]:
        last = min(dash + _DASH - 1, length) if line.is_dashed else length
        ends = [(left, top + dash), (left, top + last)] if left == right else [(left + dash, top), (left + last, top)]
        canvas.draw.line(ends, line.colour, line.width)
