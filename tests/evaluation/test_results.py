import numpy as np
import pandas as pd
import pytest

from gaussad_cli.datasets.index import SPLITS, find_categories
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.manifests import Cell, Images, Origin, Record, ResultsManifest
from gaussad_cli.evaluation.rows import CategoryRows
from gaussad_cli.files import sha256_of
from tests.conftest import write_image

KEY = {"dataset": "d", "category": "lid", "backbone": "b", "weights": "w", "padding": "tf", "epochs": 0, "level": "1"}


def metrics(auroc, score="l2", mode="all", var=None):
    rows = [{**KEY, "score": score, "mode": mode, "var": var, "fold": fold, "auroc": auroc} for fold in range(5)]
    return pd.DataFrame(rows)


def scores(distance):
    return pd.DataFrame(
        [{**KEY, "score": "l2", "mode": "all", "var": None, "image": "test/good/0.png", "distance": distance}]
    )


def save(path, rows):
    results.save(path, "d", "lid", CategoryRows(rows, scores(0.1)))


def test_running_again_replaces_the_same_rows_and_touches_no_others(tmp_path):
    save(tmp_path, metrics(1 / 3))
    untouched = (tmp_path / "d/metrics.csv").read_text().splitlines()[1:]
    save(tmp_path, metrics(0.5, "mahalanobis", "npca", 0.01))
    save(tmp_path, metrics(0.75, "mahalanobis", "npca", 0.01))
    lines = (tmp_path / "d/metrics.csv").read_text().splitlines()[1:]
    assert len(lines) == 10
    assert set(untouched) < set(lines)
    read = results.read_metrics(tmp_path, None)
    assert sorted(set(read["auroc"])) == [1 / 3, 0.75]  # to the last digit


def test_the_order_of_runs_does_not_change_the_file(tmp_path):
    one, two = metrics(0.5), metrics(0.7, "mahalanobis", "pca", 0.95)
    for folder, order in (("a", (one, two)), ("b", (two, one))):
        for rows in order:
            save(tmp_path / folder, rows)
    assert (tmp_path / "a/d/metrics.csv").read_bytes() == (tmp_path / "b/d/metrics.csv").read_bytes()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00\x01", "dataset,category\n"])
def test_a_file_that_is_not_gaussads_is_left_alone_and_named(tmp_path, content):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/metrics.csv").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.csv"):
        save(tmp_path, metrics(0.5))
    assert (tmp_path / "d/metrics.csv").read_text() == content


def test_without_results_the_error_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="Run first: gaussad evaluate"):
        results.read_metrics(tmp_path, None)


def test_with_several_data_sets_one_must_be_named(tmp_path):
    for name in ("one", "two"):
        rows = CategoryRows(metrics(0.5).assign(dataset=name), scores(0.1))
        results.save(tmp_path, name, "lid", rows)
    with pytest.raises(UserError, match="--dataset one or two"):
        results.read_metrics(tmp_path, None)
    assert set(results.read_metrics(tmp_path, "two")["dataset"]) == {"two"}


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("auroc", "1.2", "not between 0 and 1"),
        ("auroc", "-0.1", "not between 0 and 1"),
        ("auroc", "inf", "not between 0 and 1"),
        ("var", "2", "not between 0 and 1"),
        ("fpr_1s", "7", "not between 0 and 1"),
        ("ap", "1.01", "not between 0 and 1"),
        ("aupro", "-1", "not between 0 and 1"),
        ("pixel_auroc", "none", "not a number"),
        ("level", "seven", "not a level"),
        ("level", "-1", "not a level"),
        ("level", "1.0", "not a level"),
        ("level", "sum:", "not a level"),
        ("epochs", "-1", "not a whole number"),
        ("epochs", "inf", "not a whole number"),
        ("fold", "1.5", "not one of 5 folds"),
        ("fold", "", "not one of 5 folds"),
        ("fold", "5", "not one of 5 folds"),
        ("auroc", "nan", "not a number"),
        ("auroc", "high", "not a number"),
        ("level", "0", "not a level"),
        ("fold", "2", "a second row of the same fold"),
        ("category", "../lid", "not the plain name"),
        ("category", "..", "not the plain name"),
        ("category", "/etc", "not the plain name"),
        ("dataset", "e", "another data set"),
    ],
)
def test_a_value_that_gaussad_does_not_write_is_named_by_file_and_line(tmp_path, column, value, problem):
    save(tmp_path, metrics(0.5))
    path = tmp_path / "d/metrics.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows.loc[3, column] = value
    rows.to_csv(path, index=False)
    with pytest.raises(UserError) as error:
        results.read_metrics(tmp_path, None)
    assert f"{path}, line 5: {column} is '{value}'" in str(error.value)
    assert problem in str(error.value)


