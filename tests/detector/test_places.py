"""Detectors of places: made of images, updated, and where an image deviates."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from gaussad_cli import ImageDetector
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.resolve import LevelChoice, NetworkOptions
from gaussad_cli.datasets.own import OwnImages
from gaussad_cli.detector import train as training
from gaussad_cli.detector.kept_maps import CHUNK, KeptMaps
from gaussad_cli.detector.look import find_network, look
from gaussad_cli.detector.places import covariances, score_maps, shrunk_by, train_places, update_places
from gaussad_cli.detector.predict import predict
from gaussad_cli.detector.train import DetectorOptions, check_memory, choose_network, train_detector
from gaussad_cli.detector.update import add_images
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.metrics import auroc
from gaussad_cli.extraction.engine import AUTO
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.places import (
    PLACES,
    PlaceOptions,
    fit_places,
    fit_scale,
    gather_places,
    greatest,
    join_levels,
    whole,
)
from tests.conftest import assert_user_error
from tests.detector.tiny_network import (
    GRID,
    features,
    kept,
    lite0_model,
    open_tiny_network,
    pictures,
    tiny_places_model,
    write_pictures,
)

N = 40
SMALL = NetworkOptions("efficientnet-lite0", grid=GRID)  # a name that exists; the tiny network is opened for it


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "open_network", lambda options, *_: open_tiny_network(grid=options.grid))

    def run(images, compression=None, fpr=0.1):
        return train_detector(images, SMALL, DetectorOptions(compression, fpr), AUTO, tmp_path)

    return run


@pytest.fixture
def images(tmp_path):
    normal = write_pictures(tmp_path / "good", pictures(N))
    return OwnImages(tuple(normal), tuple(write_pictures(tmp_path / "bad", pictures(6, seed=1) // 4)))


def joined(images):
    return join_levels(features(images, grid=GRID), GRID**2)


# --- training ---


@pytest.mark.parametrize("compression", [NO_COMPRESSION, Compression("npca", 0.1)], ids=str)
def test_the_model_is_that_of_all_normal_images(train, images, compression):
    model = train(images, compression).model
    expected = fit_places(gather_places([joined(pictures(N))]), replace(PLACES, compression=compression))
    assert (model.n, model.level_numbers, model.backbone.grid) == (N, (1, 2), GRID)
    assert model.gaussians.compression == compression
    np.testing.assert_allclose(model.gaussians.gaussians.mean, expected.mean, rtol=1e-5, atol=1e-6)
    new = pictures(5, seed=3)
    distances = expected.distances(joined(new)).reshape(5, GRID, GRID)
    maps = model.places.heat_maps(features(new, grid=GRID))
    np.testing.assert_allclose(maps, distances, rtol=2e-3)  # factors in half precision
    np.testing.assert_array_equal(model.score(features(new, grid=GRID)), model.places.scale.score(maps))


def test_the_default_keeps_the_directions_of_little_variance(train, images):
    assert train(images).model.gaussians.compression == PLACES.compression


def test_every_image_calibrates_by_a_model_that_has_not_seen_it(train, images):
    """The rest is what is beyond first order in the image's own part in the covariance of but 16 places."""
    maps, expected = joined(pictures(N)), []
    for i in range(N):
        others = fit_places(gather_places([np.delete(maps, i, axis=0)]), PlaceOptions(intensity=PLACES.intensity))
        expected.append(others.distances(maps[[i]]).reshape(1, GRID, GRID))
    held_out = np.concatenate(expected)
    scores = fit_scale(greatest(held_out), whole(held_out)).score(held_out)
    calibration = train(images, NO_COMPRESSION).model.calibration
    np.testing.assert_allclose(calibration.by_image, scores, rtol=0.04)
    np.testing.assert_array_equal(calibration.distances, np.sort(calibration.by_image))


def test_anomalous_images_copies_and_unreadable_files_are_told_as_for_pooled_models(train, images):
    images.normal[5].write_bytes(images.normal[0].read_bytes())
    images.normal[7].write_bytes(b"")
    with pytest.raises(UserError, match=r"007\.png.*--skip-unreadable"):
        train(images)
    trained = train(replace(images, skip_unreadable=True))
    assert (trained.model.n, trained.duplicates) == (N - 1, 1)
    assert trained.auroc > 0.9
    images.normal[3].write_bytes(images.anomalous[2].read_bytes())
    with pytest.raises(UserError, match=r"003\.png is given as normal"):
        train(replace(images, skip_unreadable=True))


