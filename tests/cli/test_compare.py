"""gaussad compare through the command line."""

import csv
import io
import shutil

import pandas as pd
import pytest

from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.rows import CategoryRows
from tests.conftest import assert_user_error

CATEGORIES = {"knob": 0.9, "lid": 0.6}


def save(folder, dataset="d", shift=0.0, key="aa11", scores=("l2", "sed"), backbone="resnet-18"):
    """Results of two categories, scores and folds."""
    for category, auroc in CATEGORIES.items():
        identity = {"dataset": dataset, "category": category, "backbone": backbone, "weights": "w"}
        identity |= {"padding": "native", "epochs": 0, "key": key, "level": "1", "mode": "all"}
        metrics = [
            {**identity, "score": score, "fold": fold, "auroc": auroc + shift * (score == "l2")}
            for score in scores
            for fold in range(2)
        ]
        distances = [{**identity, "score": score, "image": "0.png", "distance": 1.0} for score in scores]
        rows = CategoryRows(pd.DataFrame(metrics), pd.DataFrame(distances))
        results.save(folder, dataset, category, rows)
    return folder


@pytest.fixture
def two(tmp_path):
    return save(tmp_path / "a"), save(tmp_path / "b", shift=0.01)


def test_a_folder_and_itself_are_the_same(gaussad, two):
    done = gaussad("compare", two[0], two[0], "--fail-on-difference")
    assert (done.code, done.err) == (0, "")
    assert "The same" in done.out
    assert "in both: 8, of which 8 equal to the bit, 0 different" in done.out
    assert gaussad("compare", two[0] / "d", two[0]).code == 0


def test_differences_are_told_and_end_with_3_only_where_asked(gaussad, two):
    done = gaussad("compare", *two)
    assert done.code == 0
    assert "4 equal to the bit, 4 different" in done.out
    assert "Cells that differ: 2." in done.out
    assert "+1.00" in done.out
    assert gaussad("compare", *two, "--fail-on-difference").code == 3
    assert gaussad("compare", *two, "--fail-on-difference", "--min-difference", 1.5).code == 0
    assert gaussad("compare", *two, "--fail-on-difference", "--score", "sed").code == 0
    assert "No cell differs by more than 1.5 percentage points" in gaussad("compare", *two, "--min-difference", 1.5).out


def test_csv_is_alone_on_stdout(gaussad, two):
    done = gaussad("compare", *two, "--format", "csv", "--score", "l2")
    read = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["category"] for row in read] == ["knob", "lid", "mean"]
    assert "in both: 4" in done.err


def test_a_data_sets_folder_may_be_a_copy_of_another_name(gaussad, two, tmp_path):
    shutil.copytree(two[0] / "d", tmp_path / "before")
    assert "The same" in gaussad("compare", "before", two[0]).out


def test_of_several_data_sets_one_is_chosen(gaussad, two):
    save(two[0], "e", shift=0.2)
    assert_user_error(gaussad("compare", *two), "several data sets", "--dataset d or e")
    assert "Cells that differ: 2." in gaussad("compare", *two, "--dataset", "d").out
    assert_user_error(gaussad("compare", two[0] / "d", two[0], "--dataset", "e"), "holds results of 'd', not of 'e'")


def test_variants_are_chosen_by_the_heads_of_their_keys(gaussad, two):
    save(two[0], shift=0.05, key="bb22")
    done = gaussad("compare", two[0], two[0], "--key-a", "aa", "--key-b", "bb")
    assert done.code == 0, done.err
    assert "key: aa11 | bb22" in done.out
    assert "+5.00" in done.out
    save(two[1], shift=0.05, key="cc33", backbone="resnet-34")
    assert "only in B: 8" in gaussad("compare", *two, "--key-a", "aa").out
    assert "only in B: 0" in gaussad("compare", *two, "--backbone", "ResNet-18").out


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--format", "html"), ("unknown format 'html'", "text, csv")),
        (("--backbone", "resnet-81"), ("--backbone resnet-81 is in neither folder", "Did you mean resnet-18?")),
        (("--key-b", "zz"), ("no key that begins with 'zz'", "aa11")),
    ],
)
def test_options_that_cannot_be(gaussad, two, options, fragments):
    assert_user_error(gaussad("compare", *two, *options), *fragments)


def test_folders_without_results_or_with_damaged_manifests_are_named(gaussad, two, tmp_path):
    assert_user_error(gaussad("compare", two[0], "nowhere"), "no results", "nowhere")
    (two[1] / "d/manifests").mkdir()
    (two[1] / "d/manifests/x.json").write_text("{")
    assert_user_error(gaussad("compare", *two), "x.json", "Move it away")
    save(tmp_path / "c", key="dd44", backbone="other")
    assert_user_error(
        gaussad("compare", two[0], "c"), "nothing was measured in both", "resnet-18 (l2, sed of knob, lid)"
    )
