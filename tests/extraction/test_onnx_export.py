"""The graph of a network: what it says of itself, how many images it takes, and the feature maps inside."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from gaussad_cli.backbones.network import normalise
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.network_graph import feature_map_graph
from gaussad_cli.extraction.onnx_engine import OnnxEngine
from gaussad_cli.extraction.onnx_export import export_network
from tests.detector.tiny_network import BACKBONE, GRID, LEVELS, SIZE, TinyNetwork, features, pictures


class OneImage(TinyNetwork):
    """Gives the maps of the first image, whatever the number of images."""

    def feature_maps(self, images):
        return super().feature_maps(images[:1])


class Odd(TinyNetwork):
    """Has an operator without a counterpart in ONNX."""

    def feature_maps(self, images):
        return (torch.special.bessel_j0(level) for level in super().feature_maps(images))


class Attentive(Odd):
    """Has such an operator only where it is told to, as timm's attention is."""

    fused_attn = True

    def feature_maps(self, images):
        return super().feature_maps(images) if self.fused_attn else TinyNetwork.feature_maps(self, images)


def exported(network):
    return export_network(network, BACKBONE)


def batch_of(graph):
    dimension = onnx.load_from_string(graph).graph.input[0].type.tensor_type.shape.dim[0]
    return dimension.dim_param or dimension.dim_value


@pytest.mark.parametrize("grid", [0, GRID])
def test_several_images_at_a_time_have_the_networks_features(grid):
    images, graph = pictures(5), exported(TinyNetwork(grid=grid))
    assert batch_of(graph) == "batch"
    session = onnxruntime.InferenceSession(graph)
    assert [output.name for output in session.get_outputs()] == ["level_1", "level_2"]
    for ours, theirs in zip(session.run(None, {"image": images}), features(images, grid=grid).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_attention_that_cannot_be_exported_as_one_operator_is_taken_apart():
    assert batch_of(exported(Attentive())) == "batch"


def test_a_network_of_one_image_at_a_time_says_so():
    images, graph = pictures(1), exported(OneImage())
    assert batch_of(graph) == 1
    np.testing.assert_allclose(OnnxEngine(graph, LEVELS).run(images)[2], features(images)[2], rtol=1e-4, atol=1e-5)


def test_the_export_is_the_same_every_time_and_leaves_nothing_behind(tmp_path, monkeypatch, capfd, recwarn):
    monkeypatch.chdir(tmp_path)
    assert exported(TinyNetwork()) == exported(TinyNetwork())
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)
    assert not list(tmp_path.iterdir())


def test_the_graph_names_no_file_of_the_machine_and_is_read_by_older_runtimes():
    graph = exported(TinyNetwork())
    assert b".py" not in graph
    model = onnx.load_from_string(graph)
    assert model.ir_version <= 10 and model.opset_import[0].version <= 21  # of ONNX Runtime 1.20


@pytest.mark.parametrize("grid", [0, GRID])
def test_the_maps_inside_are_what_the_features_are_made_of(grid):
    images, network = pictures(3), TinyNetwork(grid=grid)
    session = onnxruntime.InferenceSession(feature_map_graph(exported(network)))
    maps = dict(zip(LEVELS, session.run(["map_1", "map_2"], {"image": images}), strict=True))
    with torch.inference_mode():
        expected = list(TinyNetwork().feature_maps(normalise(torch.from_numpy(images), BACKBONE)))
    for level, theirs in zip(LEVELS, expected, strict=True):
        np.testing.assert_allclose(maps[level], theirs.numpy(), rtol=1e-4, atol=1e-4)
    assert maps[1].shape == (3, 6, SIZE // 2, SIZE // 2)


def test_a_graph_of_maps_has_nothing_that_only_the_features_need():
    graph = onnx.load_from_string(feature_map_graph(exported(TinyNetwork()))).graph
    assert [output.name for output in graph.output] == ["map_1", "map_2"]
    assert not any(node.op_type == "ReduceMean" for node in graph.node)
    used = {name for node in graph.node for name in node.input}
    assert {weight.name for weight in graph.initializer} <= used


def test_the_error_names_what_torch_cannot_export_in_one_line(capfd):
    with pytest.raises(
        UserError, match=r"tiny cannot be exported to ONNX \(.*bessel_j0.*\): only --engine torch"
    ) as error:
        exported(Odd())
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert capfd.readouterr() == ("", "")
