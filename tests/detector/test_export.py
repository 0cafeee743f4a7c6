"""The ONNX file against the model itself, and what keeps a wrong file from being written."""

import platform
import warnings
from dataclasses import replace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from gaussad_cli import __version__
from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.detector import export, onnx_graph
from gaussad_cli.detector.onnx_graph import build_graph, resize_like_opencv
from gaussad_cli.detector.scores import Scores
from gaussad_cli.errors import UserError
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from tests.detector.tiny_network import (
    BACKBONE,
    GRID,
    SIZE,
    TinyNetwork,
    features,
    lite0_model,
    pictures,
    tiny_model,
    tiny_places_model,
)

# OpenCV's builds for ARM may resize by other libraries, a gray level apart.
LEVELS_APART = 0 if platform.machine().lower() in ("x86_64", "amd64") else 1


def graph_of(model, rule="nhwc-uint8", resize=False, network=None):
    return build_graph(model, network or TinyNetwork(model.level_numbers), BACKBONE, rule, resize)


def run(graph, images):
    session = graph.session(1)
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, {"image": images}), strict=True))


def as_float(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


@pytest.mark.parametrize(
    ("n", "compression"),
    [(40, NO_COMPRESSION), (5, NO_COMPRESSION), (40, Compression("pca", 0.9)), (40, Compression("npca", 0.01))],
    ids=["all", "fewer images than features", "pca", "npca"],
)
def test_scores_are_the_models_own(n, compression):
    model, images = tiny_model(n, compression), pictures(6, seed=2)
    got = run(graph_of(model), images)
    assert got["score"].dtype == np.float64
    np.testing.assert_allclose(got["score"], model.score(features(images)), rtol=1e-5)
    by_level = model.gaussians.score(features(images)).by_level
    np.testing.assert_allclose(got["level_scores"], np.stack(list(by_level.values()), axis=1), rtol=1e-5)


def test_decision_and_p_value_are_the_models_own():
    model, images = tiny_model(), pictures(12, seed=7)
    got, own = run(graph_of(model), images), model.score(features(images))
    assert set(got["decision"]) == {True, False}
    np.testing.assert_array_equal(got["decision"], own > model.calibration.threshold)
    np.testing.assert_allclose(got["p_value"], model.calibration.p_values(own), rtol=1e-12)


def test_float_images_score_as_the_same_bytes():
    model, images = tiny_model(), pictures(4, seed=2)
    ours = run(graph_of(model, "nchw-float"), as_float(images))["score"]
    np.testing.assert_allclose(ours, model.score(features(images)), rtol=1e-5)


@pytest.mark.parametrize("rule", ["nhwc-uint8", "nchw-float"])
def test_with_resize_any_size_scores_as_opencv_resized_it(rule):
    model = tiny_model()
    graph, tolerance = graph_of(model, rule, resize=True), 1e-5 if LEVELS_APART == 0 else 0.2
    for height, width in ((64, 64), (75, 51), (20, 90)):
        images = pictures(2, seed=3, height=height, width=width)
        squares = np.stack([cv2.resize(one, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for one in images])
        got = run(graph, images if rule == "nhwc-uint8" else as_float(images))
        np.testing.assert_allclose(got["score"], model.score(features(squares)), rtol=tolerance)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(448, 448, 224), (417, 438, 224), (100, 90, 224), (1, 5, 32), (33, 32, 32), (7, 300, 50)],
)
def test_the_resize_is_opencvs_to_the_bit(height, width, size):
    image = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    theirs = np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_LINEAR) for one in image])
    ours = resize_like_opencv(torch.from_numpy(image), size).numpy()
    assert np.abs(ours - theirs).max() <= LEVELS_APART


def test_the_resize_is_opencvs_to_the_bit_in_onnx_too(tmp_path):
    class Resize(nn.Module):
        def forward(self, images):
            return resize_like_opencv(images, 95)

    axes = {"image": {1: "height", 2: "width"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 95, 95, 3, dtype=torch.uint8),)
        torch.onnx.export(
            Resize(), example, tmp_path / "r.onnx", dynamo=False, input_names=["image"], dynamic_axes=axes
        )
    session = onnxruntime.InferenceSession(tmp_path / "r.onnx")
    for length in range(90, 300, 5):
        image = np.random.default_rng(length).integers(0, 256, (length, length + 7, 3), dtype=np.uint8)
        theirs = cv2.resize(image, (95, 95), interpolation=cv2.INTER_LINEAR)
        assert np.abs(session.run(None, {"image": image[None]})[0] - theirs).max() <= LEVELS_APART, length


def test_an_infinite_threshold_flags_nothing():
    got = run(graph_of(tiny_model(threshold=np.inf)), pictures(3, seed=2))
    assert not got["decision"].any()


def test_a_network_that_keeps_one_image_takes_one_image():
    class OneImage(TinyNetwork):
        def feature_maps(self, images):
            return (one.reshape(1, *one.shape[1:]) + 0 for one in super().feature_maps(images[:1]))

    graph = graph_of(tiny_model(), network=OneImage())
    assert not graph.batched
    assert onnx.load_from_string(graph.content).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert graph_of(tiny_model()).batched


def test_the_file_says_what_it_is():
    model = tiny_model()
    proto = onnx.load_from_string(graph_of(model).content)
    onnx.checker.check_model(proto, full_check=True)
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert said["gaussad_version"] == __version__
    assert (said["backbone"], said["weights_sha256"], said["levels"]) == ("tiny", "0" * 64, "1,2")
    assert float(said["threshold"]) == model.calibration.threshold
    assert "INTER_LINEAR" in said["input"]
    assert [out.name for out in proto.graph.output] == ["score", "decision", "p_value", "level_scores"]