def test_images_that_are_all_alike_are_refused(train, tmp_path):
    with pytest.raises(UserError, match="all alike"):
        train(OwnImages(tuple(write_pictures(tmp_path / "alike", np.repeat(pictures(1), N, axis=0)))))


def test_typical_is_the_median_of_the_held_out_maps_medians(train, images):
    places = train(images).model.places
    medians = np.median(places.held_out_heat_maps_of(joined(pictures(N))), axis=(1, 2))
    assert places.typical == pytest.approx(np.median(medians), rel=1e-6)


def test_places_that_do_not_fit_into_memory_are_refused_before_the_work():
    wide = find_backbone("wide-resnet50-2")
    check_memory(LevelChoice(find_backbone("efficientnet-lite0"), "tf", (3, 4), grid=28))
    with pytest.raises(UserError, match="fewer --levels or a smaller --grid"):
        check_memory(LevelChoice(wide, "native", (2, 3, 4), grid=200))


def test_a_pooled_detector_has_no_grid():
    assert choose_network(NetworkOptions(""), None, False, None).grid == 28
    assert choose_network(NetworkOptions(""), None, True, None) == NetworkOptions("efficientnet-b4")
    with pytest.raises(UserError, match="leave out --grid or --pooled"):
        choose_network(NetworkOptions(""), None, True, 14)


def test_a_model_of_levels_that_the_backbone_does_not_have_is_refused():
    model = replace(lite0_model(grid=GRID), gaussians=tiny_places_model().gaussians)
    with pytest.raises(UserError, match="has no level 1 of 6 features"):
        find_network(model, None)


# --- maps on disk ---


def test_kept_maps_are_read_again_in_chunks():
    n = 2 * CHUNK + 3
    maps = kept(pictures(n))
    chunks = list(maps.read())
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 3]
    np.testing.assert_allclose(np.concatenate(chunks), joined(pictures(n)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(maps.read(5, 9))), np.concatenate(chunks)[5:9])
    assert maps.dims == {1: 6, 2: 10}


def test_a_full_disk_is_said():
    def fail(_):
        raise OSError(28, "No space left on device")

    maps = KeptMaps(SimpleNamespace(write=fail), GRID**2)
    with pytest.raises(UserError, match=r"No space left.*TMPDIR"):
        maps.append({level: values[0] for level, values in features(pictures(1), grid=GRID).items()})


# --- updates ---


def test_the_factors_tell_the_places_own_covariances():
    model = tiny_places_model()
    basis, maps = model.gaussians.gaussians.basis, joined(pictures(N)).astype(np.float64)
    expected = np.stack([np.cov(maps[:, place] @ basis, rowvar=False) for place in range(GRID**2)])
    np.testing.assert_allclose(covariances(model.gaussians.gaussians), expected, atol=3e-3 * np.abs(expected).max())


@pytest.mark.parametrize("steps", [1, 3])
def test_one_update_or_several_equal_training_on_all(steps):
    images, asked = pictures(60), features(pictures(9, seed=3), grid=GRID)
    model = train_places(kept(images[:30]), 30, NO_COMPRESSION).model
    for part in np.array_split(images[30:], steps):
        fitted = update_places(model, kept(part))
        model = fitted.model
    whole = train_places(kept(images), 60, NO_COMPRESSION)
    assert model.n == 60
    np.testing.assert_allclose(model.gaussians.mean, whole.model.gaussians.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.heat_maps(asked), whole.model.heat_maps(asked), rtol=0.01)
    last = len(images[30:]) // steps
    np.testing.assert_allclose(fitted.held_out, whole.held_out[-last:], rtol=0.05)  # the scale is carried over


def test_an_update_keeps_the_rest_of_the_model(tmp_path):
    network, model = open_tiny_network(grid=GRID), tiny_places_model(fpr=0.2)
    paths = write_pictures(tmp_path, pictures(12, seed=5))
    done = add_images(model, network, paths, allow_anomalous=True)
    updated = done.model
    assert (done.added, updated.n, updated.provenance["images"], updated.provenance["updates"]) == (12, 52, 52, 1)
    assert updated.hashes[:N] == model.hashes
    assert (updated.calibration.distances.size, updated.calibration.fpr) == (52, 0.2)
    assert (updated.backbone, updated.places.sigma) == (model.backbone, model.places.sigma)
    again = add_images(updated, network, paths[:3])
    assert (again.added, again.known, again.model) == (0, 3, updated)


