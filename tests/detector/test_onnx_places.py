"""The piece of ONNX graphs for places against the Gaussians themselves, on random numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_graph, make_model, make_opsetid, make_tensor_value_info

from gaussad_cli.detector.attribution import level_shares
from gaussad_cli.detector.onnx_places import place_maps
from gaussad_cli.extraction.onnx_export import OPSET
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


def run(model, rows):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {f"level_{level}": values for level, values in rows.items()})[0]


def graph(sigma):
    """The piece on its own, from features of levels to maps."""
    piece = place_maps(gaussians(), sigma, {f"level_{level}": dim for level, dim in DIMS.items()})
    features = [
        make_tensor_value_info(f"level_{level}", onnx.TensorProto.FLOAT, ["n", GRID * GRID * dim])
        for level, dim in DIMS.items()
    ]
    maps = make_tensor_value_info("distances", onnx.TensorProto.DOUBLE, ["n", GRID, GRID])
    made = make_graph(piece.nodes, "places", features, [maps], piece.initializers)
    return make_model(made, opset_imports=[make_opsetid("", OPSET)], ir_version=10)


@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_maps_are_those_of_the_gaussians(sigma):
    rows = features(4)
    np.testing.assert_allclose(run(graph(sigma), rows), expected(rows, sigma), rtol=1e-5)


def test_the_graph_holds_only_half_of_the_factors_in_half_precision():
    sizes = {tuple(array.dims): array.data_type for array in graph(0.7).graph.initializer}
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
