"""Pixel AUROC, AUPRO and their curves beside plain loops over every threshold."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score

from gaussad_cli.evaluation import pixels
from gaussad_cli.evaluation.pixels import aupro, bring_to, collect, pixel_auroc, points_into, pro_curve, roc_curve

VALUES = [0.0, 0.25, 0.5, 1.0, 1e-30, 7.0, 1e30, np.inf]  # few, so that they tie


def regions_of(masks):
    """List all 8-connected components, as pairs of the image's number and a mask of the component alone."""
    found = []
    for image, mask in enumerate(masks):
        label, n = ndimage.label(mask, structure=np.ones((3, 3)))
        found += [(image, label == k + 1) for k in range(n)]
    return found


def reference_curve(maps, masks):
    """Return FPR and PRO at every distinct threshold from above, by definition."""
    normal = np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)])
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        fpr.append(np.mean(normal >= threshold))
        pro.append(np.mean([np.mean(maps[image][region] >= threshold) for image, region in regions_of(masks)]))
    return np.array(fpr), np.array(pro)


def reference_aupro(maps, masks, limit):
    """Add up the trapezoids up to the limit, where the curve is cut by linear interpolation."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(zip(*reference_curve(maps, masks), strict=True)):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            cut = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + cut) / 2
    return area / limit


def pooled(maps, masks):
    return np.concatenate([m.ravel() for m in maps]), np.concatenate([mask.ravel() for mask in masks])


def drawn(seed, n=4, shape=(13, 17), decimals=1):
    """Draw some maps with ties, and masks of several regions; the first image is normal."""
    rng = np.random.default_rng(seed)
    masks = [rng.random(shape) < share for share in (0, 0.02, 0.2, 0.5)[:n]]
    maps = [np.round(rng.random(shape) + mask / 2, decimals).astype(np.float32) for mask in masks]
    return maps, masks


@st.composite
def images(draw):
    """A few small images of different sizes, all values from a short list."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        n = height * width
        values = draw(st.lists(st.sampled_from(VALUES), min_size=n, max_size=n))
        flags = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        found.append((np.float32(values).reshape(height, width), np.array(flags).reshape(height, width)))
    return [m for m, _ in found], [mask for _, mask in found]


# --- areas ---


@settings(deadline=None)
@given(images(), st.sampled_from([0.05, 0.3, 1.0]))
def test_areas_are_those_of_the_definitions_ties_included(drawn_images, limit):
    maps, masks = drawn_images
    values, anomalous = pooled(maps, masks)
    found = collect(maps, masks)
    if anomalous.all() or not anomalous.any():
        assert np.isnan(pixel_auroc(found))
        assert np.isnan(aupro(found, limit))
    else:
        finite = np.where(np.isinf(values), np.float32(3e38), values)  # scikit-learn refuses infinity
        assert pixel_auroc(found) == pytest.approx(roc_auc_score(anomalous, finite), abs=1e-12)
        assert aupro(found, limit) == pytest.approx(reference_aupro(maps, masks, limit), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 9])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_the_areas_do_not_depend_on_how_many_pixels_are_taken_at_a_time(monkeypatch, decimals, chunk):
    monkeypatch.setattr(pixels, "_CHUNK", chunk)
    maps, masks = drawn(0, decimals=decimals)
    found = collect(maps, masks)
    values, anomalous = pooled(maps, masks)
    assert pixel_auroc(found) == pytest.approx(roc_auc_score(anomalous, values), abs=1e-12)
    assert aupro(found) == pytest.approx(reference_aupro(maps, masks, 0.3), abs=1e-12)


def test_by_hand_a_small_region_counts_as_much_as_a_large_one():
    """Regions of 3 pixels (found at once) and of 1 pixel (found after half of the four normal ones)."""
    values = np.array([[9, 9, 9, 1, 2, 3, 4, 2.5]], np.float32)
    mask = np.array([[1, 1, 1, 0, 0, 0, 0, 1]], bool)
    found = collect([values], [mask])
    assert found.size.tolist() == [3, 1]
    assert pixel_auroc(found) == (3 * 4 + 2) / 16
    assert aupro(found, 1.0) == pytest.approx((1 + 0.5) / 2)
    assert aupro(found, 0.5) == pytest.approx(0.5)
    assert aupro(found, 0.75) == pytest.approx((0.5 * 0.5 + 1.0 * 0.25) / 0.75)