def test_anomalous_images_are_not_added(tmp_path):
    dark = write_pictures(tmp_path, pictures(6, seed=1) // 8)
    with pytest.raises(UserError, match="6 of 6 new images are beyond the model's threshold"):
        add_images(tiny_places_model(), open_tiny_network(grid=GRID), dark)
    dark[2].write_bytes(b"")
    with pytest.raises(UserError, match=r"002\.png.*The model was not changed"):
        add_images(tiny_places_model(), open_tiny_network(grid=GRID), dark)


def test_distances_shrink_as_those_of_the_new_images_do_and_never_grow():
    assert shrunk_by(np.array([10.0, 20.0, 40.0]), np.array([8.0, 18.0, 20.0])) == 0.8
    assert shrunk_by(np.array([10.0, 20.0]), np.array([11.0, 20.0])) == 1.0


def test_updates_of_a_real_category_come_close_to_training_on_all(mvtec, tmp_path):
    """On a coarse grid, to be quick; docs/detector.md has 28 x 28 places: 4.3 % and 0.2 points."""
    good = sorted((mvtec / "screw/train/good").iterdir())[::2]
    test = {name: sorted((mvtec / "screw/test" / name).iterdir()) for name in ("good", "thread_top", "scratch_neck")}
    anomalous = (*test["thread_top"], *test["scratch_neck"])
    network, options = choose_network(NetworkOptions(""), None, False, 10), DetectorOptions(fpr=0.1)
    whole, model = (
        train_detector(OwnImages(tuple(some)), network, options, AUTO, tmp_path).model for some in (good, good[:70])
    )
    opened = training.open_network(network, AUTO, tmp_path)
    for part in np.array_split(np.arange(70, len(good)), 3):
        model = add_images(model, opened, [good[i] for i in part], allow_anomalous=True).model
    assert model.calibration.threshold == pytest.approx(whole.calibration.threshold, rel=0.06)
    looked_at = [image.features for batch in look(opened, [*test["good"], *anomalous]) for image in batch]
    seen = {level: np.stack([image[level] for image in looked_at]) for level in model.level_numbers}
    labels = np.arange(len(looked_at)) >= len(test["good"])
    assert auroc(model.score(seen), labels) == pytest.approx(auroc(whole.score(seen), labels), abs=0.01)


# --- predictions ---


def test_an_image_with_a_place_beyond_the_threshold_is_anomalous_and_one_without_only_as_a_whole(tmp_path):
    model = tiny_places_model()
    paths = write_pictures(tmp_path, np.concatenate([pictures(9, seed=4), pictures(4, seed=5) // 3]))
    seen = [image for batch in look(open_tiny_network(grid=GRID), paths) for image in batch]
    predictions = predict(model, seen, model.calibration.threshold)
    assert {prediction.decision for prediction in predictions} == {"normal", "anomalous"}
    for prediction in predictions:
        greatest, threshold = prediction.heat_map.max(), model.calibration.threshold
        assert prediction.score == max(greatest, prediction.whole)
        assert (greatest > threshold) == (prediction.deviation.box is not None)
        assert (prediction.decision == "anomalous") == (greatest > threshold or prediction.whole > threshold)


def test_a_planted_defect_is_found_where_it_is(tmp_path):
    plain = np.clip(128 + np.random.default_rng(0).normal(0, 8, (30, 48, 96, 3)), 0, 255).astype(np.uint8)
    normal = write_pictures(tmp_path / "good", plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "open_network", lambda options, *_: open_tiny_network(grid=options.grid))
        options = replace(SMALL, grid=8)
        model = train_detector(OwnImages(tuple(normal)), options, DetectorOptions(fpr=0.1), AUTO, tmp_path).model
    defect = plain[0].copy()
    defect[6:12, 72:84] = 0
    (path,) = write_pictures(tmp_path / "bad", [defect])
    ((image,),) = look(open_tiny_network(grid=8), [path])
    (prediction,) = predict(model, [image], model.calibration.threshold)
    left, top, right, bottom = prediction.deviation.box
    assert prediction.decision == "anomalous"
    assert 66 <= prediction.deviation.x <= 90
    assert 0 <= prediction.deviation.y <= 18
    assert left <= 72
    assert right >= 84
    assert top <= 6
    assert 12 <= bottom <= 27  # the mask of a far-out place ends before the middle of the next one


def test_scores_do_not_depend_on_the_images_beside(tmp_path):
    model, maps = tiny_places_model(), joined(pictures(7, seed=2))
    alone = [score_maps(model.places, [maps[[i]]])[0] for i in range(7)]
    assert score_maps(model.places, [maps]).tolist() == alone


# --- the command line ---


def test_a_default_detector_from_training_to_update(gaussad, tmp_path):
    write_pictures(tmp_path / "good", pictures(30, height=40, width=60))
    write_pictures(tmp_path / "bad", pictures(3, seed=1, height=40, width=60) // 4)
    done = gaussad("train", "--normal", "good", "--anomalous", "bad", "--out", "m.gaussad", "--fpr", 0.1, "--grid", 6)
    assert done.code == 0, done.err
    assert "efficientnet-lite0" in done.err
    assert "6 x 6 places of levels 3-6" in done.err
    assert "mode npca 0.1: 256 features" in gaussad("info", "m.gaussad").out
    rows = gaussad("predict", "m.gaussad", "bad").out.splitlines()
    assert rows[0] == "path,decision,score,p_value,greatest,whole,x,y,left,top,right,bottom,error,time"
    assert [row.split(",")[1] for row in rows[1:]] == ["anomalous"] * 3
    greatest, whole, x, y, left, top, right, bottom = map(float, rows[1].split(",")[4:12])
    assert float(rows[1].split(",")[2]) == max(greatest, whole)
    assert 0 <= left <= x < right <= 60
    assert 0 <= top <= y < bottom <= 40
    write_pictures(tmp_path / "more", pictures(5, seed=7, height=40, width=60))
    assert gaussad("update", "m.gaussad", "--normal", "more", "--allow-anomalous").code == 0
    assert "35 normal ones" in gaussad("info", "m.gaussad").out
    detector = ImageDetector.load("m.gaussad")
    maps = detector.heat_maps("bad")
    assert maps.shape == (3, 6, 6)
    np.testing.assert_array_equal(detector.model.places.scale.score(maps), detector.score("bad"))


def test_maps_explain_and_export_through_the_command_line(gaussad, tmp_path):
    write_pictures(tmp_path / "good", pictures(30, height=40, width=60))
    write_pictures(tmp_path / "bad", pictures(2, seed=1, height=40, width=60) // 4)
    assert gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", 0.1, "--grid", 6).code == 0
    done = gaussad("predict", "m.gaussad", "bad", "--maps", "maps", "--format", "json")
    assert done.code == 0, done.err
    row = json.loads(done.out.splitlines()[0])
    assert len(list(Path("maps").iterdir())) == 6
    assert np.load("maps/000.png.npy").max() == pytest.approx(row["greatest"], rel=1e-6)
    assert_user_error(gaussad("predict", "m.gaussad", "bad", "--maps", "bad/maps"), "--maps bad/maps", "Choose another")
    explained = gaussad("explain", "m.gaussad", "bad/000.png", "--json")
    assert explained.code == 0, explained.err
    said = json.loads(explained.out)
    assert said["place"] == [row["x"], row["y"]]
    assert said["box"] == [row[name] for name in ("left", "top", "right", "bottom")]
    assert Path(said["picture"]).is_file()
    for option in (("--level", 3), ("--normal", "good")):
        assert_user_error(gaussad("explain", "m.gaussad", "bad/000.png", *option), "are for pooled models")
    exported = gaussad("export", "m.gaussad", "--out", "m.onnx")
    assert exported.code == 0, exported.err
    session = onnxruntime.InferenceSession("m.onnx")
    assert [output.name for output in session.get_outputs()] == ["score", "decision", "p_value", "map"]


def test_normal_images_have_a_place_and_no_box_in_every_format(gaussad, tmp_path):
    write_pictures(tmp_path / "good", pictures(12))
    assert gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", 0.1, "--grid", 4).code == 0
    Path("good/000.png").write_bytes(b"")
    done = gaussad("predict", "m.gaussad", "good/001.png", "good/000.png", "--threshold", 1e9, "--format", "json")
    normal, broken = map(json.loads, done.out.splitlines())
    assert isinstance(normal["x"], int)
    assert [normal[name] for name in ("left", "top", "right", "bottom")] == [None] * 4
    assert [broken[name] for name in ("x", "y", "left", "bottom")] == [None] * 4
    assert broken["error"]


def test_options_that_do_not_go_together_are_refused(gaussad, tmp_path):
    write_pictures(tmp_path / "good", pictures(6))
    for option in ("--pooled", "--auto"):
        done = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--grid", 8, option)
        assert_user_error(done, "leave out --grid")
