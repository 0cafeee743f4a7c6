"""Feature maps of single images: by a graph, and by the network itself; and that explaining imports little."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.resolve import NetworkOptions, resolve
from gaussad_cli.detector.feature_maps import feature_maps_of_graph, feature_maps_of_network
from tests.detector.tiny_network import pictures

SIDE = 6
LIGHT = ("explain", "explain_places", "feature_maps", "pictures", "place_pictures")
HEAVY = ("torch", "torchvision", "timm", "matplotlib", "pandas", "sklearn", "scipy", "albumentations")


def small_graph(levels):
    """A graph whose map of level k is the image, channels first, times k; of level 2, every second pixel of that."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIDE, SIDE, 3])
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["first", "one"], ["map_1"]),
        helper.make_node("Mul", ["first", "two"], ["doubled"]),
        helper.make_node("MaxPool", ["doubled"], ["map_2"], kernel_shape=[1, 1], strides=[2, 2]),
    ]
    sides = {1: SIDE, 2: SIDE // 2}
    outputs = [helper.make_tensor_value_info(f"map_{k}", TensorProto.FLOAT, [1, 3, sides[k], sides[k]]) for k in levels]
    factors = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("one", 1), ("two", 2))]
    graph = helper.make_graph(nodes, "maps", [image], outputs, factors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize("levels", [(1, 2), (2, 1), (2,)])
def test_a_graphs_outputs_are_the_levels_maps(levels):
    square = pictures(1, seed=3, height=SIDE, width=SIDE)[0]
    maps = feature_maps_of_graph(small_graph(levels))(square)
    expected = {1: square.transpose(2, 0, 1), 2: 2.0 * square.transpose(2, 0, 1)[:, ::2, ::2]}
    assert tuple(maps) == levels
    for level, values in maps.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[level])


def test_the_mean_of_a_networks_maps_is_what_its_engine_gives():
    from gaussad_cli.extraction.engine import Compute, build_engine

    network = resolve(NetworkOptions("efficientnet-lite0", "1,3"))
    square = pictures(1, seed=3, height=224, width=224)[0]
    maps = feature_maps_of_network(network)(square)
    engine = build_engine(Compute("torch", "cpu").choose(), network, None)
    pooled = engine.run(square[None])
    assert list(maps) == [1, 3]
    for level, values in maps.items():
        assert values.shape[0] == find_backbone("efficientnet-lite0").dims[level - 1]
        np.testing.assert_allclose(values.mean(axis=(1, 2)), pooled[level][0], rtol=1e-3, atol=1e-5)


def test_explaining_imports_none_of_the_large_packages():
    modules = ", ".join(f"gaussad_cli.detector.{name}" for name in LIGHT)
    script = f"import sys\nimport {modules}\nsys.exit(' '.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imported: {done.stderr}"