def test_by_hand_the_curve_is_straight_across_a_tie_and_where_the_limit_cuts_it():
    """All pixels tie: the curve is the diagonal, whose area up to 0.3 is 0.3 ** 2 / 2."""
    found = collect([np.ones((4, 5), np.float32)], [np.arange(20).reshape(4, 5) < 6])
    assert pixel_auroc(found) == 0.5
    assert aupro(found) == pytest.approx(0.15)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(4, dtype=bool)
    apart = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], bool)
    zeros = np.zeros((4, 4), np.float32)
    assert collect([zeros, zeros], [mask, apart]).size.tolist() == [4, 1, 2]


def test_a_region_belongs_to_one_image():
    """The same place in two images is two regions, and the pixels of each are told apart."""
    mask = np.array([[True, False]])
    found = collect([np.float32([[5, 0]]), np.float32([[3, 0]])], [mask, mask])
    assert found.size.tolist() == [1, 1]
    assert found.anomalous.tolist() == [3, 5]
    assert found.region.tolist() == [1, 0]


def test_a_perfect_map_has_areas_of_one_and_its_opposite_of_zero():
    _, masks = drawn(1)
    assert pixel_auroc(collect(masks, masks)) == 1
    assert aupro(collect(masks, masks)) == pytest.approx(1, abs=1e-15)
    assert aupro(collect(masks, masks)) <= 1
    opposite = [~mask for mask in masks]
    assert pixel_auroc(collect(opposite, masks)) == 0
    assert aupro(collect(opposite, masks)) == 0


def test_where_every_pixel_is_a_region_of_its_own_the_whole_area_is_the_auroc():
    rng = np.random.default_rng(2)
    mask = np.zeros((30, 30), bool)
    mask[::3, ::3] = True
    found = collect([np.round(rng.random(mask.shape), 1)], [mask])
    assert aupro(found, 1.0) == pytest.approx(pixel_auroc(found), abs=1e-13)


@given(st.integers(0, 50))
def test_areas_depend_on_the_order_of_distances_only(seed):
    maps, masks = drawn(seed)
    found, moved = collect(maps, masks), collect([8 * m - 3 for m in maps], masks)
    assert (pixel_auroc(found), aupro(found)) == (pixel_auroc(moved), aupro(moved))


@pytest.mark.parametrize("place", [(1, 0, 0), (3, 5, 5)])
def test_a_nan_anywhere_leaves_everything_undefined(place):
    for is_anomalous in (False, True):
        maps, masks = drawn(3)
        masks[place[0]][place[1:]] = is_anomalous
        maps[place[0]][place[1:]] = np.nan
        found = collect(maps, masks)
        assert np.isnan(pixel_auroc(found))
        assert np.isnan(aupro(found))
        assert np.isnan(roc_curve(found, 10)).all()
        assert np.isnan(pro_curve(found, 10)).all()


@pytest.mark.parametrize("mask", [np.zeros((3, 3), bool), np.ones((3, 3), bool)])
def test_with_one_class_only_everything_is_undefined(mask):
    found = collect([np.arange(9.0).reshape(3, 3)], [mask])
    assert np.isnan([pixel_auroc(found), aupro(found)]).all()
    assert np.isnan(pro_curve(found, 10)).all()
    assert np.isnan(roc_curve(found, 10)).all()


def test_without_images_everything_is_undefined():
    assert np.isnan([pixel_auroc(collect([], [])), aupro(collect([], []))]).all()


def test_maps_are_taken_one_at_a_time():
    maps, masks = drawn(4)
    listed, streamed = collect(maps, masks), collect(iter(maps), iter(masks))
    for name in ("normal", "anomalous", "region", "size"):
        np.testing.assert_array_equal(getattr(listed, name), getattr(streamed, name))


def test_a_map_of_another_size_than_its_mask_is_refused():
    with pytest.raises(ValueError, match="not of one image"):
        collect([np.zeros((3, 3))], [np.zeros((3, 4), bool)])
    with pytest.raises(ValueError, match="shorter"):
        collect([np.zeros((3, 3))], [])


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, np.nan])
def test_a_limit_that_is_no_rate_is_refused(limit):
    with pytest.raises(ValueError, match="limit"):
        aupro(collect(*drawn(5)), limit)


# --- curves ---


