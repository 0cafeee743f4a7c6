"""What the pictures of explanations show, pixel by pixel where that can be said."""

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest
from PIL import Image

from gaussad_cli.detector import pictures as pooled_pictures
from gaussad_cli.detector.axes import Axis
from gaussad_cli.detector.explain import Explainer
from gaussad_cli.detector.explain_places import PlacesExplainer
from gaussad_cli.detector.heatmaps import locate, mask_of, overlay
from gaussad_cli.detector.page import COLUMNS, IMAGE, WIDTH, image_room, new_page
from gaussad_cli.detector.panels import HEADLINE, NOTE, TITLE, width_of
from gaussad_cli.detector.pictures import blend, component_bars, cool_to_warm, draw_explanation, group_bars, level_bars
from gaussad_cli.detector.place_pictures import draw_places, score_histogram
from gaussad_cli.detector.place_pictures import level_bars as place_level_bars
from tests.detector.tiny_network import GRID, feature_maps, open_tiny_network, pictures, tiny_model, tiny_places_model

RED = (200, 85, 61)


def places_explainer():
    model = tiny_places_model()
    return PlacesExplainer(model, model.places, open_tiny_network(grid=GRID).engine)


def calm_explainer():
    one = places_explainer()
    return replace(one, model=replace(one.model, calibration=replace(one.model.calibration, threshold=np.inf)))


def drawn(draw, explanation, tmp_path):
    """The picture of an explanation, (H, W, 3) uint8."""
    draw(explanation, tmp_path / "why" / "picture.png")
    with Image.open(tmp_path / "why" / "picture.png") as picture:
        return np.asarray(picture)


def panel(picture, number, shape=(IMAGE, IMAGE), row_height=IMAGE):
    """What a picture has where the image of a column is."""
    room = image_room(new_page("", row_height).images[number]).around(*shape)
    return picture[room.top : room.bottom, room.left : room.right]


def explained_with_a_region():
    """An explanation of an image that deviates at one place, (1, 2) of 4 x 4."""
    explained = places_explainer().explain(gray_image(), "x")
    distances = np.full((GRID, GRID), explained.scale.typical)
    distances[1, 2] = explained.scale.end
    return replace(
        explained, distances=distances, deviation=locate(distances, explained.threshold, explained.pixels.shape[:2])
    )


