"""Feature maps on a grid: the matrices are torch's pooling and interpolation, and the order is place by place."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from gaussad_cli.backbones.grid import resampling_matrix, to_grid
from gaussad_cli.backbones.network import LevelNetwork
from gaussad_cli.backbones.registry import default_place_levels, find_backbone
from gaussad_cli.backbones.resolve import NetworkOptions, check
from gaussad_cli.errors import UserError


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("length", "places"), [(56, 28), (112, 28), (48, 16), (28, 28), (24, 1)])
def test_where_a_map_is_a_multiple_of_the_grid_a_place_is_torchs_adaptive_average(length, places):
    values = draw(3, length)
    expected = functional.adaptive_avg_pool1d(torch.from_numpy(values), places).numpy()
    np.testing.assert_allclose(values @ resampling_matrix(length, places).T, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("length", "places"), [(14, 28), (7, 28), (12, 32), (24, 32), (1, 5), (2, 3), (27, 28)])
def test_where_a_map_is_smaller_than_the_grid_places_are_torchs_linear_interpolation(length, places):
    values = torch.from_numpy(draw(1, 3, length))
    expected = functional.interpolate(values, size=places, mode="linear", align_corners=False)[0].numpy()
    np.testing.assert_allclose(values[0].numpy() @ resampling_matrix(length, places).T, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("length", "places"), [(56, 32), (95, 32), (33, 32), (48, 28), (5, 3), (56, 28)])
def test_a_place_is_the_mean_over_the_part_of_the_map_that_it_covers(length, places):
    """The reference cuts every pixel into as many pieces as there are places: a place is then a run of whole pieces."""
    values = draw(length)
    expected = np.repeat(values, places).reshape(places, length).mean(axis=1)
    np.testing.assert_allclose(resampling_matrix(length, places) @ values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("length", "places"), [(1, 1), (7, 28), (95, 32), (112, 28), (13, 28), (3, 2)])
def test_the_weights_of_every_place_sum_to_one_and_none_is_negative(length, places):
    matrix = resampling_matrix(length, places)
    assert (matrix.dtype, matrix.shape) == (np.float32, (places, length))
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 4, 4), (1, 2, 3, 9), (1, 5, 10, 2)])
def test_a_grid_is_the_matrices_product_channel_by_channel_in_the_order_of_places(shape):
    maps = draw(*shape)
    rows, columns = resampling_matrix(shape[2], 4), resampling_matrix(shape[3], 4)
    values = to_grid(torch.from_numpy(maps), 4).numpy().reshape(shape[0], 4, 4, shape[1])
    for n in range(shape[0]):
        for channel in range(shape[1]):
            expected = rows @ maps[n, channel] @ columns.T
            np.testing.assert_allclose(values[n, :, :, channel], expected, rtol=1e-5, atol=1e-6)


def test_a_map_of_the_grids_own_size_stays_as_it_is():
    maps = torch.from_numpy(draw(2, 3, 4, 4))
    assert torch.equal(to_grid(maps, 4).reshape(2, 4, 4, 3), maps.permute(0, 2, 3, 1))


def test_places_are_computed_in_float32_under_autocast_too():
    maps = torch.from_numpy(draw(1, 3, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        inside = to_grid(maps, 4)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, to_grid(maps, 4))


class Fixed(LevelNetwork):
    """Gives the same two maps whatever it is asked."""

    levels = (1, 2)

    def feature_maps(self, images):
        yield torch.from_numpy(draw(2, 3, 8, 8))
        yield torch.from_numpy(draw(2, 5, 2, 2))


def test_the_mean_over_the_places_is_the_pooled_feature_where_sizes_divide_evenly():
    pooled, places = Fixed(), Fixed()
    places.grid = 4
    for mean, values in zip(pooled(None), places(None), strict=True):
        torch.testing.assert_close(values.reshape(2, 16, -1).mean(1), mean, rtol=1e-5, atol=1e-6)


# --- options ---


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("efficientnet-b4", (3, 4, 5, 6)),
        ("efficientnet-lite0", (3, 4, 5, 6)),
        ("resnet-18", (2, 3, 4)),
        ("timm:test_convnext", (2, 3)),
    ],
)
def test_the_levels_of_places_are_the_middle_ones_unless_they_are_chosen(name, levels):
    assert default_place_levels(find_backbone(name)) == levels
    assert check(NetworkOptions(name, grid=8)).levels == levels
    assert check(NetworkOptions(name, "1-2", grid=8)).levels == (1, 2)
    assert check(NetworkOptions(name)).levels == tuple(range(1, find_backbone(name).n_levels + 1))


def test_a_network_of_two_levels_keeps_one_of_them():
    backbone = find_backbone("timm:test_convnext")
    assert default_place_levels(type(backbone)(**{**vars(backbone), "dims": (8, 16)})) == (1,)


@pytest.mark.parametrize("grid", [-1, 225])
def test_a_grid_finer_than_the_image_is_an_error(grid):
    with pytest.raises(UserError, match=f"--grid {grid}: efficientnet-lite0 sees 224 pixels per side"):
        check(NetworkOptions("efficientnet-lite0", grid=grid))
