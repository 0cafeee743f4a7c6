"""Looking at images: the network that a model needs, and files through it."""

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gaussad_cli.backbones.resolve import NetworkOptions
from gaussad_cli.detector import look as looking
from gaussad_cli.detector.look import find_network, look, look_at_all, open_network, open_network_of
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.engine import Compute
from tests.detector.tiny_network import features, lite0_model, open_tiny_network, pictures, tiny_model, write_pictures


@pytest.fixture
def paths(tmp_path):
    return write_pictures(tmp_path, pictures(7))


def flat(batches):
    return [image for batch in batches for image in batch]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8])
def test_features_are_the_networks_own_in_the_order_of_the_files(paths, batch_size):
    images = flat(look(open_tiny_network(batch_size), paths))
    assert [image.path for image in images] == paths
    for level, expected in features(pictures(7)).items():
        np.testing.assert_allclose([image.features[level] for image in images], expected, rtol=1e-5)


def test_batches_are_of_the_size_asked_for(paths):
    assert [len(batch) for batch in look(open_tiny_network(3), paths)] == [3, 3, 1]


def test_every_image_has_the_hash_of_its_file(paths):
    images = look_at_all(open_tiny_network(), paths, "test")
    assert [image.sha256 for image in images] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_an_image_is_resized_to_the_networks_square(tmp_path):
    (large,) = pictures(1, height=75, width=51)
    (path,) = write_pictures(tmp_path, [large])
    (image,) = flat(look(open_tiny_network(), [path]))
    square = cv2.resize(large, (32, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(image.features[1], features(square[None])[1][0], rtol=1e-5)


@pytest.mark.parametrize("bad", [0, 1, 6])
def test_a_file_that_cannot_be_read_has_an_error_and_leaves_the_others_alone(paths, bad):
    before = flat(look(open_tiny_network(), paths))
    paths[bad].write_bytes(b"no image")
    images = flat(look(open_tiny_network(), paths))
    assert [bool(image.error) for image in images] == [number == bad for number in range(7)]
    assert not images[bad].features
    for old, new in zip(before, images, strict=True):
        if not new.error:
            np.testing.assert_allclose(new.features[2], old.features[2], rtol=1e-5)


def test_a_batch_of_unreadable_files_does_not_reach_the_network(tmp_path):
    network = replace(open_tiny_network(), engine=None)
    (image,) = flat(look(network, [tmp_path / "nowhere.png"]))
    assert "nowhere.png" in image.error


def test_features_that_are_not_finite_are_an_error_that_names_the_image(paths):
    class Broken:
        levels = (1,)

        def run(self, images):
            values = np.ones((len(images), 6), np.float32)
            values[1, 3] = np.nan
            return {1: values}

    images = flat(look(replace(open_tiny_network(), engine=Broken()), paths[:3]))
    assert [bool(image.error) for image in images] == [False, True, False]
    assert str(paths[1]) in images[1].error


def test_only_a_few_batches_are_read_ahead(paths):
    asked = []
    batches = look(open_tiny_network(1), (asked.append(path) or path for path in paths))
    next(batches)
    assert len(asked) == 1 + looking.LOOKAHEAD


def test_one_by_one_no_file_is_asked_for_before_the_answer_to_the_last(paths):
    asked = []
    for answered, batch in enumerate(
        look(open_tiny_network(3), (asked.append(p) or p for p in paths), one_by_one=True)
    ):
        assert len(batch) == 1
        assert len(asked) == answered + 1


def test_an_opened_network_says_what_its_features_depend_on(tmp_path):
    opened = open_network(NetworkOptions("efficientnet-lite0", "2"), Compute("torch", "cpu"), tmp_path)
    identity = opened.identity
    assert opened.engine.levels == (2,)
    assert (identity.name, identity.padding, identity.input_size) == ("efficientnet-lite0", "tf", 224)
    assert (identity.engine, identity.precision) == ("torch", "fp32")
    assert len(identity.weights_sha256) == 64


def test_torch_exports_no_graph_before_a_model_is_to_carry_it(monkeypatch, tmp_path):
    exported = []
    monkeypatch.setattr("gaussad_cli.extraction.graphs.load_graph", lambda *_: exported.append(1) or b"graph")
    opened = open_network(NetworkOptions("efficientnet-lite0", "2"), Compute("torch", "cpu"), tmp_path)
    assert not exported
    assert opened.graph() == b"graph"


def test_a_network_that_cannot_be_exported_has_no_graph_to_carry(monkeypatch, tmp_path):
    def refuse(*_):
        raise UserError("cannot be exported")

    monkeypatch.setattr("gaussad_cli.extraction.graphs.load_graph", refuse)
    opened = open_network(NetworkOptions("efficientnet-lite0", "2"), Compute("torch", "cpu"), tmp_path)
    assert opened.graph() == b""


@pytest.mark.parametrize(("engine", "told"), [("torch", False), ("onnx", True)])
def test_another_engine_than_that_of_the_training_is_told(monkeypatch, tmp_path, engine, told):
    monkeypatch.setattr(looking, "find_network", lambda model, weights: None)
    monkeypatch.setattr(looking, "_open", lambda *_: None)
    notes = []
    open_network_of(tiny_model(), None, Compute(engine, "cpu"), tmp_path, notes.append)
    assert bool(notes) == told


def graph(size=224, name="image", output="level_1", width=32):
    """A network of one level: every feature is the mean of the image's gray values."""
    nodes = [
        helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("Expand", ["column", "shape"], [output]),
    ]
    image = helper.make_tensor_value_info(name, TensorProto.UINT8, [1, size, size, 3])
    features = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, width])
    constants = [numpy_helper.from_array(np.array(v), n) for n, v in (("axis", [1]), ("shape", [1, width]))]
    model = helper.make_model(
        helper.make_graph(nodes, "test", [image], [features], constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return model.SerializeToString()


def test_the_network_in_a_model_is_run_without_weights(tmp_path):
    network = open_network_of(replace(lite0_model(), network=graph()), None, Compute(), tmp_path / "none", print)
    (path,) = write_pictures(tmp_path, [np.full((9, 9, 3), 7, np.uint8)])
    (image,) = flat(look(network, [path]))
    np.testing.assert_array_equal(image.features[1], np.full(32, 7.0, np.float32))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (b"no graph", "cannot run the network in the model"),
        (graph(size=225), "another input"),
        (graph(name="picture"), "another input"),
        (graph(width=31), "other features"),
        (graph(output="level_2"), "other features"),
    ],
)
def test_a_network_that_is_not_the_models_is_refused(tmp_path, network, message):
    with pytest.raises(UserError, match=message):
        open_network_of(replace(lite0_model(), network=network), None, Compute(), tmp_path, print)


def test_other_weights_than_the_models_are_refused():
    with pytest.raises(UserError, match="not the weight file that the model was trained with"):
        find_network(lite0_model(), None)


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": 225},
        {"std": (1.0, 1.0, 1.0)},
        {"padding": "paper"},
        {"preprocessing": "other/1"},
        {"preprocessing": "pil-rgb8/cv2-linear/1/depth-7"},
    ],
)
def test_a_model_of_other_preprocessing_is_refused(change):
    with pytest.raises(UserError, match=r"takes other input|read in a way"):
        find_network(lite0_model(**change), None)


@pytest.mark.parametrize("level", [0, 2, 10])
def test_a_model_of_levels_that_the_backbone_does_not_have_is_refused(level):
    with pytest.raises(UserError, match=f"has no level {level} of 32 features"):
        find_network(lite0_model(level), None)