def gray_image(height=IMAGE, width=IMAGE):
    return np.repeat(pictures(1, seed=7, height=height, width=width)[0][..., :1] // 4, 3, axis=2)


def test_the_panels_hold_image_and_heat_map_and_mask(tmp_path):
    explained = explained_with_a_region()
    picture = drawn(draw_places, explained, tmp_path)
    np.testing.assert_array_equal(panel(picture, 0), explained.pixels)
    expected = overlay(explained.pixels, explained.distances, explained.scale)
    np.testing.assert_array_equal(panel(picture, 1), expected)
    mask = mask_of(explained.distances, explained.threshold, (IMAGE, IMAGE))
    shown = panel(picture, 2)
    gray = np.ptp(shown, axis=2) == 0  # all but the box and the cross
    assert mask.any() and not mask.all()
    np.testing.assert_array_equal(shown[gray][:, 0] == 255, mask[gray])


def test_the_cross_and_the_box_are_where_the_deviation_is(tmp_path):
    explained = explained_with_a_region()
    red = (panel(drawn(draw_places, explained, tmp_path), 2) == RED).all(axis=2)
    assert red[explained.deviation.y, explained.deviation.x]
    left, top, right, bottom = explained.deviation.box
    assert 50 < left < explained.deviation.x < right < IMAGE
    columns, rows = (np.flatnonzero(red.sum(axis=axis) > 50) for axis in (0, 1))
    assert columns.tolist() == [left - 1, left, right - 1, right]
    assert rows.tolist() == [top - 1, top, bottom - 1, bottom]


def test_where_nothing_is_beyond_an_infinite_threshold_there_is_neither_colour_nor_box(tmp_path):
    picture = drawn(draw_places, calm_explainer().explain(gray_image(), "x"), tmp_path)
    assert (np.ptp(panel(picture, 1).astype(int), axis=2) == 0).all()
    mask = panel(picture, 2)
    assert 20 < (mask == RED).all(axis=2).sum() < 100  # the cross alone
    assert mask[0].max() == 0


def test_a_threshold_within_the_scale_is_marked_at_the_colour_bar(tmp_path):
    explained = explained_with_a_region()
    picture = drawn(draw_places, explained, tmp_path)
    room = image_room(new_page("").images[1])
    bar = picture[room.top : room.bottom, room.right + 12]  # just left of the colour bar
    (rows,) = np.nonzero((bar == 0).all(axis=1))
    middle = room.top + 23 + (room.height - 23) / 2  # the threshold is halfway to the end of the scale
    assert rows.size == 2
    assert room.top + rows.mean() == pytest.approx(middle, abs=2)


@pytest.mark.parametrize(
    ("height", "width", "row"), [(300, 4000, 160), (1600, 120, IMAGE), (5, 7, 320), (300, 400, 336)]
)
def test_images_of_any_shape_are_shown_in_their_proportions(tmp_path, height, width, row):
    explained = places_explainer().explain(gray_image(height, width), "x")
    picture = drawn(draw_places, explained, tmp_path)
    image = panel(picture, 0, (height, width), row)
    shrunk = cv2.resize(explained.pixels, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(explained.pixels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    np.testing.assert_allclose(image, shrunk if width > IMAGE or height > IMAGE else enlarged, atol=12)
    assert image.shape[1] / image.shape[0] == pytest.approx(width / height, rel=0.05)
    np.testing.assert_array_equal(
        panel(picture, 1, (height, width), row), overlay(image, explained.distances, explained.scale)
    )


def test_the_charts_of_places_have_the_explanations_numbers():
    explained = places_explainer().explain(gray_image(), "x")
    bars = place_level_bars(explained)
    assert list(bars.names) == ["1", "2"]
    assert sum(bars.values) == pytest.approx(100.0)
    histogram = score_histogram(explained)
    np.testing.assert_array_equal(histogram.values, explained.held_out)
    assert [mark.value for mark in histogram.marks] == [explained.score, explained.threshold]


def pooled(n=40, name="x", level=None):
    return Explainer(tiny_model(n), feature_maps).explain(pictures(1, seed=3)[0], name, level)


def test_the_panels_of_a_pooled_model_hold_image_and_maps(tmp_path):
    square = pictures(1, seed=3, height=IMAGE, width=IMAGE)[0]
    explained = replace(pooled(), square=square)
    picture = drawn(draw_explanation, explained, tmp_path)
    np.testing.assert_array_equal(panel(picture, 0), square)
    distance, contribution = explained.located.distance, explained.located.contribution
    for number, values, colours in (
        (1, distance, pooled_pictures.colour_map(cv2.COLORMAP_INFERNO)),
        (2, contribution / contribution.mean(), cool_to_warm()),
    ):
        enlarged = cv2.resize(values, (IMAGE, IMAGE), interpolation=cv2.INTER_LINEAR)
        limit = np.abs(enlarged).max()
        low, high = (enlarged.min(), enlarged.max()) if number == 1 else (-limit, limit)
        mapped = colours[np.rint((enlarged - low) / (high - low) * 255).astype(int)]
        expected = 0.6 * mapped + 0.4 * square.mean(axis=2, keepdims=True)
        np.testing.assert_allclose(panel(picture, number), expected, atol=1)


def test_the_charts_of_a_pooled_model_have_the_explanations_numbers():
    explained = pooled(n=5, level=2)
    assert [bar.value for (bar,) in level_bars(explained).groups] == [share.ratio for share in explained.levels]
    assert [bar.colour for (bar,) in level_bars(explained).groups] == ["#b9c4d0", "#c8553d"]
    groups = explained.directions.groups
    assert group_bars(explained).values == [100 * v for group in groups for v in (group.share, group.expected)]
    assert [name.split()[0] for name in group_bars(explained).names] == ["leading", "trailing", "outside"]
    largest = explained.directions.largest
    assert component_bars(explained).values == [100 * component.share for component in largest]
    assert list(component_bars(explained).names) == [f"#{component.number}" for component in largest]


def test_contributions_that_are_all_nought_are_drawn_gray(tmp_path):
    explained = pooled()
    flat = replace(explained.located, distance=np.ones((4, 4)), contribution=np.zeros((4, 4)))
    picture = drawn(draw_explanation, replace(explained, located=flat), tmp_path)
    shown = panel(picture, 2).astype(int)
    assert np.ptp(shown, axis=2).max() <= 3


def test_blending_clips_what_is_beyond_the_axis():
    colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    shown = blend(np.zeros((1, 3, 3), np.uint8), np.array([[-9.0, 0.5, 9.0]]), Axis(0.0, 1.0), colours)
    np.testing.assert_array_equal(shown[0, :, 0], [0, round(0.6 * 128), round(0.6 * 255)])


def test_cool_to_warm_is_morelands_map():
    matplotlib = pytest.importorskip("matplotlib")
    expected = 255 * matplotlib.colormaps["coolwarm"](np.arange(256))[:, :3]  # 33 of its colours, and lines between
    np.testing.assert_allclose(cool_to_warm(), expected, atol=5)
    assert np.abs(cool_to_warm() - expected).mean() < 0.6


def test_a_long_name_is_clipped_and_the_decision_stays(tmp_path):
    assert width_of(f"{'W' * 300}.png", HEADLINE) > WIDTH
    for name in ("W" * 300, "\x1b" * 80, "$\\frac$", "日" * 100):
        picture = drawn(draw_explanation, pooled(name=name), tmp_path)
        margin = picture[:80]
        assert (margin[:, :24] == 255).all() and (margin[:, -24:] == 255).all()
        assert (margin < 100).any()


def test_titles_fit_above_their_images_and_the_caveat_into_its_line():
    column = new_page("").images[0].width
    for text, lettering in (
        ("contribution to the squared distance, level 7 less normal pattern", TITLE),
        ("from what is typical of normal images; outlined: beyond the threshold", NOTE),
    ):
        assert width_of(text, lettering) < column
    assert width_of(pooled_pictures.CAVEAT, NOTE) < WIDTH - 56


def test_the_boxes_of_a_page_do_not_overlap():
    page = new_page("x", note_height=30)
    boxes = [*page.images, *page.charts, page.note]
    assert len(boxes) == 2 * COLUMNS + 1
    for a, b in combinations(boxes, 2):
        assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
    assert all(box.right <= page.canvas.box.right and box.bottom <= page.canvas.box.bottom for box in boxes)
