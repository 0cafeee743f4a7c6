"""From files to decisions: what is scored, how it is decided, and what is written."""

import csv
import io
import json
import os
import stat
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from gaussad_cli.detector import map_files
from gaussad_cli.detector import predict as predicting
from gaussad_cli.detector.look import ImageFeatures
from gaussad_cli.detector.model import Calibration
from gaussad_cli.detector.models import ReadyModel, choose_threshold, far_out
from gaussad_cli.detector.predict import (
    FilesToScore,
    Prediction,
    PredictionOutput,
    copy_file,
    describe_counts,
    expand,
    list_names,
    predict,
    predict_files,
    watch,
)
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.extraction.decode import read_squares
from tests.detector.tiny_network import (
    GRID,
    SIZE,
    features,
    open_tiny_network,
    pictures,
    tiny_model,
    tiny_places_model,
    write_pictures,
)


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
    monkeypatch.setattr("gaussad_cli.detector.model.combine", lambda by_level: np.full(2, np.nan))
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
    model = ReadyModel(tiny_model(), open_tiny_network(2), 1e9)
    counts = predict_files(model, FilesToScore((str(tmp_path / "images"),)), output)
    assert counts == {"": {"normal": 4, "anomalous": 0, "error": 1, "far": 0}}
    rows = list(csv.DictReader(io.StringIO("".join(text))))
    assert [row["path"] for row in rows] == [str(path) for path in paths]


def test_of_no_file_only_the_header_is_written(tmp_path):
    text = []
    files = FilesToScore((str(tmp_path),))
    model = ReadyModel(tiny_model(), open_tiny_network(), 0.0)
    counts = predict_files(model, files, PredictionOutput("csv", text.append))
    assert "".join(text) == "path,decision,score,p_value,level_1,level_2,error,time\n"
    assert counts == {}


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
    found = expand(["x.png", str(tmp_path), "-"], ["a b.png", "c.png"])
    assert list(found) == [Path("x.png"), first, second, Path("a b.png"), Path("c.png")]


class Stdin:
    """A standard input that gives one chunk of bytes after the other."""

    def __init__(self, *chunks):
        self.buffer, self.chunks = self, [*chunks, b""]

    def read1(self):
        if not self.chunks:
            pytest.fail("asked for too early")
        return self.chunks.pop(0)


@pytest.mark.parametrize(
    ("null", "names"),
    [
        (False, ["a b.png", "c\0d.png", "caf\udce9.png", "e.png"]),
        (True, ["a b.png\n \n\nc", "d.png\r\ncaf\udce9.png\ne.png"]),
    ],
)
def test_names_are_of_any_bytes_and_end_with_a_line_or_with_nul(null, names):
    content = b"a b.png\n \n\nc\0d.png\r\ncaf\xe9.png\ne.png"
    assert list(list_names(Stdin(content), null)) == names
    assert list(list_names(Stdin(*(content[i : i + 1] for i in range(len(content)))), null)) == names


@pytest.mark.parametrize(("null", "content"), [(False, b"a.png\nb"), (True, b"a.png\0b")])
def test_names_are_read_as_they_are_asked_for(null, content):
    stdin = Stdin(content)
    stdin.chunks.pop()
    assert next(expand(["-"], list_names(stdin, null))) == Path("a.png")


def test_standard_input_that_is_closed_or_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UserError, match="standard input is closed"):
        list(list_names(None))
    folder = Stdin()
    folder.read1 = tmp_path.read_bytes
    with pytest.raises(UserError, match="standard input: Is a directory"):
        list(list_names(folder))


def test_nul_goes_with_a_list(tmp_path):
    FilesToScore(("-",), null=True).check(None)
    for files in (FilesToScore((str(tmp_path),), null=True), FilesToScore((), tmp_path, null=True)):
        with pytest.raises(UserError, match="--null is for a list on stdin"):
            files.check(None)


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


def test_an_image_that_is_written_again_while_watched_is_yielded_again_and_an_unfinished_one_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(predicting, "_UNFINISHED", 0.0)  # these files are no images

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


def test_half_an_image_is_waited_for_until_it_has_not_changed_for_long(tmp_path):
    (path,) = write_pictures(tmp_path, pictures(1))
    content, looks = path.read_bytes(), []

    def wait(_):
        looks.append(None)
        if len(looks) == 4:  # a slow writer goes on
            path.write_bytes(content)
        elif len(looks) == 8:  # another one has given up
            path.write_bytes(content[:100])
        elif len(looks) == 12:
            os.utime(path, (time.time() - 60, time.time() - 60))

    path.write_bytes(content[:100])
    found = watch(tmp_path, 0.0, wait)
    assert (next(found), len(looks)) == (path, 5)
    assert (next(found), len(looks)) == (path, 13)


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


