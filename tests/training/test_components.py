"""Connected components: CCA by bisection is CCA by its definition; the protocol's sizes come out of the masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.training.components import cca_score, largest_component, smallest_anomaly

EIGHT = np.ones((3, 3))


def by_definition(error, size):
    """The highest of all values at which a component is large enough, tried one after the other."""
    wanted = max(1, int(np.ceil(size * error.size - 1e-6)))
    for threshold in sorted(set(error.ravel().tolist()), reverse=True):
        labels, n = ndimage.label(error >= threshold, EIGHT)
        if n and np.bincount(labels.ravel())[1:].max() >= wanted:
            return threshold
    raise AssertionError("all pixels together are a component")


@settings(max_examples=150, deadline=None)
@given(
    error=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 2.0]),
    ),
    size=st.sampled_from([1e-4, 0.02, 0.1, 0.3, 0.5, 1.0]),
)
def test_cca_is_the_definitions(error, size):
    assert cca_score(error, size) == by_definition(error, size)


def test_cca_of_a_real_sized_map_without_ties():
    error = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((64, 48)), 2)
    for size in (1 / error.size, 0.001, 0.01, 0.2, 1.0):
        assert cca_score(error, size) == by_definition(error, size)
    assert cca_score(error, 1 / error.size) == error.max()
    assert cca_score(error, 1.0) == error.min()


def test_pixels_hang_together_over_corners():
    mask = np.eye(7, dtype=bool)
    assert largest_component(mask) == 7
    assert largest_component(np.zeros((3, 3), dtype=bool)) == 0


@pytest.mark.parametrize("size", [0.0, -1.0, 1.5, np.nan])
def test_a_size_that_is_no_fraction_is_an_error(size):
    with pytest.raises(ValueError, match="fraction"):
        cca_score(np.ones((4, 4)), size)


@pytest.mark.parametrize(
    ("name", "published"), [("bottle", 0.00575679), ("metal_nut", 0.00119592), ("screw", 0.00065994)]
)
def test_the_smallest_anomalies_are_the_protocols(mvtec, name, published):
    (category,) = find_categories(mvtec, [name])
    found = smallest_anomaly(category)
    # The masks are reduced to 448 pixels: a component of k pixels is off by its rim, about the root of its area.
    pixels = published * 448**2
    assert abs(found * 448**2 - pixels) <= 2 * np.sqrt(pixels)


def test_masks_are_all_there_or_none(tiny):
    (lid,) = find_categories(tiny, ["lid"])
    assert smallest_anomaly(lid) is None
    folder = tiny / "lid/ground_truth/scratch"
    folder.mkdir(parents=True)
    mask = np.zeros((40, 40), np.uint8)
    mask[3:6, 3:7] = mask[20, 20] = 255
    Image.fromarray(mask).save(folder / "000_mask.png")
    with pytest.raises(UserError, match=r"1 masks for 3 anomalous test images; missing is .*001_mask\.png"):
        smallest_anomaly(lid)
    for i in (1, 2):
        Image.fromarray(np.full((40, 40), 255, np.uint8)).save(folder / f"00{i}_mask.png")
    assert smallest_anomaly(lid) == 12 / 1600
    (folder / "001_mask.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="001_mask"):
        smallest_anomaly(lid)
