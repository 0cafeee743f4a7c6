"""The ONNX file against the model itself, and what keeps a wrong file from being written."""

import platform
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_graph, make_model, make_opsetid, make_tensor_value_info
from torch import nn

from gaussad_cli import __version__
from gaussad_cli.detector import export, onnx_graph
from gaussad_cli.detector.onnx_graph import build_graph
from gaussad_cli.detector.onnx_pieces import Piece
from gaussad_cli.detector.onnx_resize import resize_like_opencv
from gaussad_cli.detector.scores import Scores
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.onnx_export import OPSET, export_network
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from tests.detector.tiny_network import (
    BACKBONE,
    GRID,
    LEVELS,
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


@cache
def exported(levels=LEVELS, grid=0):
    return export_network(TinyNetwork(levels, grid), BACKBONE)


def graph_of(model, rule="nhwc-uint8", resize=False):
    return build_graph(model, exported(model.level_numbers, model.backbone.grid), rule, resize)


def run(graph, images):
    session = graph.session(1)
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, {"image": images}), strict=True))


def resizer(size):
    """The resize on its own."""
    piece = resize_like_opencv(size)
    image, square = (make_tensor_value_info(name, onnx.TensorProto.UINT8, [None] * 4) for name in ("pixels", "square"))
    graph = make_graph(piece.nodes, "resize", [image], [square], piece.initializers)
    model = make_model(graph, opset_imports=[make_opsetid("", OPSET)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString())


def gray_levels_apart(session, images, theirs):
    ours = session.run(None, {"pixels": images})[0]
    return np.abs(ours.astype(int) - theirs).max()


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
    assert gray_levels_apart(resizer(size), image, theirs) <= LEVELS_APART


def test_one_file_resizes_images_of_any_size():
    session = resizer(95)
    for length in range(90, 300, 5):
        image = np.random.default_rng(length).integers(0, 256, (1, length, length + 7, 3), dtype=np.uint8)
        theirs = cv2.resize(image[0], (95, 95), interpolation=cv2.INTER_LINEAR)
        assert gray_levels_apart(session, image, theirs) <= LEVELS_APART, length


def test_an_infinite_threshold_flags_nothing():
    got = run(graph_of(tiny_model(threshold=np.inf)), pictures(3, seed=2))
    assert not got["decision"].any()


def test_a_network_that_keeps_one_image_takes_one_image():
    class OneImage(TinyNetwork):
        def feature_maps(self, images):
            return super().feature_maps(images[:1])

    graph = build_graph(tiny_model(), export_network(OneImage(), BACKBONE), "nhwc-uint8", False)
    assert not graph.batched
    assert run(graph, pictures(1))["score"] == pytest.approx(tiny_model().score(features(pictures(1))), rel=1e-5)
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
    graph = graph_of(model, resize=resize)
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
    proto = onnx.load_from_string(graph_of(model).content)
    onnx.checker.check_model(proto, full_check=True)
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert "4 x 4 places" in said["map"]
    assert float(said["typical"]) == model.places.typical
    assert [out.name for out in proto.graph.output] == ["score", "decision", "p_value", "map"]


@pytest.mark.parametrize("which", ["total", "heat_maps"])
def test_a_file_with_another_score_or_heat_map_is_not_written(tmp_path, torchs_scores, monkeypatch, which):
    model = tiny_places_model()

    def wrong(model, _engine, squares):
        scores = model.gaussians.score(features(squares, grid=GRID))
        return replace(scores, **{which: getattr(scores, which) * (1 + 2e-4)})

    monkeypatch.setattr(export, "own_scores", wrong)
    with pytest.raises(UserError, match="nothing was written"):
        export.export_model(model, exported(grid=GRID), tmp_path / "m.onnx", "nhwc-uint8", False, [])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def torchs_scores(monkeypatch):
    """Let files be compared with features by torch."""
    monkeypatch.setattr(export, "own_scores", lambda model, _engine, squares: own(model, squares))
    monkeypatch.setattr(export, "_TIMED_RUNS", 2)


@pytest.mark.parametrize("resize", [False, True])
def test_what_is_written_is_measured(tmp_path, torchs_scores, resize):
    out = tmp_path / "new" / "model.onnx"
    written = export.export_model(tiny_model(), exported(), out, "nhwc-uint8", resize, [])
    assert written.graph.content == out.read_bytes()
    assert written.difference < 1e-4
    assert written.random
    assert written.latency.one_thread > 0
    assert ("H, W" in str(written)) == resize


def test_given_images_are_compared_on(tmp_path, torchs_scores, monkeypatch):
    seen = []
    monkeypatch.setattr(
        export, "own_scores", lambda model, _engine, squares: (seen.append(squares), own(model, squares))[1]
    )
    image = pictures(1, seed=5, height=50, width=40)[0]
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    written = export.export_model(
        tiny_model(), exported(), tmp_path / "m.onnx", "nhwc-uint8", True, [tmp_path / "a.png"]
    )
    assert (written.images, written.random) == (1, False)
    np.testing.assert_array_equal(seen[0][0], cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize("wrong", [1 + 2e-4, np.nan])
def test_a_file_that_scores_otherwise_is_not_written(tmp_path, torchs_scores, monkeypatch, wrong):
    monkeypatch.setattr(export, "own_scores", lambda model, _engine, squares: own(model, squares, wrong))
    with pytest.raises(UserError, match="nothing was written"):
        export.export_model(tiny_model(), exported(), tmp_path / "m.onnx", "nhwc-uint8", False, [])
    assert not list(tmp_path.iterdir())


def test_a_resize_that_is_not_opencvs_is_not_written(tmp_path, torchs_scores, monkeypatch):
    def near(size):
        steps = """
            real = Cast <to = 1> (pixels)
            bilinear = Resize <mode = "linear"> (real, , , sizes)
            rounded = Round (bilinear)
            square = Cast <to = 2> (rounded)
        """
        return Piece(steps, {"sizes": np.array([1, size, size, 3])})

    monkeypatch.setattr(onnx_graph, "resize_like_opencv", near)
    with pytest.raises(UserError, match="nothing was written"):
        export.export_model(tiny_model(), exported(), tmp_path / "m.onnx", "nhwc-uint8", True, [])


def test_batch_norm_is_folded():
    network = TinyNetwork()
    export_network(network, BACKBONE)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_reduced_precision_is_refused(tmp_path):
    with pytest.raises(UserError, match="bf16"):
        export.export_model(lite0_model(precision="bf16"), b"", tmp_path / "m.onnx", "nhwc-uint8", False, [])
