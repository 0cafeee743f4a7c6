"""gaussad export and gaussad explain: real Lite0 end to end, and what goes wrong."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from gaussad_cli.backbones.network import build_network, normalise
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.backbones.weights import find_checkpoint
from gaussad_cli.detector import export, pictures
from gaussad_cli.detector.container import write_model
from gaussad_cli.detector.model import BackboneIdentity, Calibration, Model, PooledModel, fit_level
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.files import write_whole
from tests.conftest import assert_user_error, write_image

LEVELS = (1, 2, 3)


def lite0_features(squares):
    """The features of (n, 224, 224, 3) uint8 by torch, without folding: not the way that either file takes."""
    import torch

    backbone = find_backbone("efficientnet-lite0")
    network = build_network(ResolvedNetwork(backbone, "tf", LEVELS, find_checkpoint(backbone, None)))
    with torch.inference_mode():
        pooled = network(normalise(torch.from_numpy(squares), backbone))
    return {level: values.numpy() for level, values in zip(LEVELS, pooled, strict=True)}


def squares(paths):
    return np.stack([read_squares(path, [224]).by_size[224] for path in paths])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return [write_image(folder / f"{number}.png", number, size=150) for number in range(8)]


@pytest.fixture(scope="module")
def model(images):
    backbone = find_backbone("efficientnet-lite0")
    checkpoint = find_checkpoint(backbone, None)
    features = lite0_features(squares(images))
    identity = BackboneIdentity(
        backbone.name, checkpoint.label, checkpoint.sha256, "tf", 224, backbone.mean, backbone.std,
        "pil-rgb8/cv2-linear/1", "onnx", "fp32",
    )  # fmt: skip
    levels = PooledModel(tuple(fit_level(level, values) for level, values in features.items()))
    distances = np.sort(Model(identity, levels, Calibration(np.zeros(0), 0.1, 0.0), {}).score(features))
    return Model(identity, levels, Calibration(distances, 0.1, float(distances[-2])), {})


@pytest.fixture
def cli(gaussad, monkeypatch, model, tmp_path):
    """The command line, in a folder that has the model."""
    write_model(tmp_path / "m.gaussad", model)
    monkeypatch.setattr(export, "_TIMED_RUNS", 2)
    return gaussad


@pytest.fixture
def quick_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "draw_explanation", lambda _, path: write_whole(path, lambda file: file.write(b"x")))


def test_lite0_exported_scores_as_the_model_does(cli, model, images, tmp_path):
    done = cli("export", "m.gaussad", "--out", "m.onnx", "--image", images[0])
    assert done.code == 0, done.err
    for fragment in ("m.onnx: ", " MB", "(N, 224, 224, 3) uint8 RGB", " ms an image on one thread", "(1 images)"):
        assert fragment in done.out
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    got = session.run(["score"], {"image": squares(images)})[0]
    np.testing.assert_allclose(got, model.score(lite0_features(squares(images))), rtol=1e-4)


def test_input_and_resize_change_what_the_file_takes(cli, tmp_path):
    done = cli("export", "m.gaussad", "--out", "m.onnx", "--input", "nchw-float", "--resize")
    assert done.code == 0, done.err
    assert "(N, 3, H, W) float32 RGB in [0, 1]" in done.out
    assert "(3 random images)" in done.out
    score = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"image": np.zeros((2, 3, 31, 77), np.float32)})
    assert score[0].shape == (2,)


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--format", "tflite"), ("--format 'tflite'", "onnx")),
        (("--input", "bgr"), ("--input 'bgr'", "nhwc-uint8, nchw-float")),
        (("--image", "none.png"), ("none.png",)),
        (("--weights", "none.pth"), ("none.pth",)),
    ],
)
def test_a_wrong_option_of_export_writes_nothing(cli, tmp_path, options, fragments):
    assert_user_error(cli("export", "m.gaussad", "--out", "m.onnx", *options), *fragments)
    assert not (tmp_path / "m.onnx").exists()


def test_explain_draws_a_picture_and_prints_its_numbers(cli, images):
    done = cli("explain", "m.gaussad", images[0], "--out", "why", "--level", 2)
    assert done.code == 0, done.err
    for fragment in ("shares of level 2's squared distance", "leading", "trailing", "outside"):
        assert fragment in done.out
    with Image.open(Path("why") / "0-explained.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert min(pixels.shape[:2]) > 600
    assert (np.ptp(pixels, axis=2) > 100).mean() > 0.01  # colours, that is maps and bars


def test_explain_takes_a_folder(cli, images, quick_pictures):
    done = cli("explain", "m.gaussad", images[0].parent, "--json", "--out", "why")
    assert len(done.out.splitlines()) == len(images) == len(list(Path("why").iterdir()))


def test_explain_of_no_image_says_so(cli, tmp_path):
    (tmp_path / "none").mkdir()
    assert_user_error(cli("explain", "m.gaussad", tmp_path / "none"), "no image to explain")


def test_normal_images_change_the_maps_and_not_the_score(cli, images, monkeypatch):
    seen = []
    monkeypatch.setattr(pictures, "draw_explanation", lambda explanation, path: seen.append(explanation))
    for options in ((), ("--normal", images[0].parent)):
        assert cli("explain", "m.gaussad", images[0], *options).code == 0
    assert [one.centred for one in seen] == [False, True]
    assert seen[0].score == seen[1].score
    assert not np.allclose(seen[0].located.distance, seen[1].located.distance)


def test_explain_in_json_gives_predicts_score(cli, model, images, quick_pictures):
    done = cli("explain", "m.gaussad", *images[:2], "--json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    own = model.score(lite0_features(squares(images[:2])))
    np.testing.assert_allclose([row["score"] for row in rows], own, rtol=1e-5)
    assert all(Path(row["picture"]).is_file() for row in rows)
    assert [level["level"] for level in rows[0]["levels"]] == list(LEVELS)


def test_an_image_that_cannot_be_read_does_not_end_the_others(cli, images, tmp_path, quick_pictures):
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = cli("explain", "m.gaussad", "bad.png", images[0], "--json")
    assert_user_error(done, "bad.png")
    assert json.loads(done.out)["image"] == str(images[0])


def test_explain_of_a_level_that_is_not_there_names_those_that_are(cli, images):
    assert_user_error(cli("explain", "m.gaussad", images[0], "--level", 7), "--level 7", "1, 2, 3")
