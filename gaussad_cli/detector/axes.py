"""Axes of charts: which pixel a value is at, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

_ROUND = (1, 2, 5, 10)  # steps between ticks, times a power of ten
_MOST_DECIMALS, _LARGEST = 6, 1e6  # of labels that are written out


@dataclass(frozen=True)
class Axis:
    """Values along pixels.

    Attributes
    ----------
    low, high : the values at the ends, low < high
    first, last : the pixels that they are at; the last may be the smaller one, as on an axis that goes upwards
    """

    low: float
    high: float
    first: int = 0
    last: int = 0

    def between(self, first: int, last: int) -> Axis:
        """Return the axis with its ends at other pixels."""
        return replace(self, first=first, last=last)

    def at(self, value: float) -> int:
        """Return the pixel of a value."""
        return round(self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first))

    def ticks(self, apart: int) -> list[tuple[float, str]]:
        """Return the multiples of a round step, and their labels.

        Parameters
        ----------
        apart : pixels that are between two ticks at least
        """
        step = round_step((self.high - self.low) * apart / max(apart, abs(self.last - self.first)))
        slack = 1e-9  # of a step: the ends count, whatever was rounded
        numbers = range(math.ceil(self.low / step - slack), math.floor(self.high / step + slack) + 1)
        return [(number * step, _label(number * step, step)) for number in numbers]


def axis_over(values: Iterable[float], margin: float = 0.0) -> Axis:
    """Return an axis over values; those that are not finite do not count.

    Parameters
    ----------
    margin : share of the span that is added at both ends
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    span = (high - low) or abs(high) or 1.0
    return Axis(low - margin * span, (high if high > low else high + span) + margin * span)


def bar_axis(values: Iterable[float], margin: float) -> Axis:
    """Return an axis for bars, from zero to the values; see :func:`axis_over`. There is no margin at zero."""
    axis = axis_over([0.0, *values])
    room = margin * (axis.high - axis.low)
    return Axis(axis.low - room if axis.low < 0 else 0.0, axis.high + room if axis.high > 0 else 0.0)


def round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not less than a positive number."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(times * power for times in _ROUND if times * power >= least * (1 - 1e-9))


def _label(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step)))
    return f"{value:g}" if decimals > _MOST_DECIMALS or step >= _LARGEST else f"{value:.{decimals}f}"
