"""Many models in one process: which of them scores an image, and that each scores as it does alone."""

import csv
import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gaussad_cli.detector import models as opening_models
from gaussad_cli.detector import predict as predicting
from gaussad_cli.detector.container import read_model, write_model
from gaussad_cli.detector.model_folder import ModelFolder, read_list
from gaussad_cli.detector.models import Opening
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.engine import Compute
from tests.conftest import assert_user_error

PLACE = ["greatest", "whole", "x", "y", "left", "top", "right", "bottom"]


@pytest.fixture
def many(gaussad, products):
    """The command line, in an empty folder with copies of models/ and parts/."""
    for name in ("models", "parts"):
        shutil.copytree(products / name, name)
    return gaussad


def rows(text):
    return [{name: value for name, value in row.items() if name != "time"} for row in csv.DictReader(io.StringIO(text))]


def alone(gaussad, name, *paths):
    """Rows of these images by a model alone, with its name."""
    return [{"model": name, **row} for row in rows(gaussad("predict", f"models/{name}.gaussad", *paths).out)]


def test_each_image_is_scored_by_the_model_of_its_folder_as_by_that_model_alone(many, monkeypatch):
    names = [f"parts/{name}/{i}.png" for i in range(3) for name in ("lid", "cap", "knob")]  # one after the other
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    done = many("predict", "models", "-")
    assert done.code == 0, done.err
    found = rows(done.out)
    assert [row["path"] for row in found] == names
    for name in ("lid", "cap", "knob"):
        own = [row for row in found if row["model"] == name]
        expected = alone(many, name, *(row["path"] for row in own))
        assert [{key: row[key] for key in expected[0]} for row in own] == expected
        assert not any(row[key] for row in own for key in row.keys() - expected[0].keys())
    assert [line.partition(":")[0] for line in done.err.splitlines()][-3:] == ["cap", "knob", "lid"]


def test_columns_are_those_of_all_models(many):
    done = many("predict", "models", "parts")
    header = done.out.splitlines()[0].split(",")
    own = ["path", "model", "decision", "score", "p_value", *PLACE, "level_2", "level_3", "error", "time"]
    assert header == own
    by_json = [json.loads(line) for line in many("predict", "models", "parts", "--format", "json").out.splitlines()]
    assert all(list(row) == own for row in by_json)
    assert {row["model"]: row["level_2"] is None for row in by_json} == {"cap": False, "knob": True, "lid": True}


def test_the_nearest_folder_counts_and_an_image_without_a_model_does_not_end_the_run(many):
    shutil.copytree("parts/lid", "parts/knob/lid/deep")
    shutil.copytree("parts/lid", "parts/other")
    done = many("predict", "models", "parts/other", "parts/knob", "parts/cap/gone.png")
    assert_user_error(done, "4 of 10 files could not be scored")
    found = rows(done.out)
    assert [row["model"] for row in found] == [""] * 3 + ["knob"] * 3 + ["lid"] * 3 + ["cap"]
    reason = "parts/other/0.png has no model: no folder on its path is called cap or knob or lid."
    assert found[0]["error"] == reason
    assert "no model: 3 error" in done.err


def test_a_model_is_found_by_the_folder_that_one_is_in(many, monkeypatch):
    monkeypatch.chdir("parts/knob")
    found = rows(many("predict", "../../models", "0.png", "../lid/0.png").out)
    assert [row["model"] for row in found] == ["knob", "lid"]


def test_a_list_says_which_model_scores_which_image(many):
    Path("flat").mkdir()
    for name in ("knob", "cap"):
        shutil.copy(f"parts/{name}/0.png", f"flat/{name}, 1.png")
    lines = ["Path,model", '"knob, 1.png",knob', '"cap, 1.png", cap.gaussad', "nowhere.png,knob", "x.png,nut"]
    Path("flat/list.csv").write_text("\n".join(lines))
    done = many("predict", "models", "--csv", "flat/list.csv")
    assert_user_error(done, "2 of 4 files could not be scored")
    found = rows(done.out)
    assert [row["model"] for row in found] == ["knob", "cap", "knob", "nut"]
    (expected,) = alone(many, "knob", "flat/knob, 1.png")
    assert {key: found[0][key] for key in expected} == expected
    assert "No such file" in found[2]["error"]
    assert "models has no model nut.gaussad" in found[3]["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes")
