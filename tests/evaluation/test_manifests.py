"""What rows came of: one more category, level or score adds to it, and the same run twice gives the same bytes."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from gaussad_cli.datasets.folds import FOLD_SEED, N_FOLDS
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.evaluate import evaluate_dataset
from gaussad_cli.evaluation.manifests import Cell, Images, Origin, Record, ResultsManifest
from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.extraction import store
from gaussad_cli.training.task import RECIPE

RECIPE_OF_NET = store.Recipe("timm:net", 3, "net-1234", "a" * 64, "native", 32)
SMALL = ResultsManifest(
    "d",
    "b",
    "k",
    {"engine": "onnx"},
    {"n": 5},
    {"lid": (Record(Origin({"train": Images(8, "a")}, {"numpy": "1"}), (Cell("l2", "all", None, "1"),)),)},
)
L2, GAUSSIAN = Scoring("l2"), Scoring("mahalanobis")


def write_category(cache, category, recipe=RECIPE_OF_NET, n_train=8, seed=0, images_of=None):
    """Features of two levels, drawn; three normal and three scratched test images."""
    rng = np.random.default_rng(seed)
    for split, labels in (("train", ["good"] * n_train), ("test", ["good"] * 3 + ["scratch"] * 3)):
        images = tuple(
            store.ImageEntry(f"{split}/{label}/{i}.png", label, store.digest([images_of or category, i]))
            for i, label in enumerate(labels)
        )
        features = {level: rng.normal(size=(len(labels), 4)).astype(np.float32) for level in (1, 2)}
        manifest = store.Manifest("d", category, split, recipe, images, {})
        store.write_features(store.split_folder(cache, "d", recipe, category, split), manifest, features)


@pytest.fixture
def cache(tmp_path):
    for number, category in enumerate(("knob", "lid")):
        write_category(tmp_path / "cache", category, seed=number)
    return tmp_path / "cache"


def evaluate(cache, out, *scorings, **chosen):
    evaluate_dataset(Selection("timm:net", cache, **chosen), scorings or (L2, GAUSSIAN), out)
    return out / "d/manifests" / f"timm-net-{RECIPE_OF_NET.key}.json"


def cells(manifest, category):
    return {cell for record in manifest.categories[category] for cell in record.cells}


def test_an_evaluation_says_what_its_rows_came_of(cache, tmp_path):
    path = evaluate(cache, tmp_path / "r")
    (manifest,) = results.read_manifests(tmp_path / "r", "d")
    assert manifest == manifests.read(path)
    assert manifest.recipe == RECIPE_OF_NET.content
    assert manifest.folds == {"kind": "KFold", "n": N_FOLDS, "shuffle": True, "seed": FOLD_SEED}
    assert set(manifest.categories) == {"knob", "lid"}
    (record,) = manifest.categories["knob"]
    assert [record.origin.images[split].n for split in ("train", "test")] == [8, 6]
    assert {"gaussad", "numpy", "scipy", "scikit-learn", "python"} <= set(record.origin.versions)
    extracted = store.read_manifest(store.split_folder(cache, "d", RECIPE_OF_NET, "knob", "train"))
    assert record.origin.images["train"].sha256 == store.digest(
        [[image.name, image.label, image.sha256] for image in extracted.images]
    )
    assert "torch" in record.origin.images["train"].versions
    metrics = results.read_metrics(tmp_path / "r", "d")
    assert cells(manifest, "lid") == set(manifests.cells_of(metrics[metrics["category"] == "lid"]))
    assert Cell("mahalanobis", "all", None, "sum:1-2") in cells(manifest, "lid")


def test_the_same_runs_in_another_order_or_place_give_the_same_bytes(cache, tmp_path):
    whole = evaluate(cache, tmp_path / "whole").read_bytes()
    evaluate(cache, tmp_path / "parts", GAUSSIAN, categories=["lid"], levels="1-2")
    evaluate(cache, tmp_path / "parts", L2, GAUSSIAN, categories=["knob"])
    assert evaluate(cache, tmp_path / "parts", L2, categories=["lid"]).read_bytes() == whole
    assert evaluate(cache, tmp_path / "parts").read_bytes() == whole
    assert str(tmp_path).encode() not in whole


def test_one_more_category_or_score_keeps_what_is_there(cache, tmp_path):
    evaluate(cache, tmp_path / "r", L2, categories=["knob"], levels="1")
    evaluate(cache, tmp_path / "r", GAUSSIAN, categories=["knob"])
    manifest = manifests.read(evaluate(cache, tmp_path / "r", L2, categories=["lid"]))
    assert {(cell.score, cell.level) for cell in cells(manifest, "knob")} == {
        ("l2", "1"),
        *(("mahalanobis", level) for level in ("1", "2", "sum:1-2")),
    }
    assert len(cells(manifest, "lid")) == 3


def test_cells_of_other_versions_keep_their_own_record(cache, tmp_path, monkeypatch):
    evaluate(cache, tmp_path / "r")
    monkeypatch.setattr(store, "versions", lambda: {"numpy": "99"})
    manifest = manifests.read(evaluate(cache, tmp_path / "r", L2, categories=["knob"], levels="1"))
    new, old = sorted(manifest.categories["knob"], key=lambda record: len(record.cells))
    assert new.cells == (Cell("l2", "all", None, "1"),)
    assert new.origin.versions == {"numpy": "99"}
    assert Cell("l2", "all", None, "2") in old.cells
    assert Cell("l2", "all", None, "1") not in old.cells


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda text: text[:-20], "cannot read"),
        (lambda text: text.replace('"n": 5', '"n": 4'), "was edited"),
        (lambda text: text.replace('"schema": 1', '"schema": 9'), "schema 9"),
        (lambda text: "[]", "cannot read"),
        (lambda text: "\x00", "cannot read"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, damage, what):
    path = manifests.path_of(tmp_path, SMALL)
    manifests.write(tmp_path, SMALL)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=what) as error:
        manifests.add(tmp_path, SMALL)
    assert path.name in str(error.value)
    assert "Move it away" in str(error.value)


def test_where_a_manifest_is_damaged_no_row_is_changed(cache, tmp_path):
    path = evaluate(cache, tmp_path / "r", L2, categories=["lid"], levels="1")
    rows = (tmp_path / "r/d/metrics.csv").read_bytes()
    path.write_text("{")
    with pytest.raises(UserError, match=path.name):
        evaluate(cache, tmp_path / "r", GAUSSIAN)
    assert (tmp_path / "r/d/metrics.csv").read_bytes() == rows
    path.unlink()
    evaluate(cache, tmp_path / "r", GAUSSIAN, categories=["lid"], levels="1")
    assert path.is_file()


@pytest.mark.parametrize("categories", [{"knob": [{}]}, {"knob": None}, [1], {"knob": [{"cells": "x"}]}])
def test_a_sealed_file_that_is_no_manifest_is_an_error_not_a_bug(tmp_path, categories):
    content = {"schema": 1, "dataset": "d", "backbone": "b", "key": "k", "recipe": {}, "folds": {}}
    (tmp_path / "x.json").write_text(json.dumps(store.sealed({**content, "categories": categories})))
    with pytest.raises(UserError, match=r"cannot read .*x\.json"):
        manifests.read(tmp_path / "x.json")


def test_a_manifest_that_cannot_be_written_is_a_users_error(cache, tmp_path):
    (tmp_path / "r/d").mkdir(parents=True)
    (tmp_path / "r/d/manifests").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        evaluate(cache, tmp_path / "r", L2, categories=["lid"], levels="1")


def test_results_of_before_manifests_have_none(tmp_path):
    assert results.read_manifests(tmp_path, "d") == []


def test_a_trained_networks_manifest_is_its_trainings_recipe(tmp_path):
    images = [["train/good/0.png", "aa"], ["test/good/0.png", "bb"], ["test/cut/0.png", "cc"]]
    content = {"category": "lid", "images": images, "folds": [[[0], [1], [2]]], "network": {"net": "n", "sha": "f0"}}
    content |= {"objective": "O()", "augmentation": {"flip": 0.5}, "options": {"seed": 3}, "input_size": 16}
    (tmp_path / RECIPE).write_text(json.dumps(content))
    identity = {"dataset": "d", "backbone": "b", "weights": "w", "padding": "tf", "key": "k", "level": "network"}
    labels = {"train/good/0.png": "good", "test/good/0.png": "good", "test/cut/0.png": "cut"}
    rows = pd.DataFrame([{"score": "classifier", "mode": "", "var": None, "level": "network"}] * 5)
    manifest = manifests.of_training(identity, tmp_path / RECIPE, labels, rows, manifests.STRATIFIED)
    manifests.write(tmp_path, manifests.merge(None, manifest))
    assert manifests.read(tmp_path / "manifests/b-k.json") == manifest
    assert manifest.folds["kind"] == "StratifiedKFold"
    assert manifest.recipe["options"] == {"seed": 3}
    assert manifest.recipe["weights"] == "w"
    (record,) = manifest.categories["lid"]
    assert record.origin.settings == {"objective": "O()", "augmentation": {"flip": 0.5}}
    assert record.origin.images["test"] == Images.of(
        [("test/good/0.png", "good", "bb"), ("test/cut/0.png", "cut", "cc")]
    )
    assert record.cells == (Cell("classifier", "", None, "network"),)


def test_facts_are_of_the_wanted_cells_and_name_all_their_origins():
    def record(n, *levels):
        images = {"train": Images(n, f"digest{n}", {"numpy": "1"})}
        return Record(
            Origin(images, {"scipy": "2"}, {"steps": [0.1]}), tuple(Cell("l2", "all", None, v) for v in levels)
        )

    manifest = ResultsManifest(
        "d", "b", "k", {"engine": "onnx", "a": {"b_c": None}}, {"n": 5}, {"lid": (record(8, "1"), record(9, "2"))}
    )
    found = manifests.facts(manifest, {"lid": [Cell("l2", "all", None, "1")]})
    assert found == {
        ("engine", ""): "onnx",
        ("a b c", ""): "",
        ("folds n", ""): "5",
        ("setting steps", "lid"): "[0.1]",
        ("train images", "lid"): "8",
        ("train images, sha256", "lid"): "digest8",
        ("train features by numpy", "lid"): "1",
        ("evaluated by scipy", "lid"): "2",
    }
    both = manifests.facts(manifest, {"lid": [Cell("l2", "all", None, level) for level in "12"]})
    assert both["train images", "lid"] == "8 and 9"


def test_a_manifest_under_the_name_of_another_is_refused(tmp_path):
    manifests.write(tmp_path, SMALL)
    path = manifests.path_of(tmp_path, SMALL)
    path.rename(path.with_name("other-key.json"))
    with pytest.raises(UserError, match=r"other-key\.json belongs to another extraction"):
        manifests.read(path.with_name("other-key.json"))


def test_rows_of_other_images_do_not_join_those_of_another_network_or_score(cache, tmp_path):
    rows = evaluate(cache, tmp_path / "r").parents[1] / "metrics.csv"
    before = rows.read_bytes()
    write_category(cache, "knob", n_train=9)
    with pytest.raises(UserError, match=r"'knob' would come from different images.*8 train images.*9 train images"):
        evaluate(cache, tmp_path / "r", L2, categories=["knob"])
    assert rows.read_bytes() == before
    evaluate(cache, tmp_path / "r", categories=["knob"])  # replaces all of them
    other = dataclasses.replace(RECIPE_OF_NET, weights_sha256="b" * 64)
    write_category(cache, "knob", other)
    with pytest.raises(UserError, match="different images"):
        evaluate(cache, tmp_path / "r", categories=["knob"], key=other.key)


def test_a_category_does_not_count_twice_under_a_new_name(cache, tmp_path):
    evaluate(cache, tmp_path / "r")
    write_category(cache, "button", images_of="knob")
    with pytest.raises(UserError, match="categories 'button' and 'knob' have the same training images"):
        evaluate(cache, tmp_path / "r", categories=["button"])
    assert "button" not in (tmp_path / "r/d/metrics.csv").read_text()
    evaluate(cache, tmp_path / "s", categories=["button", "lid"])


def test_images_whose_hashes_are_unknown_are_not_compared(tmp_path):
    images = {"train": Images.of([("train/good/0.png", "good", "")])}
    assert images["train"] == Images(1, "")
    records = (Record(Origin(images, {}), SMALL.categories["lid"][0].cells),)
    manifests.check_images(tmp_path, [dataclasses.replace(SMALL, categories={"knob": records, "lid": records}), SMALL])
