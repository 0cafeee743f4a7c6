"""From files to decisions: what is scored, how it is decided, and what is written."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gaussad_cli.detector import predict as predicting
from gaussad_cli.detector.look import ImageFeatures
from gaussad_cli.detector.predict import (
    FilesToScore,
    Prediction,
    PredictionOutput,
    choose_threshold,
    copy_file,
    expand,
    predict,
    predict_files,
    watch,
)
from gaussad_cli.errors import UserError
from tests.detector.tiny_network import features, open_tiny_network, pictures, tiny_model, write_pictures


def seen(n, seed=3):
    by_level = features(pictures(n, seed=seed))
    return [
        ImageFeatures(Path(f"{i}.png"), f"{i:064x}", "", {level: rows[i] for level, rows in by_level.items()})
        for i in range(n)
    ]


def test_scores_and_p_values_and_levels_are_the_models_own():
    model = tiny_model()
    scores = model.score(features(pictures(5, seed=3)))
    predictions = predict(model, seen(5), 0.0)
    assert [prediction.score for prediction in predictions] == scores.tolist()
    assert [prediction.p_value for prediction in predictions] == model.calibration.p_values(scores).tolist()
    assert [np.mean(list(prediction.level_scores.values())) for prediction in predictions] == pytest.approx(scores)


def test_only_a_score_above_the_threshold_is_anomalous():
    model, images = tiny_model(), seen(3)
    lowest, middle, _ = sorted(model.score(features(pictures(3, seed=3))))
    decisions = [prediction.decision for prediction in predict(model, images, middle)]
    assert sorted(decisions) == ["anomalous", "normal", "normal"]
    assert {prediction.decision for prediction in predict(model, images, lowest / 2)} == {"anomalous"}


def test_a_nan_score_counts_as_anomalous(monkeypatch):
    monkeypatch.setattr(predicting, "combine", lambda by_level: np.full(2, np.nan))
    assert [prediction.decision for prediction in predict(tiny_model(), seen(2), 1e9)] == ["anomalous"] * 2


def test_a_file_that_could_not_be_read_is_an_error_in_its_place():
    images = seen(3)
    images[1] = ImageFeatures(Path("bad.png"), "", "bad.png is not an image.")
    predictions = predict(tiny_model(), images, 1e9)
    assert [prediction.decision for prediction in predictions] == ["normal", "error", "normal"]
    assert [prediction.path.name for prediction in predictions] == ["0.png", "bad.png", "2.png"]
    assert predictions[1].score is None
    assert predictions[1].error == "bad.png is not an image."


def test_files_that_all_could_not_be_read_are_all_errors():
    images = [ImageFeatures(Path("bad.png"), "", "why")] * 2
    assert [prediction.decision for prediction in predict(tiny_model(), images, 0.0)] == ["error", "error"]


def test_every_file_is_written_and_counted(tmp_path):
    paths = write_pictures(tmp_path / "images", pictures(5, seed=3))
    paths[2].write_bytes(b"no image")
    text = []
    output = PredictionOutput("csv", text.append)
    counts = predict_files(tiny_model(), open_tiny_network(2), FilesToScore((str(tmp_path / "images"),)), 1e9, output)
    assert counts == {"normal": 4, "anomalous": 0, "error": 1}
    rows = list(csv.DictReader(io.StringIO("".join(text))))
    assert [row["path"] for row in rows] == [str(path) for path in paths]


def test_of_no_file_only_the_header_is_written(tmp_path):
    text = []
    files = FilesToScore((str(tmp_path),))
    counts = predict_files(tiny_model(), open_tiny_network(), files, 0.0, PredictionOutput("csv", text.append))
    assert "".join(text) == "path,decision,score,p_value,level_1,level_2,error\n"
    assert sum(counts.values()) == 0


# --- thresholds ---


def test_the_threshold_is_the_models_own_unless_another_is_given():
    model = tiny_model()
    assert choose_threshold(model, None, None) == model.calibration.threshold
    assert choose_threshold(model, 3.5, None) == 3.5


def test_the_threshold_for_another_rate_comes_from_the_calibration():
    model = tiny_model()  # calibrated on 19 images
    assert choose_threshold(model, None, 0.05) == model.calibration.distances[-1]
    assert choose_threshold(model, None, 0.1) == model.calibration.distances[-2]


@pytest.mark.parametrize(
    ("threshold", "fpr", "message"),
    [
        (3.0, 0.1, "give only one"),
        (None, 0.01, "19 images allow false-positive rates down to 5 %"),
        (None, 1.0, "--fpr 1"),
        (np.nan, None, "--threshold nan"),
        (np.inf, None, "--threshold inf"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(threshold, fpr, message):
    with pytest.raises(UserError, match=message):
        choose_threshold(tiny_model(), threshold, fpr)


# --- files ---


def test_arguments_are_files_and_folders_and_lines(tmp_path):
    (first, second) = write_pictures(tmp_path / "deep" / "er", pictures(2))
    found = expand(["x.png", str(tmp_path), "-"], ["a b.png\n", "\n", "c.png\r\n"])
    assert list(found) == [Path("x.png"), first, second, Path("a b.png"), Path("c.png")]


def test_lines_are_read_as_they_are_asked_for():
    def lines():
        yield "a.png\n"
        pytest.fail("asked for too early")

    assert next(expand(["-"], lines())) == Path("a.png")


def test_a_single_folder_is_the_root_of_its_files(tmp_path):
    assert FilesToScore((str(tmp_path),)).root == tmp_path
    assert FilesToScore((), tmp_path).root == tmp_path
    assert FilesToScore((str(tmp_path), "x.png")).root is None
    assert FilesToScore(("x.png",)).root is None


@pytest.mark.parametrize("files", [FilesToScore(()), FilesToScore(("a.png",), Path("inbox"))])
def test_files_come_from_arguments_or_from_a_watched_folder(files):
    with pytest.raises(UserError, match="say which images"):
        files.check(None)


def test_copies_may_not_lie_in_a_folder_that_is_scored(tmp_path):
    for files in (FilesToScore((str(tmp_path),)), FilesToScore((), tmp_path)):
        with pytest.raises(UserError, match="Choose another folder"):
            files.check(tmp_path / "sorted")
        files.check(tmp_path.parent / "sorted")


def test_an_image_that_is_written_again_while_watched_is_yielded_again_and_an_unfinished_one_is_not(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)

    steps = [
        lambda: write("a.png", b"12"),
        lambda: write("a.png", b"1234"),
        lambda: None,
        lambda: write(".b.png", b"1"),
        lambda: write("empty.png", b""),
        (tmp_path / "a.png").unlink,
        lambda: write("a.png", b"1234"),
        lambda: None,
        lambda: write("a.png", b"12345"),
        lambda: None,
        lambda: None,
    ]
    looks, yielded = [], []

    def wait(_):
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()
        looks.append(len(yielded))

    with pytest.raises(KeyboardInterrupt):
        for path in watch(tmp_path, 0.0, wait):
            yielded.append(path.name)
    assert yielded == ["a.png"] * 3
    assert looks == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3]


def test_a_watched_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such folder to watch"):
        next(watch(tmp_path / "inbox", 0.0))


def test_what_a_watched_folder_leaves_out_is_told_once_for_each_reason(tmp_path):
    steps = [(tmp_path / "a.heic").touch, (tmp_path / "b.heic").touch, (tmp_path / "c.txt").touch]
    told = []

    def wait(_):
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    with pytest.raises(KeyboardInterrupt):
        next(watch(tmp_path, 0.0, wait, say=told.append))
    assert told == [
        f"{tmp_path}: 0 images.",
        f"{tmp_path}. Left out: .heic: 1 ({tmp_path / 'a.heic'}).",
        f"{tmp_path}. Left out: .txt: 1 ({tmp_path / 'c.txt'}).",
    ]


def test_what_folders_hold_is_told_before_the_first_image(tmp_path):
    write_pictures(tmp_path / "in", pictures(2))
    (tmp_path / "in/notes.txt").touch()
    told = []
    expand([str(tmp_path / "in"), "x.png"], [], told.append)
    assert told == [f"{tmp_path / 'in'}: 2 images. Left out: .txt: 1 ({tmp_path / 'in/notes.txt'})."]


def test_copies_may_not_lie_where_a_link_below_leads(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="Choose another folder"):
        FilesToScore((str(tmp_path / "in"),)).check(tmp_path / "elsewhere/sorted")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_pipe_is_not_copied(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    copy_file(tmp_path / "out", replace(BAD, path=tmp_path / "pipe.png"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.png"]


# --- output ---

GOOD = Prediction(Path("a,b.png"), "normal", 1.25, 0.5, {1: 1.0, 2: 1.5}, "")
BAD = Prediction(Path("c.png"), "error", None, None, {}, "c.png is not an image.")


def written(style):
    text = []
    output = PredictionOutput(style, text.append)
    output.write_header((1, 2))
    for prediction in (GOOD, BAD):
        output.write_prediction(prediction, (1, 2))
    return "".join(text)


def test_csv_has_a_header_and_empty_cells_where_there_is_no_value():
    assert written("csv").splitlines() == [
        "path,decision,score,p_value,level_1,level_2,error",
        '"a,b.png",normal,1.25,0.5,1.0,1.5,',
        "c.png,error,,,,,c.png is not an image.",
    ]


def test_json_has_a_line_per_file_and_null_where_there_is_no_value():
    good, bad = map(json.loads, written("json").splitlines())
    assert good == {
        "path": "a,b.png", "decision": "normal", "score": 1.25, "p_value": 0.5, "level_1": 1.0, "level_2": 1.5,
        "error": None,
    }  # fmt: skip
    assert bad["score"] is bad["level_1"] is None


def test_an_unknown_format_is_refused():
    with pytest.raises(UserError, match="Known: csv, json"):
        PredictionOutput("xml", print)


def test_a_copy_keeps_its_path_below_the_root_and_never_overwrites_another_file(tmp_path):
    (path,) = write_pictures(tmp_path / "in" / "deep", pictures(1))
    prediction = replace(GOOD, path=path)
    other = tmp_path / "out/normal/deep/000.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another day")
    for _ in range(2):  # the second time, the copy is there already
        copy_file(tmp_path / "out", prediction, tmp_path / "in")
    assert sorted(copy.name for copy in other.parent.iterdir()) == ["000-1.png", "000.png"]
    assert other.read_bytes() == b"of another day"
    assert (other.parent / "000-1.png").read_bytes() == path.read_bytes()


def test_a_file_that_cannot_be_read_is_not_copied(tmp_path):
    copy_file(tmp_path / "out", replace(BAD, path=tmp_path / "nowhere.png"), None)
    assert not list(tmp_path.iterdir())
