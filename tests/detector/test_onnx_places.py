"""The module of places in ONNX graphs against the Gaussians themselves, on random numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from gaussad_cli.detector.attribution import level_shares
from gaussad_cli.detector.onnx_places import PlaceMaps
from gaussad_cli.extraction.onnx_export import export_module
from gaussad_cli.gaussian.places import PlaceGaussians, join_levels, smooth

GRID, DIMS, KEPT = 5, {3: 4, 5: 7}, 6


def gaussians(seed=0):
    rng = np.random.default_rng(seed)
    places, dim = GRID * GRID, sum(DIMS.values())
    factors = np.tril(rng.normal(size=(places, KEPT, KEPT))).astype(np.float16).astype(np.float32)
    mean, basis = (rng.normal(size=shape).astype(np.float32) for shape in ((places, dim), (dim, KEPT)))
    return PlaceGaussians(20, mean, basis, factors, 0.3)


def features(n, seed=1):
    rng = np.random.default_rng(seed)
    return {level: rng.normal(size=(n, GRID * GRID * dim)).astype(np.float32) for level, dim in DIMS.items()}


def expected(rows, sigma):
    return smooth(gaussians().distances(join_levels(rows, GRID * GRID)), sigma)


@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_maps_are_those_of_the_gaussians(sigma):
    rows = features(4)
    with torch.inference_mode():
        got = PlaceMaps(gaussians(), sigma)([torch.from_numpy(values) for values in rows.values()])
    np.testing.assert_allclose(got.numpy(), expected(rows, sigma), rtol=1e-5)


def test_the_graph_gives_them_too_and_holds_only_half_of_the_factors_in_half_precision():
    class FromImage(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = PlaceMaps(gaussians(), 0.7)

        def forward(self, image):
            return self.maps(image.split([GRID * GRID * dim for dim in DIMS.values()], 1))

    rows = features(3)
    example, axes = torch.zeros(1, GRID * GRID * sum(DIMS.values())), {"image": {0: "n"}, "map": {0: "n"}}
    content = export_module(FromImage(), example, ["map"], "test", axes, fold_constants=False)
    session = onnxruntime.InferenceSession(content)
    got = session.run(None, {"image": np.concatenate(list(rows.values()), axis=1)})[0]
    np.testing.assert_allclose(got, expected(rows, 0.7), rtol=1e-5)
    sizes = {tuple(array.dims): array.data_type for array in onnx.load_from_string(content).graph.initializer}
    assert sizes[GRID * GRID, KEPT * (KEPT + 1) // 2] == onnx.TensorProto.FLOAT16
    assert (GRID * GRID, KEPT, KEPT) not in sizes


def test_shares_of_levels_are_their_parts_of_the_squared_distance():
    fitted, image = gaussians(), join_levels(features(1), GRID * GRID)[0]
    for place in (0, 7, GRID * GRID - 1):
        deviations = (image - fitted.mean)[place].astype(np.float64)
        precision = fitted.basis @ fitted.factors[place].T.astype(np.float64) @ fitted.factors[place] @ fitted.basis.T
        squared = deviations @ precision @ deviations
        assert squared == pytest.approx(fitted.squared(image[None])[0, place], rel=1e-5)
        first = sum(deviations[i] * precision[i, j] * deviations[j] for i in range(4) for j in range(11))
        shares = level_shares(fitted, image, place, DIMS)
        assert shares[3] == pytest.approx(first / squared, rel=1e-5)
        assert list(shares) == [3, 5]
        assert sum(shares.values()) == pytest.approx(1.0)


def test_an_image_that_is_the_mean_has_shares_of_nothing():
    fitted = gaussians()
    assert level_shares(fitted, fitted.mean, 3, DIMS) == {3: 0.0, 5: 0.0}