@pytest.mark.parametrize("level", ["1", "12", "sum", "sum:1-7", "sum:1-3,7", "network"])
def test_every_level_that_gaussad_writes_is_read(tmp_path, level):
    save(tmp_path, metrics(0.5).assign(level=level))
    assert set(results.read_metrics(tmp_path, None)["level"]) == {level}


@pytest.mark.parametrize(("dataset", "category"), [("../d", "lid"), ("d", "../../lid"), ("", "lid"), ("d", "/tmp/lid")])
def test_names_that_lead_elsewhere_are_not_written_to(tmp_path, dataset, category):
    with pytest.raises(UserError, match="not the plain name"):
        results.save(tmp_path / "r", dataset, category, CategoryRows(metrics(0.5), scores(0.1)))
    assert not list(tmp_path.iterdir())


def test_the_longest_name_of_a_category_has_its_scores(tmp_path):
    name = "検" * 85
    rows = CategoryRows(metrics(0.5).assign(category=name), scores(0.1).assign(category=name))
    results.save(tmp_path, "d", name, rows)
    assert results.read_scores(tmp_path, "d", name)["category"].tolist() == [name]


def manifest_of(data, *categories):
    """What an evaluation of these categories of a folder of images would write."""
    records = {}
    for category in find_categories(data, categories):
        images = {
            split: Images.of((i.name, i.label, sha256_of(i.path)) for i in category.split(split)) for split in SPLITS
        }
        records[category.name] = (Record(Origin(images, {}), (Cell("l2", "all", None, "1"),)),)
    return ResultsManifest("d", "b", "k", {}, {}, records)


def test_a_folder_that_has_moved_or_grown_is_the_same_data(tiny, tmp_path):
    manifests.write(tmp_path / "r/d", manifest_of(tiny, "knob"))
    moved = tiny.rename(tmp_path / "moved")
    for chosen in (["lid"], ["knob", "lid"], ["knob"]):
        results.check_data(tmp_path / "r", "d", moved, chosen)


def test_a_folder_without_a_category_that_has_results_is_other_data(tiny, tmp_path):
    manifests.write(tmp_path / "r/d", manifest_of(tiny, "knob", "lid"))
    (tiny / "knob").rename(tiny / "button")
    with pytest.raises(UserError, match=r"r/d holds knob, which .*tiny does not.*--dataset NAME"):
        results.check_data(tmp_path / "r", "d", tiny, ["button", "lid"])
    results.check_data(tmp_path / "r", "e", tiny, ["button", "lid"])


def test_a_folder_with_other_images_under_the_same_names_is_other_data(tiny, tmp_path):
    manifests.write(tmp_path / "r/d", manifest_of(tiny, "knob", "lid"))
    write_image(tiny / "knob/test/good/000.png", seed=99)
    with pytest.raises(UserError, match="other images of category 'knob'"):
        results.check_data(tmp_path / "r", "d", tiny, ["lid"])
    results.check_data(tmp_path / "r", "d", tiny, ["knob", "lid"])  # save() compares the categories that are evaluated


def test_the_scores_of_a_category_under_the_name_of_another_are_refused(tmp_path):
    save(tmp_path, metrics(0.5))
    (tmp_path / "d/scores/lid.csv").rename(tmp_path / "d/scores/knob.csv")
    with pytest.raises(UserError, match=r"knob\.csv has rows of another category"):
        results.read_scores(tmp_path, "d", "knob")