# --- heat maps ---


def run_with_maps(model, grid, files, maps):
    rows = []
    ready = ReadyModel(model, open_tiny_network(grid=grid), model.calibration.threshold)
    counts = predict_files(ready, files, PredictionOutput("json", rows.append, maps=maps))
    return [json.loads(row) for row in rows], counts


@pytest.mark.parametrize("arguments", [("in",), ("in/000.png", "in/001.png", "in/002.png", "in/003.png")])
def test_heat_maps_are_there_when_their_rows_are(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("in"), np.concatenate([pictures(2, seed=3), pictures(2, seed=4) // 4]))
    Path("in/001.png").write_bytes(b"no image")
    model, rows = tiny_places_model(), []

    def write(row):
        rows.append(json.loads(row))
        name = Path(rows[-1]["path"]).name
        folder = Path("maps") / ("" if arguments == ("in",) else "in")
        found = {path.name.removeprefix(f"{name}.") for path in folder.glob(f"{name}.*")}
        assert found == (set() if rows[-1]["error"] else {"overlay.png", "mask.png", "npy"})
        if not rows[-1]["error"]:
            square = read_squares(Path(rows[-1]["path"]), [SIZE]).by_size[SIZE]
            expected = model.places.heat_maps(features(square[None], grid=GRID))[0]
            np.testing.assert_allclose(np.load(folder / f"{name}.npy"), expected, rtol=1e-5)

    output = PredictionOutput("json", write, maps=Path("maps"))
    files = FilesToScore(arguments)
    predict_files(ReadyModel(model, open_tiny_network(grid=GRID), model.calibration.threshold), files, output)
    assert [row["decision"] for row in rows][1] == "error"
    assert len(rows) == 4


def test_a_mask_is_empty_exactly_where_no_place_is_beyond_whatever_the_threshold(tmp_path):
    write_pictures(tmp_path / "in", pictures(6, seed=3))
    model = tiny_places_model()
    middle = float(np.median(model.score(features(pictures(6, seed=3), grid=GRID))))
    rows = []
    output = PredictionOutput("json", lambda row: rows.append(json.loads(row)), maps=tmp_path / "maps")
    predict_files(
        ReadyModel(model, open_tiny_network(grid=GRID), middle), FilesToScore((str(tmp_path / "in"),)), output
    )
    assert {row["decision"] for row in rows} == {"normal", "anomalous"}
    for row in rows:
        mask = cv2.imread(str(tmp_path / "maps" / f"{Path(row['path']).name}.mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.any() == (row["greatest"] > middle)
        assert (row["decision"] == "anomalous") == (max(row["greatest"], row["whole"]) > middle)
        if mask.any():
            assert mask[row["y"], row["x"]] == 255


def test_heat_maps_of_watched_images_are_there_before_the_next_one_is_waited_for(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path / "in", pictures(2, seed=3))
    model, done = tiny_places_model(), []

    def watched(*_, **__):
        for path in paths:
            yield path
            assert (tmp_path / "maps" / f"{path.name}.npy").is_file()
            done.append(path)

    monkeypatch.setattr(predicting, "watch", watched)
    run_with_maps(model, GRID, FilesToScore((), tmp_path / "in"), tmp_path / "maps")
    assert done == paths


def test_an_image_that_is_gone_before_it_is_drawn_is_said(tmp_path, monkeypatch):
    write_pictures(tmp_path / "in", pictures(1, seed=3))
    told = []

    def gone(path, depth):
        raise ImageError(f"cannot read the image {path}: gone.")

    monkeypatch.setattr(map_files, "read_pixels", gone)
    files = FilesToScore((str(tmp_path / "in"),), say=told.append)
    rows, counts = run_with_maps(tiny_places_model(), GRID, files, tmp_path / "maps")
    assert len(rows) == 1
    assert counts[""]["error"] == 0
    assert told[-1].startswith("No heat map: cannot read the image")


def test_a_pooled_model_has_no_heat_maps(tmp_path):
    write_pictures(tmp_path / "in", pictures(1))
    with pytest.raises(UserError, match=r"--maps: a pooled model has no heat maps\. Train it without --pooled"):
        run_with_maps(tiny_model(), 0, FilesToScore((str(tmp_path / "in"),)), tmp_path / "maps")


def test_heat_maps_may_not_lie_in_a_folder_that_is_scored(tmp_path):
    with pytest.raises(UserError, match=r"the heat maps would be scored too\. Choose another folder"):
        FilesToScore((str(tmp_path),)).check(None, tmp_path / "maps")


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
    lines = [line.rpartition(",") for line in written("csv").splitlines()]
    assert [line for line, _, _ in lines] == [
        "path,decision,score,p_value,level_1,level_2,error",
        '"a,b.png",normal,1.25,0.5,1.0,1.5,',
        "c.png,error,,,,,c.png is not an image.",
    ]


def test_the_last_column_is_the_time_in_seconds_of_utc():
    before = time.time()
    header, *times = [line.rpartition(",")[2] for line in written("csv").splitlines()]
    assert header == "time"
    for text in (*times, json.loads(written("json").splitlines()[0])["time"]):
        assert len(text) == len("2026-01-31T12:00:00+00:00")
        assert text.endswith("+00:00")
        assert before - 1 <= datetime.fromisoformat(text).timestamp() <= time.time()


@pytest.mark.parametrize("name", ["a\rb.png", "a\nb.png", "a\r\nb.png", '"a".png', " a.png", "a\x1b[31m\u202e.png"])
def test_a_row_is_one_record_and_keeps_the_name_whatever_it_holds(name):
    text = []
    PredictionOutput("csv", text.append).write_prediction(replace(GOOD, path=Path(name)), (1, 2))
    (row,) = csv.reader(io.StringIO("".join(text), newline=""))
    assert (row[0], len(row)) == (name, 8)


def test_nul_which_no_reader_of_csv_takes_is_escaped():
    text = []
    PredictionOutput("csv", text.append).write_prediction(replace(BAD, path=Path("a\0b.png")), (1, 2))
    assert text[0].startswith("a\\0b.png,error,")


def test_json_has_a_line_per_file_and_null_where_there_is_no_value():
    good, bad = map(json.loads, written("json").splitlines())
    assert good.pop("time")
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
    for name in ("nowhere.png", "a\0b.png"):
        copy_file(tmp_path / "out", replace(BAD, path=tmp_path / name), None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("normal", "anomalous", "far", "foreign"), [(0, 10, 10, True), (1, 9, 8, False), (0, 4, 4, False), (9, 1, 1, False)]
)
def test_images_of_another_product_are_told(normal, anomalous, far, foreign):
    text = describe_counts({"normal": normal, "anomalous": anomalous, "error": 1, "far": far})
    assert ("these are not what the model was trained on" in text) == foreign
    assert "1 error" in text


def test_far_out_lies_twice_as_far_beyond_the_farthest_as_that_is_beyond_the_median():
    model = tiny_model()
    calibration = Calibration(np.array([1.0, 2.0, 5.0]), 0.3, 5.0)
    assert far_out(replace(model, calibration=calibration)) == 5.0 + 2 * (5.0 - 2.0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_copy_has_the_mode_of_its_file(tmp_path):
    (path,) = write_pictures(tmp_path / "in", pictures(1))
    path.chmod(0o600)
    copy_file(tmp_path / "out", replace(GOOD, path=path), None)
    assert stat.S_IMODE((tmp_path / "out/normal/000.png").stat().st_mode) == 0o600


def test_names_as_long_as_may_be_are_copied_beside_each_other(tmp_path):
    (picture,) = write_pictures(tmp_path / "in", pictures(1))
    for number in range(3):
        path = tmp_path / str(number) / ("検" * 83 + "aa.png")
        path.parent.mkdir()
        path.write_bytes(picture.read_bytes() + bytes(number))
        copy_file(tmp_path / "out", replace(GOOD, path=path), None)
    copies = sorted((tmp_path / "out/normal").iterdir())
    assert sorted(copy.stat().st_size for copy in copies) == [picture.stat().st_size + n for n in range(3)]
    assert all(copy.suffix == ".png" for copy in copies)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_copy_does_not_follow_a_link_that_is_in_its_place(tmp_path):
    (path,) = write_pictures(tmp_path / "in", pictures(1))
    link = tmp_path / "out/normal/000.png"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere.png")
    copy_file(tmp_path / "out", replace(GOOD, path=path), None)
    assert not (tmp_path / "elsewhere.png").exists()
    assert (link.parent / "000-1.png").read_bytes() == path.read_bytes()
