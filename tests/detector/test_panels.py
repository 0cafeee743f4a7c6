"""What is drawn is where its box is, in its colours, and as long as its values say."""

import math

import cv2
import numpy as np
import pytest
from PIL import ImageColor

from gaussad_cli.detector.axes import Axis
from gaussad_cli.detector.charts import Bar, Bars, Histogram, Line, Mark, put_bars, put_histogram, put_rows
from gaussad_cli.detector.panels import (
    HEADLINE,
    LABEL,
    Box,
    clip_start,
    colour_map,
    new_canvas,
    put_colour_bar,
    put_image,
    spell,
    width_of,
    write,
)
from tests.detector.tiny_network import pictures

RED, BLUE, GREEN, PALE = "#c8553d", "#7a9cc6", "#00aa00", "#b9c4d0"
BOX = Box(10, 20, 510, 400)


def pixels_of(canvas):
    return np.asarray(canvas.image)


def where(canvas, colour):
    """(H, W) bool: the pixels of a colour."""
    return (pixels_of(canvas) == ImageColor.getrgb(colour)).all(axis=2)


def extent(mask):
    """(left, top, right, bottom) of what is True, the last two just outside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def test_boxes_are_split_without_remainder_at_the_edges():
    assert BOX.columns(3, 10) == [Box(10, 20, 170, 400), Box(180, 20, 340, 400), Box(350, 20, 510, 400)]
    assert BOX.rows([100, 50]) == [Box(10, 20, 510, 120), Box(10, 120, 510, 170)]
    assert BOX.inside(1, 2, 3, 4) == Box(11, 22, 507, 396)


@pytest.mark.parametrize(("height", "width"), [(448, 448), (300, 4000), (1600, 120), (5, 7), (1, 8192), (8192, 1)])
def test_an_image_keeps_its_proportions_in_the_middle_of_its_box(height, width):
    place = BOX.around(height, width)
    assert (place.width, place.height) == (
        max(1, round(width * min(500 / width, 380 / height))),
        max(1, round(height * min(500 / width, 380 / height))),
    )
    assert abs((place.left - BOX.left) - (BOX.right - place.right)) <= 1
    assert abs((place.top - BOX.top) - (BOX.bottom - place.bottom)) <= 1


def test_an_image_that_is_as_large_as_its_room_is_shown_pixel_by_pixel():
    canvas, image = new_canvas(700, 420), pictures(1, height=380, width=500)[0]
    assert put_image(canvas, BOX, image) == BOX
    np.testing.assert_array_equal(pixels_of(canvas)[20:400, 10:510], image)


def test_the_pixels_of_a_tiny_image_are_squares():
    canvas, image = new_canvas(700, 420), pictures(1, height=2, width=2)[0]
    place = put_image(canvas, BOX, image)
    expected = np.repeat(np.repeat(image, 190, axis=0), 190, axis=1)
    np.testing.assert_array_equal(pixels_of(canvas)[place.top : place.bottom, place.left : place.right], expected)


def test_a_gray_image_and_a_white_one_have_a_frame():
    canvas = new_canvas(700, 420)
    place = put_image(canvas, BOX, np.full((38, 50), 255, np.uint8))
    assert extent((pixels_of(canvas) < 255).any(axis=2)) == (
        place.left - 1, place.top - 1, place.right + 1, place.bottom + 1
    )  # fmt: skip


def test_a_colour_bar_has_its_colours_at_its_values():
    canvas, colours = new_canvas(100, 420), colour_map(cv2.COLORMAP_INFERNO)
    axis = put_colour_bar(canvas, Box(10, 20, 90, 400), colours, Axis(10.0, 30.0), "distance")
    for value, step in ((12.0, 0.1), (20.0, 0.5), (28.0, 0.9)):
        drawn = pixels_of(canvas)[axis.at(value), 19].astype(int)
        assert np.abs(drawn - colours[round(255 * step)]).max() <= 4


def test_the_colours_are_those_of_matplotlib():
    matplotlib = pytest.importorskip("matplotlib")
    expected = 255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3]
    np.testing.assert_allclose(colour_map(cv2.COLORMAP_INFERNO), expected, atol=1)


@pytest.mark.parametrize(
    ("text", "spelt"), [("plain", "plain"), ("Größe é", "Grosse e"), ("o\u0308", "o"), ("日", "日"), ("…±°", "…±°")]
)
def test_letters_that_the_font_lacks_lose_their_accents(text, spelt):
    assert spell(text) == spelt


def test_a_text_that_is_too_long_loses_its_beginning():
    text = f"{'long-name-' * 40}.png: anomalous"
    clipped = clip_start(text, HEADLINE, 500)
    assert clipped.startswith("…")
    assert text.endswith(clipped[1:])
    assert 450 < width_of(clipped, HEADLINE) <= 500
    assert clip_start("short", HEADLINE, 500) == "short"
    assert clip_start("short", HEADLINE, 1) == ""


def test_no_line_crosses_a_text():
    plain, crossed = new_canvas(200, 60), new_canvas(200, 60)
    crossed.draw.line((0, 30, 200, 30), RED)
    for canvas in (plain, crossed):
        write(canvas, (100, 30), "ill", LABEL, "mm")
    left, top, right, bottom = extent((pixels_of(plain) < 200).any(axis=2))
    np.testing.assert_array_equal(*(pixels_of(canvas)[top:bottom, left:right] for canvas in (plain, crossed)))


def upright(values, **more):
    canvas = new_canvas(520, 420)
    bars = [[Bar(value, colour)] for value, colour in zip(values, (RED, BLUE, GREEN), strict=False)]
    put_bars(canvas, BOX, Bars([str(i) for i in range(len(values))], bars, "share, %", "level", **more))
    return canvas


def height_of(canvas, colour):
    return int(where(canvas, colour).sum(axis=0).max())


def test_upright_bars_are_as_long_as_their_values():
    canvas = upright([40.0, 20.0, 10.0])
    red, blue, green = (height_of(canvas, colour) for colour in (RED, BLUE, GREEN))
    assert red > 200
    assert blue == pytest.approx(red / 2, abs=2)
    assert green == pytest.approx(red / 4, abs=2)


def test_negative_bars_go_down_from_the_zero_of_the_others():
    canvas = upright([40.0, -20.0])
    assert extent(where(canvas, BLUE))[1] == pytest.approx(extent(where(canvas, RED))[3], abs=2)
    assert height_of(canvas, BLUE) == pytest.approx(height_of(canvas, RED) / 2, abs=2)


def test_a_value_that_is_not_finite_has_no_bar_and_the_others_have():
    canvas = upright([math.nan, 20.0, math.inf])
    assert height_of(canvas, BLUE) > 200
    assert not where(canvas, RED).any() and not where(canvas, GREEN).any()


def test_the_reference_is_a_dashed_line_at_its_value():
    canvas = upright([2.0, 1.0], reference=1.0)
    rows = np.flatnonzero(where(canvas, "#666666").sum(axis=1) > 100)
    assert rows.tolist() == [extent(where(canvas, BLUE))[1]]


def test_bars_of_a_group_are_side_by_side():
    canvas = new_canvas(520, 420)
    put_bars(canvas, BOX, Bars(["leading\n99 %"], [[Bar(3.0, RED), Bar(1.0, BLUE)]], "share"))
    assert extent(where(canvas, RED))[2] < extent(where(canvas, BLUE))[0]
    assert height_of(canvas, RED) == pytest.approx(3 * height_of(canvas, BLUE), abs=3)


@pytest.mark.parametrize("n", [1, 8])
def test_bars_in_rows_are_as_long_as_their_values_from_the_top(n):
    canvas, bars = new_canvas(520, 420), [[Bar(4.0, RED, "+19.2 std")], *[[Bar(1.0, BLUE, "-1.0 std")]] * (n - 1)]
    put_rows(canvas, BOX, Bars([f"#{i}" for i in range(n)], bars, "share, %", "component"))
    red = where(canvas, RED)
    assert red.sum(axis=1).max() > 300
    if n > 1:
        blue = where(canvas, BLUE)
        assert blue.sum(axis=1).max() == pytest.approx(red.sum(axis=1).max() / 4, abs=2)
        assert extent(red)[3] < extent(blue)[1]
    assert extent((pixels_of(canvas) < 255).any(axis=2))[2] <= BOX.right + 2  # the labels are in the box


def histogram(values, *marks):
    canvas = new_canvas(520, 420)
    put_histogram(canvas, BOX, Histogram(np.asarray(values), marks, "score", "normal images"))
    return canvas


def test_a_histograms_bars_are_as_high_as_their_counts_at_their_values():
    canvas = histogram([1.0] * 8 + [5.0] * 4 + [9.0] * 2)
    heights = where(canvas, PALE).sum(axis=0)
    left, _, right, _ = extent(where(canvas, PALE))
    middle = (left + right) // 2
    low, middle, high = (heights[x - 15 : x + 15].max() for x in (left + 15, middle, right - 15))
    assert low > 200
    assert middle == pytest.approx(low / 2, abs=2)
    assert high == pytest.approx(low / 4, abs=2)


def test_marks_are_at_their_values_and_in_the_legend():
    values = np.linspace(0.0, 10.0, 200)
    canvas = histogram(values, Mark(5.0, "this image", Line(RED, 3)), Mark(20.0, "threshold", Line(GREEN, 1, True)))
    plot = slice(50, 340)  # below the legend
    red, green = (np.flatnonzero(where(canvas, colour)[plot].sum(axis=0) > 100) for colour in (RED, GREEN))
    bars = extent(where(canvas, PALE))
    assert red.size == 3 and green.size == 1
    assert red.mean() == pytest.approx((bars[0] + bars[2]) / 2, abs=3)
    assert green[0] == pytest.approx(bars[0] + 2 * (bars[2] - bars[0]), abs=5)
    assert where(canvas, RED)[:40].any() and where(canvas, GREEN)[:40].any()


def test_a_threshold_that_is_infinite_has_no_line():
    canvas = histogram([1.0, 2.0], Mark(math.inf, "threshold", Line(GREEN)))
    assert not where(canvas, GREEN).any()


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [0.0], [1.0, 2.0, 1e12]])
def test_few_equal_and_far_values_can_be_drawn(values):
    assert where(histogram(values, Mark(4.0, "this image", Line(RED, 3))), PALE).any()