# The first rows of a metrics.csv of this house before `ap` and the columns after it, as they were written.
BEFORE_ADDED = """\
dataset,category,backbone,weights,padding,epochs,key,level,score,mode,var,fold,n_train,dim,shrinkage,auroc,fpr_1s,tpr_1s,\
fpr_2s,tpr_2s,fpr_3s,tpr_3s,fpr_4s,tpr_4s,fpr_5s,tpr_5s
demo,textile,efficientnet-lite0,efficientnet-lite0-57934424,tf,0,9a1dd22fb886f1fe,1,l2,all,,0,240,32,,0.511925,,,,,,,,,,
demo,textile,efficientnet-lite0,efficientnet-lite0-57934424,tf,0,9a1dd22fb886f1fe,1,mahalanobis,all,,0,240,32,\
0.0014586674225332085,0.524725,0.31,0.32,0.09,0.115,0.015,0.015,0.01,0.005,0.005,0.0
"""


def save_demo(path, auroc):
    """Save one row of other scores, beside those of BEFORE_ADDED."""
    key = KEY | {"dataset": "demo", "category": "textile"}
    rows = pd.DataFrame([{**key, "score": "sed", "mode": "all", "var": None, "fold": 0, "auroc": auroc, "ap": 0.25}])
    results.save(path, "demo", "textile", CategoryRows(rows, scores(0.1).assign(dataset="demo", category="textile")))


def test_rows_written_before_columns_were_added_are_read_with_these_empty(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/metrics.csv").write_text(BEFORE_ADDED)
    read = results.read_metrics(tmp_path, None)
    assert list(read) == results.METRICS
    assert read["auroc"].tolist() == [0.511925, 0.524725]
    assert read["tpr_4s"].isna().tolist() == [True, False]
    assert read[["ap", "f1", "fpr_95tpr", "pixel_auroc", "aupro", "pointing"]].isna().all(axis=None)


def test_rows_written_before_columns_were_added_are_merged_into_and_stay_to_the_digit(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/metrics.csv").write_text(BEFORE_ADDED)
    save_demo(tmp_path, 0.5)
    header, *rows = (tmp_path / "demo/metrics.csv").read_text().splitlines()
    before = BEFORE_ADDED.splitlines()
    assert header == before[0] + ",ap,f1,fpr_95tpr,pixel_auroc,aupro,pointing"
    assert {row + ",,,,,," for row in before[1:]} < set(rows)
    assert results.read_metrics(tmp_path, None)["ap"].dropna().tolist() == [0.25]


@pytest.mark.parametrize(
    "columns",
    [
        results.METRICS[:-4],
        results.METRICS[:-1],
        results.METRICS[:-7],
        [*results.METRICS, "more"],
        [*results.METRICS[:-2], "aupro", "pixel_auroc"],
    ],
)
def test_any_other_columns_are_refused(tmp_path, columns):
    save(tmp_path, metrics(0.5))
    path = tmp_path / "d/metrics.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).reindex(columns=columns).to_csv(path, index=False)
    with pytest.raises(UserError, match="does not have the columns"):
        results.read_metrics(tmp_path, None)


MAPS_ROW = {**KEY, "key": "k", "level": "joint:3-6", "mode": "npca rho=0.3", "var": 0.01}


def test_heat_maps_are_read_as_they_were_written_up_to_half_precision(tmp_path):
    maps = np.random.default_rng(0).gamma(4.0, 5.0, (3, 4, 4))
    names = ["test/good/0.png", "test/dent/é.png", "test/dent/1.png"]
    assert results.read_maps(tmp_path, MAPS_ROW) is None
    results.save_maps(tmp_path, MAPS_ROW, names, maps)
    read = results.read_maps(tmp_path, MAPS_ROW)
    assert list(read) == names
    np.testing.assert_allclose(np.stack(list(read.values())), maps, rtol=2**-11)
    assert results.read_maps(tmp_path, {**MAPS_ROW, "category": "knob"}) is None
    results.remove_maps(tmp_path, MAPS_ROW)
    assert results.read_maps(tmp_path, MAPS_ROW) is None
    results.remove_maps(tmp_path, MAPS_ROW)


def test_damaged_heat_maps_are_refused(tmp_path):
    results.save_maps(tmp_path, MAPS_ROW, ["test/good/0.png"], np.ones((1, 4, 4)))
    path = results.maps_path(tmp_path, MAPS_ROW)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"joint-3-6-npca-rho=0.3-0.01\.npz is damaged"):
        results.read_maps(tmp_path, MAPS_ROW)
