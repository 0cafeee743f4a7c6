"""A detector of one's own, through the command line: train, predict, update, export, explain."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gaussad_cli import ImageDetector
from gaussad_cli.backbones import available
from gaussad_cli.datasets.folds import training_folds
from gaussad_cli.detector import predict as predicting
from gaussad_cli.detector.container import read_model
from gaussad_cli.errors import UserError
from tests.conftest import assert_user_error, write_image

LITE0 = ("--backbone", "efficientnet-lite0")
LEVELS = (*LITE0, "--levels", "2-3")
SOME = ("--pooled", *LEVELS)


@pytest.fixture
def images(tmp_path):
    """Normal images of smooth noise, and anomalous ones that are darker."""
    for i in range(24):
        write_image(tmp_path / f"good/{i:02d}.png", seed=i)
    for i in range(4):
        path = write_image(tmp_path / f"bad/{i}.png", seed=100 + i)
        Image.open(path).point(lambda v: v // 4).save(path)
    return tmp_path


@pytest.fixture
def trained(gaussad, images):
    done = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *SOME)
    assert done.code == 0, done.err
    return gaussad


def table(text):
    return pd.read_csv(io.StringIO(text), float_precision="round_trip")


def test_good_images_become_a_model_that_tells_bad_ones(trained):
    done = trained("predict", "m.gaussad", "good", "bad")
    assert done.code == 0, done.err
    rows = table(done.out)
    assert list(rows.columns) == ["path", "decision", "score", "p_value", "level_2", "level_3", "error", "time"]
    bad = rows["path"].str.startswith("bad")
    assert (rows["decision"][bad] == "anomalous").all()
    assert (rows["decision"][~bad] == "anomalous").mean() <= 0.1
    np.testing.assert_allclose(rows["score"], rows[["level_2", "level_3"]].mean(axis=1), rtol=1e-12)
    assert (rows["p_value"][bad] == 1 / 25).all()


def test_the_report_of_a_training_says_what_can_be_said(gaussad, images):
    done = gaussad("train", "--normal", "good", "--anomalous", "bad", "--out", "m.gaussad", "--fpr", "0.1", *SOME)
    for part in (
        "24 images",
        "level 3: 24 features",
        "threshold",
        "rate of 0.1",
        "24 images allow false-positive rates down to 4 %",
        "AUROC 100.0",
    ):
        assert part in done.err
    assert done.out == "m.gaussad\n"


def test_a_model_of_a_folds_images_scores_as_evaluate_does(gaussad, tiny):
    for i in range(6, 10):
        write_image(tiny / f"lid/train/good/{i:03d}.png", seed=5000 + i)
    assert gaussad("extract", "--data", tiny, *LEVELS).code == 0
    assert gaussad("evaluate", *LITE0, "--score", "mahalanobis", "--mode", "all").code == 0
    scores = pd.read_csv("results/tiny/scores/lid.csv", converters={"fold_0": float, "fold_1": float})  # to the bit
    paths = sorted((tiny / "lid/train/good").iterdir())
    test = sorted((tiny / "lid/test").rglob("*.png"))
    for fold, fitted in enumerate(training_folds(len(paths))[:2]):
        Path("list.csv").write_text("\n".join(["path", *(str(paths[i]) for i in fitted)]) + "\n")
        for levels, name in (("3", "3"), ("2-3", "sum:2-3")):
            options = ("--out", "m.gaussad", "--fpr", "0.5", "--pooled", *LITE0, "--levels", levels)
            assert gaussad("train", "--csv", "list.csv", *options).code == 0
            rows = csv.DictReader(io.StringIO(gaussad("predict", "m.gaussad", *test).out))
            expected = scores[scores["level"].astype(str) == name][f"fold_{fold}"]
            assert [float(row["score"]) for row in rows] == expected.tolist()
    one_by_one = table(gaussad("predict", "m.gaussad", *test, "--batch-size", "1").out)
    np.testing.assert_allclose(one_by_one["score"], expected, rtol=1e-13)  # BLAS adds a single row up in another order


def test_predictions_in_python_are_those_of_the_command(trained):
    rows = table(trained("predict", "m.gaussad", "bad").out)
    detector = ImageDetector.load("m.gaussad")
    paths = sorted(Path("bad").iterdir())
    np.testing.assert_array_equal(detector.score(paths), rows["score"])
    assert detector.is_anomalous(paths).all()
    assert detector.predict(paths).tolist() == [-1] * 4  # as GaussianDetector and scikit-learn
    assert detector.predict("good/00.png").tolist() == [1]
    np.testing.assert_array_equal(detector.score("bad"), detector.score(paths))
    assert detector.score([]).shape == (0,)
    with pytest.raises(ValueError, match="uint8"):
        detector.score([np.zeros((4, 4, 3))])


def test_a_bad_file_is_a_row_and_not_the_end(trained):
    Path("bad/1.png").write_bytes(b"no image")
    done = trained("predict", "m.gaussad", "bad", "nowhere.png", "--format", "json")
    assert_user_error(done, "2 of 5 files")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["decision"] for row in rows] == ["anomalous", "error", "anomalous", "anomalous", "error"]
    assert "not an image" in rows[1]["error"]
    assert rows[1]["score"] is None


def test_paths_come_from_stdin_and_an_anomaly_can_be_an_exit_status(trained, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"good/00.png\nbad/0.png\n\n")))
    done = trained("predict", "m.gaussad", "-", "--fail-on-anomaly")
    assert done.code == 3
    assert table(done.out)["decision"].tolist() == ["normal", "anomalous"]


def test_copies_are_sorted_and_none_overwrites_another(trained):
    Path("bad/deep").mkdir()
    shutil.copy("bad/0.png", "bad/deep/0.png")
    other = Path("sorted/anomalous/0.png")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another day")
    for _ in range(2):  # the second time, all is there
        assert trained("predict", "m.gaussad", "bad", "--copy-to", "sorted").code == 0
    names = sorted(path.relative_to("sorted/anomalous").as_posix() for path in Path("sorted").rglob("*.png"))
    assert names == ["0-1.png", "0.png", "1.png", "2.png", "3.png", "deep/0.png"]
    assert other.read_bytes() == b"of another day"
    assert Path("sorted/anomalous/0-1.png").read_bytes() == Path("bad/0.png").read_bytes()


def test_the_threshold_can_be_another(trained):
    all_normal = table(trained("predict", "m.gaussad", "bad", "--threshold", "1e9").out)
    assert set(all_normal["decision"]) == {"normal"}
    many = table(trained("predict", "m.gaussad", "good", "--fpr", "0.9").out)
    assert (many["decision"] == "anomalous").mean() > 0.5
    assert_user_error(trained("predict", "m.gaussad", "good", "--fpr", "0.001"), "calibrated on 24 images")
    assert_user_error(trained("predict", "m.gaussad", "good", "--fpr", "0.1", "--threshold", "3"), "give only one")


def test_copies_never_become_images_to_score(trained):
    for source, folder in (("good", "good/sorted"), ("bad", "bad"), (".", "sorted")):
        assert_user_error(trained("predict", "m.gaussad", source, "--copy-to", folder), "Choose another folder")
    assert_user_error(trained("predict", "m.gaussad", "--watch", "bad", "--copy-to", "bad/sorted"), "--copy-to")
    assert len(list(Path().rglob("*.png"))) == 28


def test_a_file_that_cannot_be_copied_does_not_end_the_run(trained):
    Path("bad/9.png").symlink_to("nowhere")
    done = trained("predict", "m.gaussad", "bad", "good/00.png", "--copy-to", "sorted")
    assert_user_error(done, "1 of 6 files")
    assert table(done.out)["decision"].tolist() == [*["anomalous"] * 4, "error", "normal"]
    assert sorted(path.name for path in Path("sorted").rglob("*.png")) == ["0.png", "00.png", "1.png", "2.png", "3.png"]


def test_a_watched_folder_that_is_not_there_is_said(trained):
    assert_user_error(trained("predict", "m.gaussad", "--watch", "inbox"), "no such folder to watch: inbox")


def test_lines_on_stdin_are_answered_one_by_one_if_asked_for(trained, monkeypatch, capfd):
    answered = []

    class Lines(io.RawIOBase):
        paths: ClassVar = [b"good/00.png\n", b"bad/0.png\n"]

        def readable(self):
            return True

        def readinto(self, buffer):
            if len(self.paths) < 2:
                answered.append(len(capfd.readouterr().out.splitlines()))
            path = self.paths.pop(0) if self.paths else b""
            buffer[: len(path)] = path
            return len(path)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Lines())))
    trained("predict", "m.gaussad", "-", "--batch-size", "1")
    assert answered == [2, 1]  # the header too


def test_a_watched_folder_is_scored_as_files_arrive(trained, monkeypatch):
    Path("in").mkdir()
    looks = iter(range(9))

    def wait(_):
        look = next(looks)
        if look == 0:
            shutil.copy("bad/0.png", "in/a.png")
        elif look == 3:
            assert "a.png" in out.getvalue()
            raise KeyboardInterrupt

    out = io.StringIO()
    monkeypatch.setattr("typer.echo", lambda text, nl=True, err=False: None if err else out.write(str(text)))
    monkeypatch.setattr(predicting.watch, "__defaults__", (wait,))
    assert trained("predict", "m.gaussad", "--watch", "in").code == 130
    assert table(out.getvalue())["decision"].tolist() == ["anomalous"]


def test_update_equals_training_on_all(gaussad, images):
    Path("more").mkdir()
    for i in range(18, 24):
        Path(f"good/{i:02d}.png").rename(f"more/{i:02d}.png")
    gaussad("train", "--normal", "good", "--out", "a.gaussad", "--fpr", "0.1", *SOME)
    shutil.copy("good/00.png", "more/known.png")
    done = gaussad("update", "a.gaussad", "--normal", "more", "--out", "b.gaussad")
    assert done.code == 0, done.err
    assert "6 images added, 1 were in the model already, 24 in all" in done.err
    Path("more/known.png").unlink()
    for path in Path("more").iterdir():
        path.rename(f"good/{path.name}")
    gaussad("train", "--normal", "good", "--out", "c.gaussad", "--fpr", "0.1", *SOME)
    b, c = (table(gaussad("predict", name, "bad").out)["score"] for name in ("b.gaussad", "c.gaussad"))
    np.testing.assert_allclose(b, c, rtol=1e-9)
    before = Path("b.gaussad").read_bytes()
    again = gaussad("update", "b.gaussad", "--normal", "good")
    assert (again.code, Path("b.gaussad").read_bytes()) == (0, before)
    assert "0 images added, 24 were in the model already, 24 in all" in again.err
    thresholds = [read_model(Path(name)).calibration.threshold for name in ("b.gaussad", "c.gaussad")]
    np.testing.assert_allclose(*thresholds, rtol=1e-9)
    assert read_model(Path("b.gaussad")).levels[0].n == 24


def test_auto_says_what_it_chose_from(gaussad, images):
    done = gaussad(
        "train", "--normal", "good", "--anomalous", "bad", "--auto", "--out", "m.gaussad", "--fpr", "0.1", *LITE0
    )
    assert done.code == 0, done.err
    assert "its AUROC is optimistic" in done.err
    assert done.err.count("efficientnet-lite0, level") >= 10
    assert_user_error(gaussad("train", "--normal", "good", "--auto", "--out", "m.gaussad", *LITE0), "--anomalous")
    both = ("--normal", "good", "--anomalous", "bad", "--auto", "--out", "m.gaussad")
    for option in (("--levels", "2"), ("--mode", "pca"), ("--var", "0.9")):
        assert_user_error(gaussad("train", *both, *LITE0, *option), "--auto chooses level and mode itself")
    assert_user_error(gaussad("train", *both, *LITE0, "--backbone", "resnet-19"), "unknown backbone 'resnet-19'")


def test_images_come_from_the_mvtec_layout_or_a_list_too(gaussad, tiny, images):
    fpr = ("--fpr", "0.2", "--out", "m.gaussad", *SOME)
    assert gaussad("train", "--data", tiny, "--category", "lid", *fpr).code == 0
    Path("list.csv").write_text(
        "path,label\n" + "".join(f"good/{i:02d}.png,ok\n" for i in range(9)) + "bad/0.png,defect\n"
    )
    done = gaussad("train", "--csv", "list.csv", *fpr)
    assert "9 images" in done.err
    assert "anomalous images: AUROC" in done.err


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ((), ("--normal DIR",)),
        (("--normal", "nowhere"), ("no such folder",)),
        (("--normal", "good", "--fpr", "0.01"), ("24 images allow false-positive rates down to 4 %", "at least 99")),
        (("--normal", "good", "--fpr", "0"), ("between 0 and 1",)),
        (("--normal", "bad", "--fpr", "0.3"), ("give at least 5",)),
        (("--normal", "good", "--fpr", "0.1", "--backbone", "efficientnet-lite"), ("Did you mean efficientnet-lite",)),
        (("--normal", "good", "--data", "good"), ("--normal DIR, or --data",)),
        (("--data", "good"), ("--category",)),
        (("--csv", "good/00.png"), ("00.png",)),
        (("--normal", "good", "--mode", "pca", "--var", "3"), ("--var 3",)),
    ],
)
def test_what_cannot_be_trained_is_said(gaussad, images, options, fragments):
    assert_user_error(gaussad("train", "--out", "m.gaussad", *options), *fragments)
    assert not Path("m.gaussad").exists()


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr(available, "_cached", lambda backbone: None)
    monkeypatch.setattr(available, "_ask", lambda url: ConnectionError("no network"))


def test_without_a_network_the_best_backbone_at_hand_is_used_and_said(gaussad, images, no_hub):
    done = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", "--pooled", "--levels", "2-3")
    assert done.code == 0, done.err
    (line,) = (line for line in done.err.splitlines() if "efficientnet-b4" in line)
    for part in (
        "cannot be reached (no network)",
        "Using efficientnet-lite0 instead.",
        "on this machine: efficientnet",
    ):
        assert part in line
    assert read_model(Path("m.gaussad")).backbone.name == "efficientnet-lite0"


def test_without_a_network_a_backbone_that_was_named_is_an_error(gaussad, images, no_hub):
    for options in (("--pooled",), ("--auto", "--anomalous", "bad"), ()):
        done = gaussad(
            "train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *options, "--backbone", "efficientnet-b4"
        )
        assert_user_error(
            done, "efficientnet-b4 cannot be used", "(no network)", "--weights FILE", "efficientnet-lite0"
        )
    assert not Path("m.gaussad").exists()


def test_a_weight_file_is_that_of_the_default_backbone_even_without_a_network(gaussad, images, no_hub, weights):
    file = weights / "resnet18-levels1-4.pth"
    done = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", "--pooled", "--weights", file)
    assert_user_error(done, "resnet18-levels1-4.pth lacks", "efficientnet-b4 needs")


def test_an_image_that_is_normal_and_anomalous_is_named(gaussad, images):
    shutil.copy("bad/2.png", "good/mixed.png")
    done = gaussad("train", "--normal", "good", "--anomalous", "bad", "--out", "m.gaussad", "--fpr", "0.1", *SOME)
    assert_user_error(done, "good/mixed.png", "bad/2.png")


def test_copies_among_the_normal_images_are_counted(gaussad, images):
    shutil.copy("good/00.png", "good/again.png")
    done = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *SOME)
    assert "1 images are copies of others" in done.err


def test_where_the_model_cannot_go_is_said_before_the_work(gaussad, images, monkeypatch):
    monkeypatch.setattr("gaussad_cli.detector.train.train_detector", lambda *_: pytest.fail("it began"))
    for out in ((), ("--out", "good")):
        assert_user_error(gaussad("train", "--normal", "good", *out), "--out screw.gaussad")


def test_lines_of_a_list_that_are_wrong_are_named(gaussad, images):
    for text, fragment in (
        ("path\ngood/00.png\nnowhere.png\n", "line 3: there is no file"),
        ("name\nx\n", "unknown column 'name'"),
        ("path,label\n,good\n", "line 2: no path"),
        ("path,label\ngood/00.png,dent\n", "line 2: unknown label 'dent'"),
        ("path\n", "lists no image"),
        ("path,category\ngood/00.png,a\ngood/01.png,b\n", "several categories"),
        ("path,label\ngood/00.png,bad\n", "no normal image"),
    ):
        Path("list.csv").write_text(text)
        assert_user_error(gaussad("train", "--csv", "list.csv", "--out", "m.gaussad", *LITE0), fragment)


def test_a_broken_image_or_model_ends_with_its_name(gaussad, trained):
    Path("good/04.png").unlink()
    Path("good/04.png").symlink_to("nowhere")
    Path("good/03.png").write_bytes(b"")
    assert_user_error(
        gaussad("train", "--normal", "good", "--out", "n.gaussad", "--fpr", "0.2", *SOME), "03.png", "04.png"
    )
    Path("m.gaussad").write_bytes(b"x" * 100)
    assert_user_error(gaussad("predict", "m.gaussad", "bad"), "m.gaussad")
    assert_user_error(gaussad("predict", "m.gaussad"), "say which images")


def test_other_weights_are_refused(trained, weights):
    done = trained("predict", "m.gaussad", "bad", "--weights", weights / "resnet18-levels1-4.pth")
    assert_user_error(done, "not the weight file that the model was trained with")


def test_export_and_explain_work_on_a_trained_model(trained):
    import onnxruntime

    exported = trained("export", "m.gaussad", "--out", "m.onnx", "--image", "bad/0.png")
    assert exported.code == 0, exported.err
    assert onnxruntime.InferenceSession("m.onnx").get_outputs()[0].name == "score"
    explained = trained("explain", "m.gaussad", "bad/0.png", "--json")
    assert explained.code == 0, explained.err
    assert Path(json.loads(explained.out)["picture"]).is_file()


def test_defects_are_not_added_as_normal_images_unless_that_is_asked_for(gaussad, images):
    gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *SOME)
    before = Path("m.gaussad").read_bytes()
    refused = gaussad("update", "m.gaussad", "--normal", "bad")
    assert_user_error(refused, "4 of 4 new images are beyond the model's threshold", "bad/0.png", "--allow-anomalous")
    assert Path("m.gaussad").read_bytes() == before
    allowed = gaussad("update", "m.gaussad", "--normal", "bad", "--allow-anomalous")
    assert allowed.code == 0, allowed.err
    assert "4 of them were beyond the old threshold: bad/0.png" in allowed.err


def test_a_compressed_model_is_updated_too(gaussad, images):
    mode = ("--mode", "npca", "--var", "0.1")
    assert gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *SOME, *mode).code == 0
    assert gaussad("update", "m.gaussad", "--normal", "bad", "--allow-anomalous").code == 0
    assert read_model(Path("m.gaussad")).levels[0].n == 28


@pytest.mark.parametrize("different", [0, 1])
@pytest.mark.parametrize("mode", ["all", "npca"])
def test_normal_images_that_are_nearly_all_the_same_are_an_error(gaussad, tmp_path, different, mode):
    for i in range(20):
        write_image(tmp_path / f"good/{i:02d}.png", seed=int(i < different))
    done = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *SOME, "--mode", mode)
    assert_user_error(done, "the same" if different else "alike")
    assert not Path("m.gaussad").exists()


def test_folders_are_summarised_and_no_image_at_all_is_an_error(trained):
    Path("in/camera").mkdir(parents=True)
    shutil.copy("bad/0.png", "in/camera/0.png")
    Path("in/a.heic").touch()
    done = trained("predict", "m.gaussad", "in")
    assert done.code == 0
    assert "in: 1 image, 1 of them nested. Left out: .heic: 1 (in/a.heic)." in done.err
    Path("in/camera/0.png").unlink()
    done = trained("predict", "m.gaussad", "in")
    assert_user_error(done, "no image to score")
    assert "in: 0 images. Left out: .heic: 1" in done.err
    assert_user_error(trained("explain", "m.gaussad", "in"), "no image to explain")
    assert_user_error(trained("update", "m.gaussad", "--normal", "in"), "no image below in")
    assert_user_error(trained("explain", "m.gaussad", "bad/0.png", "--normal", "in"), "no image below in")


def test_a_data_set_never_becomes_normal_images(trained, tiny):
    before = Path("m.gaussad").read_bytes()
    refused = "not a folder of normal images alone"
    assert_user_error(trained("train", "--normal", tiny, "--out", "n.gaussad", "--fpr", "0.2", *SOME), refused)
    assert_user_error(trained("update", "m.gaussad", "--normal", tiny), refused)
    assert_user_error(trained("explain", "m.gaussad", "bad/0.png", "--normal", tiny), refused)
    with pytest.raises(UserError, match=refused):
        ImageDetector.train(tiny)
    assert Path("m.gaussad").read_bytes() == before


def test_images_that_cannot_be_read_are_skipped_if_asked_for(gaussad, images):
    Path("good/03.png").write_bytes(b"")
    options = ("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *SOME)
    assert_user_error(gaussad(*options), "good/03.png", "--skip-unreadable")
    done = gaussad(*options, "--skip-unreadable")
    assert done.code == 0, done.err
    assert "Left out: good/03.png" in done.err
    assert read_model(Path("m.gaussad")).levels[0].n == 23


def test_in_python_a_folder_means_the_images_below_it(gaussad, images):
    assert gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", *SOME).code == 0
    expected = ImageDetector.load("m.gaussad").model
    for normal in ("good", Path("good"), ["good"], sorted(Path("good").iterdir())):
        model = ImageDetector.train(normal, "efficientnet-lite0", "2-3", 0.1, pooled=True).model
        assert (model.hashes, model.calibration.threshold) == (expected.hashes, expected.calibration.threshold)
    with pytest.raises(UserError, match="no such folder"):
        ImageDetector.train("nowhere")
