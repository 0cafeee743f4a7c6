import pandas as pd
import pytest

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.rows import CategoryRows

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