@settings(deadline=None)
@given(images())
def test_with_enough_points_the_curves_are_whole(drawn_images):
    maps, masks = drawn_images
    _, anomalous = pooled(maps, masks)
    if anomalous.all() or not anomalous.any():
        return
    fpr, pro = pro_curve(collect(maps, masks), 1000)
    expected = reference_curve(maps, masks)
    np.testing.assert_allclose(fpr, expected[0], atol=1e-12)
    np.testing.assert_allclose(pro, expected[1], atol=1e-12)
    fpr, tpr = roc_curve(collect(maps, masks), 1000)
    assert auc(fpr, tpr) == pytest.approx(pixel_auroc(collect(maps, masks)), abs=1e-12)


def test_a_thinned_curve_has_points_of_the_whole_one_close_together():
    maps, masks = drawn(6, shape=(60, 60), decimals=9)
    fpr, pro = pro_curve(collect(maps, masks), 50)
    whole = np.stack(reference_curve(maps, masks), axis=1)
    for point in zip(fpr, pro, strict=True):
        assert np.abs(whole - point).max(axis=1).min() < 1e-12
    assert (fpr[0], pro[0], fpr[-1], pro[-1]) == (0, 0, 1, 1)
    assert len(fpr) <= 101
    assert np.diff(fpr).min() >= 0
    assert np.diff(fpr).max() < 1 / 49 + 1e-3
    largest_weight = 1 / len(regions_of(masks))
    assert np.diff(pro).min() >= 0
    assert np.diff(pro).max() < 1 / 49 + largest_weight


def test_a_thinned_roc_curve_has_almost_the_whole_area():
    found = collect(*drawn(7, shape=(60, 60), decimals=9))
    fpr, tpr = roc_curve(found, 300)
    assert auc(fpr, tpr) == pytest.approx(pixel_auroc(found), abs=1e-4)


# --- maps ---


def test_a_coarse_map_is_brought_to_size_bilinearly_between_the_centres_of_places():
    brought = bring_to(np.array([[0.0, 4.0]]), (2, 8))
    assert brought.dtype == np.float32
    np.testing.assert_allclose(brought, [[0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]] * 2)


def test_a_map_is_brought_to_size_as_by_plain_bilinear_interpolation():
    coarse = np.random.default_rng(8).random((5, 7))
    centres = (np.arange(23) + 0.5) * 5 / 23 - 0.5, (np.arange(31) + 0.5) * 7 / 31 - 0.5
    expected = ndimage.map_coordinates(coarse, np.meshgrid(*centres, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(bring_to(coarse, (23, 31)), expected, atol=1e-6)


def test_a_map_of_the_wanted_size_stays_as_it_is():
    values = np.random.default_rng(9).random((6, 4), np.float32)
    np.testing.assert_array_equal(bring_to(values, (6, 4)), values)


def test_a_nan_stays_a_nan():
    assert np.isnan(bring_to(np.array([[0.0, np.nan], [1.0, 2.0]]), (8, 8))).any()


# --- pointing game ---


def test_the_greatest_distance_points_into_the_mask_or_beside_it():
    values = np.array([[0.0, 3.0], [1.0, 2.0]])
    assert points_into(values, np.array([[False, True], [False, False]]))
    assert not points_into(values, np.array([[True, False], [True, True]]))


def test_of_equal_distances_the_first_points():
    values = np.ones((2, 2))
    assert points_into(values, np.array([[True, False], [False, False]]))
    assert not points_into(values, np.array([[False, True], [True, True]]))


def test_a_map_with_a_nan_points_nowhere():
    assert not points_into(np.array([[1.0, np.nan]]), np.array([[True, True]]))


def test_a_mask_of_another_size_cannot_be_pointed_into():
    with pytest.raises(ValueError, match="not of one image"):
        points_into(np.zeros((2, 2)), np.zeros((2, 3), bool))


def test_regions_are_the_same_by_opencv_and_by_scipy():
    rng = np.random.default_rng(10)
    for share in (0.05, 0.3, 0.6):
        mask = ndimage.zoom(rng.random((20, 20)), 4, order=1) < share
        sizes = [int(region.sum()) for _, region in regions_of([mask])]
        assert sorted(collect([np.zeros(mask.shape)], [mask]).size.tolist()) == sorted(sizes)
        assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1 == len(sizes)
