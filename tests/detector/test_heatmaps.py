"""Masks, regions and colours of heat maps, against plain references."""

import numpy as np
import pytest
from scipy import ndimage

from gaussad_cli.detector.heatmaps import Deviation, Scale, colour, locate, mask_of, overlay
from gaussad_cli.evaluation.pixels import bring_to

SCALE = Scale(10.0, 20.0)
SHAPES = pytest.mark.parametrize("shape", [(64, 64), (60, 90), (37, 21), (5, 7)])


def maps(n=20, grid=8):
    noise = np.random.default_rng(0).gamma(3.0, 4.0, (n, grid, grid))
    return ndimage.gaussian_filter(noise, (0, 0.7, 0.7))


def plain_region(distances, threshold, shape):
    """The box of the region that holds the pixel of the greatest place, by another library's labels."""
    mask = mask_of(distances, threshold, shape)
    row, column = np.argwhere(distances == distances.max())[0]
    y, x = int((row + 0.5) * shape[0] / len(distances)), int((column + 0.5) * shape[1] / len(distances))
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    rows, columns = np.nonzero(labels == labels[y, x])
    return (x, y), (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@SHAPES
def test_the_mask_is_what_of_the_enlarged_map_is_beyond_the_threshold(shape):
    for distances in maps():
        mask = mask_of(distances, 15.0, shape)
        differs = mask != (bring_to(distances, shape) > 15.0)
        assert differs.sum() <= 1  # the greatest place
        assert mask[differs].all()


@SHAPES
def test_the_mask_is_empty_only_where_no_place_is_beyond(shape):
    for distances in maps():
        greatest = distances.max()
        assert mask_of(distances, np.nextafter(greatest, 0), shape).any()
        assert not mask_of(distances, greatest, shape).any()


@SHAPES
def test_the_box_is_that_of_the_masks_region_around_the_greatest_place(shape):
    for distances in maps():
        found = locate(distances, 13.0, shape)
        place, box = plain_region(distances, 13.0, shape)
        assert (found.x, found.y) == place
        assert found.box == box


def test_a_map_that_is_not_beyond_the_threshold_deviates_somewhere_and_has_no_box():
    distances = np.arange(16.0).reshape(4, 4)
    assert locate(distances, 15.0, (40, 80)) == Deviation(70, 35, None)
    assert locate(distances, np.inf, (40, 80)).box is None


def test_regions_that_touch_at_a_corner_are_one():
    distances = np.zeros((4, 4))
    distances[0, 0], distances[1, 1], distances[3, 3] = 9.0, 8.0, 7.0
    assert locate(distances, 1.0, (4, 4)).box == (0, 0, 2, 2)


def test_steps_of_the_scale():
    assert list(SCALE.steps(np.array([0.0, 10.0, 15.0, 19.99, 20.0, 30.0, 99.0]))) == [0, 0, 64, 127, 128, 255, 255]
    assert SCALE.end == 30.0
    assert not Scale(10.0, np.inf).steps(np.array([9.0, 99.0])).any()
    assert list(Scale(10.0, 5.0).steps(np.array([9.0, 11.0]))) == [0, 255]


def test_what_is_typical_has_no_colour_and_the_threshold_is_a_visible_step():
    gray = np.full(256, 128, np.uint8)
    drawn = colour(gray, np.arange(256, dtype=np.uint8)).astype(int)
    assert (drawn[0] == 128).all()
    change = np.abs(np.diff(drawn, axis=0)).sum(axis=1)
    assert change.argmax() == 127
    assert change[127] > 5 * np.delete(change, 127).max()
    assert (drawn[:51] == 128).all()
    assert (np.diff(np.ptp(drawn, axis=1)[51:]) >= -3).all()  # the farther, the more colour


def test_a_good_image_stays_gray_and_a_bad_place_gets_colour_and_an_outline():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    distances = np.full((8, 8), 9.0)
    plain = overlay(pixels, distances, SCALE)
    assert (np.ptp(plain.astype(int), axis=2) == 0).all()
    distances[2, 5] = 40.0
    drawn = overlay(pixels, distances, SCALE)
    inside = mask_of(distances, SCALE.threshold, (64, 64))
    far = bring_to(distances, (64, 64)) <= SCALE.typical
    np.testing.assert_array_equal(drawn[far], plain[far])
    assert (np.ptp(drawn[inside].astype(int), axis=1) > 50).mean() > 0.5
    border = inside & ~ndimage.binary_erosion(inside)
    assert (drawn[border] == 255).all()


def test_a_gray_image_is_drawn_as_its_copy_in_colour():
    gray = np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8)
    distances = maps(1)[0]
    np.testing.assert_array_equal(
        overlay(gray, distances, SCALE), overlay(np.repeat(gray[..., None], 3, axis=2), distances, SCALE)
    )
