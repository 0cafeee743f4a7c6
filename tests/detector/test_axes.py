"""Which pixels values are at, and that ticks are at round numbers."""

import numpy as np
import pytest

from gaussad_cli.detector.axes import Axis, axis_over, bar_axis, round_step


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 100, ["0", "20", "40", "60", "80", "100"]),
        (12.3, 32.1, ["15", "20", "25", "30"]),
        (0.69, 2.02, ["0.8", "1.0", "1.2", "1.4", "1.6", "1.8", "2.0"]),
        (-0.3, 0.3, ["-0.2", "0.0", "0.2"]),
        (-0.3, 0.35, ["-0.2", "0.0", "0.2"]),
        (0, 3.1e7, ["0", "1e+07", "2e+07", "3e+07"]),
        (0, 3.1e-9, ["0", "1e-09", "2e-09", "3e-09"]),
    ],
)
def test_ticks_are_the_round_numbers_within_the_ends(low, high, labels):
    apart = 40 if high > 1 and high < 1e6 else 60
    assert [label for _, label in Axis(low, high, 0, 280).ticks(apart)] == labels


@pytest.mark.parametrize("ends", [(0, 300), (300, 0)])
def test_ticks_are_as_far_apart_as_asked_wherever_the_ends_are(ends):
    rng = np.random.default_rng(0)
    for low, span in zip(rng.normal(0, 100, 200), 10 ** rng.uniform(-6, 6, 200), strict=True):
        axis = Axis(low, low + span, *ends)
        pixels = [axis.at(value) for value, _ in axis.ticks(50)]
        assert 1 <= len(pixels) <= 7
        assert min(np.abs(np.diff(pixels)), default=50) >= 49  # of whole pixels
        assert all(0 <= pixel <= 300 for pixel in pixels)


def test_the_ends_and_the_middle_are_at_their_pixels():
    upwards = Axis(-1.0, 3.0).between(90, 10)
    assert [upwards.at(value) for value in (-1.0, 1.0, 3.0)] == [90, 50, 10]


@pytest.mark.parametrize(("least", "step"), [(0.9, 1), (1, 1), (1.1, 2), (2.5, 5), (7, 10), (0.03, 0.05), (1234, 2000)])
def test_steps_are_one_two_or_five(least, step):
    assert round_step(least) == pytest.approx(step)


def test_an_axis_spans_finite_values_with_margins():
    axis = axis_over([2.0, np.inf, np.nan, 4.0], margin=0.1)
    assert (axis.low, axis.high) == (pytest.approx(1.8), pytest.approx(4.2))


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [7.0, 7.0], [-3.0]])
def test_an_axis_over_one_value_or_none_can_be_drawn(values):
    for axis in (axis_over(values), bar_axis(values, 0.1)):
        assert axis.low < axis.high
        assert axis.between(0, 100).ticks(20)


def test_bars_begin_at_zero_without_a_margin_there():
    assert bar_axis([20.0, 10.0], 0.1) == Axis(0.0, 22.0)
    assert bar_axis([-20.0], 0.1) == Axis(-22.0, 0.0)
    assert bar_axis([-10.0, 10.0], 0.1) == Axis(-12.0, 12.0)
