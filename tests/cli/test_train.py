"""Trained comparators through the command line: rows, curves, what is kept of earlier runs, and bad input."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.evaluation.results import read_metrics
from gaussad_cli.training import train as training
from tests.conftest import assert_user_error, write_image
from tests.training import tiny as tiny_network

LITE0 = ("--backbone", "efficientnet-lite0")


@pytest.fixture
def knobs(tmp_path):
    """A category with images and masks enough for five stratified folds."""
    folder = tmp_path / "knobs/knob"
    for split, n in (("train/good", 7), ("test/good", 3), ("test/scratch", 6)):
        for i in range(n):
            write_image(folder / split / f"{i:03d}.png", seed=100 * len(split) + i)
    for i in range(6):
        mask = np.zeros((40, 40), np.uint8)
        mask[:5, : 4 + i] = 255
        path = folder / f"ground_truth/scratch/{i:03d}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return folder.parent


@pytest.fixture
def tiny_networks(monkeypatch):
    """Networks that train in no time: the real ones, of 11 and 29 million numbers, have tests of their own."""
    monkeypatch.setattr(training, "pretrained_classifier", lambda *_: tiny_network.classifier())
    monkeypatch.setattr(training, "resnet_autoencoder", lambda _: tiny_network.autoencoder())


def files(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_a_classifier_is_tested_on_every_image_once(gaussad, knobs, tiny_networks):
    options = ("train", "classifier", "--data", knobs, *LITE0, "--max-epochs", 1, "--batch-size", 4)
    done = gaussad(*options)
    assert done.code == 0, done.err
    assert "classifier knob" in done.out
    scores = pd.read_csv("results/knobs/scores/knob.csv")
    assert set(scores["score"]) == {"classifier"}
    (knob,) = find_categories(knobs)
    images = [image.name for image in (*knob.train, *knob.test)]
    assert scores["image"].tolist() == images
    per_fold = scores[[f"fold_{k}" for k in range(5)]]
    assert (per_fold.notna().sum(axis=1) == 1).all()
    np.testing.assert_allclose(scores["distance"], per_fold.sum(axis=1))

    metrics = read_metrics(Path("results"), None).sort_values("fold")
    assert (set(metrics["level"]), set(metrics["padding"])) == ({"network"}, {"tf"})
    assert metrics["epochs"].isna().all()
    splits = StratifiedKFold(5, shuffle=True, random_state=0).split(images, scores["anomalous"])
    for row, (rest, test) in zip(metrics.itertuples(), splits, strict=True):
        assert row.auroc == pytest.approx(roc_auc_score(scores["anomalous"][test], per_fold[f"fold_{row.fold}"][test]))
        assert row.n_train < len(rest)
    histories = pd.read_csv("results/knobs/histories.csv")
    assert (len(histories), histories["best"].sum()) == (5, 5)
    assert histories["valid_auroc"].notna().all()
    assert [path.suffix for path in Path("results/knobs/figures").iterdir()] == [".png"]

    # Again: nothing is trained, and the same rows come out.
    before = files("results"), files("cache")
    assert gaussad(*options).code == 0
    assert (files("results"), files("cache")) == before
    assert gaussad("tables", "--table", 5).out.count("Fully supervised, efficientnet-lite0") == 1


def test_an_autoencoder_scores_the_test_set_by_every_fold(gaussad, knobs, tiny_networks):
    options = ("train", "autoencoder", "--data", knobs, "--max-epochs", 1, "--batch-size", 4)
    done = gaussad(*options)
    assert done.code == 0, done.err
    scores = pd.read_csv("results/knobs/scores/knob.csv")
    assert set(scores["score"]) == {"map-mean", "cca"}
    assert scores["image"].str.startswith("test/").all()
    assert scores[[f"fold_{k}" for k in range(5)]].notna().all(axis=None)
    metrics = read_metrics(Path("results"), None)
    assert set(metrics["n_train"]) == {5, 6}
    assert len(metrics) == 2 * 5
    # Another seed is another network, beside the first.
    assert gaussad(*options, "--seed", 1).code == 0
    assert len(read_metrics(Path("results"), None)) == 4 * 5


def test_without_masks_there_is_no_cca_score(gaussad, tiny, tiny_networks):
    done = gaussad("train", "autoencoder", "--data", tiny, "--categories", "lid", "--max-epochs", 1)
    assert done.code == 0, done.err
    assert set(read_metrics(Path("results"), None)["score"]) == {"map-mean"}


def test_a_category_that_cannot_be_trained_does_not_stop_the_others(gaussad, knobs, tiny_networks):
    shutil.copytree(knobs / "knob", knobs / "bolt")
    (knobs / "bolt/ground_truth/scratch/003_mask.png").unlink()
    done = gaussad("train", "autoencoder", "--data", knobs, "--max-epochs", 1)
    assert_user_error(done, "category 'bolt' has 5 masks for 6 anomalous test images", "003_mask.png")
    assert set(read_metrics(Path("results"), None)["category"]) == {"knob"}


def test_results_that_cannot_be_written_end_it_at_once(gaussad, knobs, tiny_networks):
    shutil.copytree(knobs / "knob", knobs / "bolt")
    Path("results").write_text("a file where the folder should be")
    assert_user_error(gaussad("train", "autoencoder", "--data", knobs, "--max-epochs", 1), "results")
    assert len(list(Path("cache").rglob("recipe.json"))) == 1  # the second category was not begun


def test_a_network_of_another_precision_or_size_is_another_network(gaussad, knobs, tiny_networks):
    done = gaussad("train", "autoencoder", "--data", knobs, "--max-epochs", 1, "--precision", "bf16", "--size", 64)
    assert done.code == 0, done.err
    metrics = read_metrics(Path("results"), None)
    assert set(metrics["weights"]) == {"random, 64 px, bf16"}
    assert metrics["auroc"].between(0, 1).all()


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("classifier", "--backbone", "resnet18"), ("unknown backbone 'resnet18'", "Did you mean resnet-18?")),
        (("classifier", *LITE0, "--padding", "paper"), ("has no padding 'paper'",)),
        (("classifier", *LITE0, "--device", "tpu"), ("unknown --device 'tpu'",)),
        (("classifier", *LITE0), ("category 'knob' has 3 anomalous images", "stratified folds")),
        (("autoencoder", "--precision", "fp8"), ("unknown --precision 'fp8'",)),
        (("autoencoder", "--size", "100"), ("an autoencoder of 100 pixels", "multiple of 32")),
        (("autoencoder", "--categories", "nob"), ("no category 'nob'", "Did you mean knob?")),
    ],
)
def test_options_of_training_that_cannot_be(gaussad, tiny, options, fragments):
    assert_user_error(gaussad("train", options[0], "--data", tiny, *options[1:]), *fragments)
    assert not Path("results").exists()


def test_weights_that_lack_tensors_need_a_word(gaussad, knobs, weights):
    file = weights / "resnet18-levels1-4.pth"
    options = ("train", "classifier", "--data", knobs, "--backbone", "resnet-18", "--weights", file)
    assert_user_error(gaussad(*options), "lacks 4 tensors of resnet-18", "--fresh")