def own(model, squares, factor=1.0):
    return Scores(factor * model.score(features(squares)))


@pytest.mark.parametrize("resize", [False, True])
def test_a_model_of_places_gives_its_scores_and_heat_maps(resize):
    model, images = tiny_places_model(), np.concatenate([pictures(5, seed=2), pictures(3, seed=3) // 4])
    graph = graph_of(model, resize=resize, network=TinyNetwork(grid=GRID))
    assert graph.batched
    got, seen = run(graph, images), features(images, grid=GRID)
    own = model.score(seen)
    assert set(got) == {"score", "decision", "p_value", "map"}
    np.testing.assert_allclose(got["score"], own, rtol=1e-5)
    np.testing.assert_allclose(got["map"], model.places.heat_maps(seen), rtol=1e-5)
    assert set(got["decision"]) == {True, False}
    np.testing.assert_array_equal(got["decision"], own > model.calibration.threshold)
    np.testing.assert_allclose(got["p_value"], model.calibration.p_values(own), rtol=1e-12)


def test_the_file_of_a_model_of_places_says_what_its_map_is():
    model = tiny_places_model()
    proto = onnx.load_from_string(graph_of(model, network=TinyNetwork(grid=GRID)).content)
    onnx.checker.check_model(proto, full_check=True)
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert "4 x 4 places" in said["map"]
    assert float(said["typical"]) == model.places.typical
    assert [out.name for out in proto.graph.output] == ["score", "decision", "p_value", "map"]


@pytest.mark.parametrize("which", ["total", "heat_maps"])
def test_a_file_with_another_score_or_heat_map_is_not_written(tmp_path, tiny_source, monkeypatch, which):
    model = tiny_places_model()

    def wrong(model, _source, squares):
        scores = model.gaussians.score(features(squares, grid=GRID))
        return replace(scores, **{which: getattr(scores, which) * (1 + 2e-4)})

    monkeypatch.setattr(export, "build_network", lambda network: TinyNetwork(grid=GRID))
    monkeypatch.setattr(export, "own_scores", wrong)
    with pytest.raises(UserError, match="nothing was written"):
        export.export_model(model, None, tmp_path / "m.onnx", "nhwc-uint8", False, [])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def tiny_source(monkeypatch):
    resolved = ResolvedNetwork(BACKBONE, "native", (1, 2), checkpoint=None)
    monkeypatch.setattr(export, "find_network", lambda model, weights: resolved)
    monkeypatch.setattr(export, "build_network", lambda network: TinyNetwork())
    monkeypatch.setattr(export, "own_scores", lambda model, _source, squares: own(model, squares))
    monkeypatch.setattr(export, "_TIMED_RUNS", 2)


@pytest.mark.parametrize("resize", [False, True])
def test_what_is_written_is_measured(tmp_path, tiny_source, resize):
    out = tmp_path / "new" / "model.onnx"
    exported = export.export_model(tiny_model(), None, out, "nhwc-uint8", resize, [])
    assert exported.graph.content == out.read_bytes()
    assert exported.difference < 1e-4
    assert exported.random
    assert exported.latency.one_thread > 0
    assert ("H, W" in str(exported)) == resize


def test_given_images_are_compared_on(tmp_path, tiny_source, monkeypatch):
    seen = []
    monkeypatch.setattr(
        export, "own_scores", lambda model, _source, squares: (seen.append(squares), own(model, squares))[1]
    )
    image = pictures(1, seed=5, height=50, width=40)[0]
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    exported = export.export_model(tiny_model(), None, tmp_path / "m.onnx", "nhwc-uint8", True, [tmp_path / "a.png"])
    assert (exported.images, exported.random) == (1, False)
    np.testing.assert_array_equal(seen[0][0], cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize("wrong", [1 + 2e-4, np.nan])
def test_a_file_that_scores_otherwise_is_not_written(tmp_path, tiny_source, monkeypatch, wrong):
    monkeypatch.setattr(export, "own_scores", lambda model, _source, squares: own(model, squares, wrong))
    with pytest.raises(UserError, match="nothing was written"):
        export.export_model(tiny_model(), None, tmp_path / "m.onnx", "nhwc-uint8", False, [])
    assert not list(tmp_path.iterdir())


def test_a_resize_that_is_not_opencvs_is_not_written(tmp_path, tiny_source, monkeypatch):
    def near(images, size):
        planes = nn.functional.interpolate(images.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear")
        return planes.round().permute(0, 2, 3, 1)

    monkeypatch.setattr(onnx_graph, "resize_like_opencv", near)
    with pytest.raises(UserError, match="nothing was written"):
        export.export_model(tiny_model(), None, tmp_path / "m.onnx", "nhwc-uint8", True, [])


def test_a_network_that_torch_cannot_export_is_a_clear_error():
    class Odd(TinyNetwork):
        def feature_maps(self, images):
            return (torch.special.bessel_j0(one) for one in super().feature_maps(images))

    with pytest.raises(UserError, match="cannot be exported to ONNX"):
        graph_of(tiny_model(), network=Odd())


def test_batch_norm_is_folded():
    network = TinyNetwork()
    graph_of(tiny_model(), network=network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_reduced_precision_is_refused(tmp_path):
    with pytest.raises(UserError, match="bf16"):
        export.export_model(lite0_model(precision="bf16"), None, tmp_path / "m.onnx", "nhwc-uint8", False, [])