def test_names_in_a_list_are_of_any_bytes(tmp_path):
    name = b"caf\xe9 \n.png"
    (tmp_path / "list.csv").write_bytes(b'\xef\xbb\xbfmodel,path\nknob,"' + name + b'"\n')
    assert read_list(tmp_path / "list.csv") == {tmp_path / os.fsdecode(name): "knob"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,model\n", "lists no image"),
        ("", "other columns than path and model"),
        ("path,label\na.png,knob\n", "other columns than path and model"),
        ("path,model\na.png\n", "line 2: give a path and the name of a model"),
        ("path,model\na.png,\n", "line 2: give a path and the name of a model"),
        ("path,model\na.png,knob\na.png,lid\n", "line 3: .*a.png is listed twice"),
    ],
)
def test_lists_that_are_wrong_are_named(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_list(tmp_path / "list.csv")


def test_what_goes_with_one_model_or_with_many_only_is_said(many):
    Path("list.csv").write_text("path,model\nparts/knob/0.png,knob\n")
    assert_user_error(many("predict", "models/knob.gaussad", "--csv", "list.csv"), "give a folder of models")
    assert_user_error(many("predict", "models", "parts", "--csv", "list.csv"), "say which images")
    assert_user_error(many("predict", "models", "parts", "--threshold", "3"), "--threshold is a distance of one model")
    assert_user_error(many("predict", "models", "parts", "--weights", "w.pth"), "--weights is of one model")
    assert_user_error(many("predict", "models", "parts", "--fpr", "7"), "--fpr 7")
    assert_user_error(many("predict", "parts", "models"), "the folder parts holds no model")


def test_a_rate_chooses_the_threshold_of_every_model(many):
    found = rows(many("predict", "models", "parts", "--fpr", "0.5").out)
    for name in ("knob", "lid", "cap"):
        own = [row["decision"] for row in found if row["model"] == name]
        expected = rows(many("predict", f"models/{name}.gaussad", f"parts/{name}", "--fpr", "0.5").out)
        assert own == [row["decision"] for row in expected]
    done = many("predict", "models", "parts", "--fpr", "0.075")  # of 12, 13 and 14 images
    assert {row["model"]: row["error"][:60] for row in rows(done.out)} == {
        "knob": "model knob: --fpr 0.075: the model was calibrated on 12 imag", "lid": "", "cap": ""
    }  # fmt: skip


def test_a_damaged_model_gives_its_images_errors_and_the_others_go_on(many):
    content = bytearray(Path("models/lid.gaussad").read_bytes())
    content[-100] ^= 1
    Path("models/lid.gaussad").write_bytes(content)
    Path("models/knob.gaussad").write_bytes(b"no model")
    done = many("predict", "models", "parts")
    assert_user_error(done, "6 of 9 files could not be scored")
    assert done.err.startswith("models/knob.gaussad is not a gaussad model")  # told before the work
    errors = {row["model"]: row["error"] for row in rows(done.out)}
    assert errors["cap"] == ""
    assert errors["lid"].startswith("model lid: models/lid.gaussad is damaged")
    assert errors["knob"].startswith("model knob: models/knob.gaussad is not a gaussad model")


def test_heat_maps_are_those_of_the_models_alone(many):
    done = many("predict", "models", "parts", "--maps", "maps")
    assert done.code == 0, done.err
    assert "--maps: pooled models have no heat maps, so there are none of the images of cap." in done.err
    many("predict", "models/knob.gaussad", "parts/knob", "--maps", "expected")
    for path in Path("expected").iterdir():
        assert (Path("maps/knob") / path.name).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in Path("maps").iterdir()) == ["knob", "lid"]
    for name in ("knob", "lid"):
        Path(f"models/{name}.gaussad").unlink()
    assert_user_error(many("predict", "models", "parts/cap", "--maps", "maps"), "a pooled model has no heat maps")


def test_copies_and_the_exit_status_are_of_all_models(many):
    done = many("predict", "models", "parts", "--fpr", "0.9", "--copy-to", "sorted", "--fail-on-anomaly")
    assert done.code == 3
    decisions = {row["path"]: row["decision"] for row in rows(done.out)}
    for path, decision in decisions.items():
        assert (Path("sorted") / decision / Path(path).relative_to("parts")).is_file()


def test_a_watched_folder_has_folders_of_several_products(many, monkeypatch):
    def wait(_, looks=[]):  # noqa: B006 (counts its calls)
        looks.append(None)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(predicting.watch, "__defaults__", (wait,))
    done = many("predict", "models", "--watch", "parts")
    assert done.code == 130
    assert [row["model"] for row in rows(done.out)] == ["cap"] * 3 + ["knob"] * 3 + ["lid"] * 3


def test_models_are_read_when_needed_once_and_share_the_engine_of_a_network(products, monkeypatch):
    read, really_read = [], opening_models.read_model

    def counted(path):
        read.append(path.stem)
        return really_read(path)

    monkeypatch.setattr(opening_models, "read_model", counted)
    folder = ModelFolder(products / "models", Opening(Compute("onnx")))
    assert not read
    for _ in range(2):
        for name in ("knob", "lid"):
            assert folder.model_for(products / f"parts/{name}/0.png").name == name
    assert read == ["knob", "lid"]
    engines = [folder.open(name).network.engine for name in ("knob", "lid", "cap")]
    assert engines[0] is engines[1]
    assert engines[0] is not engines[2]


def test_models_with_one_network_and_other_features_are_told_apart(products, tmp_path):
    knob, cap = (read_model(products / f"models/{name}.gaussad") for name in ("knob", "cap"))
    write_model(tmp_path / "knob.gaussad", knob)
    write_model(tmp_path / "bad.gaussad", replace(cap, network=knob.network))
    folder = ModelFolder(tmp_path, Opening(Compute("onnx")))
    assert folder.open("knob").threshold == knob.calibration.threshold
    with pytest.raises(UserError, match="model bad: "):
        folder.open("bad")


def test_images_of_one_batch_run_together_by_network_and_are_scored_together_by_model(products, monkeypatch):
    folder = ModelFolder(products / "models", Opening(Compute("onnx", batch_size=6)))
    batches = []
    for name in ("knob", "cap"):
        engine = folder.open(name).network.engine
        run = engine.run
        monkeypatch.setattr(engine, "run", lambda images, run=run: batches.append(len(images)) or run(images))
    paths = [products / f"parts/{name}/{i}.png" for i in range(2) for name in ("knob", "lid", "cap")]
    (images,) = predicting.look_by(lambda path: folder.model_for(path).network, paths, folder.compute)
    assert batches == [4, 2]
    assert [image.path for image in images] == paths
    predictions = predicting.predict_each(folder, images)
    assert [prediction.model for prediction in predictions] == ["knob", "lid", "cap"] * 2
    for image, prediction in zip(images, predictions, strict=True):
        ready = folder.model_for(image.path)
        (expected,) = ready.model.score({level: row[None] for level, row in image.features.items()})
        assert prediction.score == expected
