"""Rows of the results from the folds of a training."""

from pathlib import Path

import numpy as np
import pytest

from gaussad_cli.datasets.index import Category, ImageFile
from gaussad_cli.training.loop import FoldScores
from gaussad_cli.training.rows import category_rows, summarise_training
from gaussad_cli.training.state import EpochRow

IDENTITY = {"dataset": "knobs", "category": "knob", "backbone": "resnet-18"}


@pytest.fixture
def knob():
    names = [("train", "good", 0), ("train", "good", 1), ("test", "good", 0), ("test", "bad", 0)]
    images = [ImageFile(f"{split}/{label}/{i}.png", label, Path()) for split, label, i in names]
    return Category("knob", tuple(images[:2]), tuple(images[2:]))


@pytest.fixture
def folds():
    """Two folds that test two images each; the first was trained two epochs, of which the first was the better."""
    histories = (EpochRow(0, 0.5, 0.4, None), EpochRow(1, 0.3, 0.6, None)), (EpochRow(0, 0.2, 0.1, None),)
    tested = ("test/bad/0.png", "train/good/0.png"), ("test/good/0.png", "test/bad/0.png")
    anomalous = np.array([True, False]), np.array([False, True])
    scores = np.array([3.0, 1.0]), np.array([5.0, 4.0])
    return [
        FoldScores(i, 7 + i, tested[i], anomalous[i], {"logit": scores[i]}, histories[i], 0, Path(f"fold_{i}.pt"))
        for i in range(2)
    ]


def test_every_fold_has_a_row_of_metrics(knob, folds):
    rows = category_rows(IDENTITY, knob, folds, {"logit": "classifier"}).metrics
    assert rows[["fold", "n_train", "auroc"]].to_numpy().tolist() == [[0, 7, 1.0], [1, 8, 0.0]]
    assert rows[["ap", "f1", "fpr_95tpr"]].to_numpy().tolist() == [[1.0, 1.0, 0.0], [0.5, 2 / 3, 1.0]]
    assert set(rows["score"]) == {"classifier"}
    assert set(rows["dataset"]) == {"knobs"}


def test_an_image_has_distances_in_the_folds_that_test_it(knob, folds):
    rows = category_rows(IDENTITY, knob, folds, {"logit": "classifier"}).scores
    assert rows["image"].tolist() == ["train/good/0.png", "test/good/0.png", "test/bad/0.png"]  # tested by some fold
    assert rows["anomalous"].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(rows["fold_0"], [1, np.nan, 3])
    np.testing.assert_array_equal(rows["fold_1"], [np.nan, 5, 4])
    np.testing.assert_array_equal(rows["distance"], [1, 5, 3.5])


def test_histories_have_all_epochs_and_mark_the_best(knob, folds):
    rows = category_rows(IDENTITY, knob, folds, {"logit": "classifier"}).histories
    assert rows[["fold", "epoch", "best"]].to_numpy().tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert rows["valid_loss"].tolist() == [0.4, 0.6, 0.1]


def test_the_summary_has_the_aurocs_and_how_long_each_fold_was_trained(knob, folds):
    rows = category_rows(IDENTITY, knob, folds, {"logit": "classifier"})
    text = summarise_training(rows.metrics, rows.histories)
    assert "classifier knob     100.0 0.0  50.0" in text
    assert "knob: epochs by fold (the best): 2 (1), 1 (1)" in text
