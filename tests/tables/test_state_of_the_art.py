"""Tables V and VIII: what was run stands beside the paper; what was not is empty, and what is quoted says so."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.cells import MEAN
from gaussad_cli.tables.render import as_csv, as_markdown, as_text


def rows(score, auroc, categories=("bottle", "screw"), **columns):
    """Five folds per category of one approach; `auroc` is by category."""
    key = {"dataset": "d", "backbone": "efficientnet-b4", "weights": "w", "padding": "paper", "epochs": 100}
    key |= {"key": f"k-{score}", "level": "sum", "score": score, "mode": "all", "var": np.nan}
    key |= columns
    return pd.DataFrame(
        {**key, "category": category, "fold": fold, "auroc": auroc[category] + 0.01 * (fold - 2)}
        for category in categories
        for fold in range(5)
    )


AUROC = {"bottle": 0.9, "screw": 0.4, "textile": 0.7}
TRAINED = {"level": "network", "mode": "", "epochs": np.nan}


def cells(table, column=0):
    return {name: row[column] for name, row in zip(table.rows, table.cells, strict=True)}


def test_what_was_run_stands_beside_the_papers_number():
    (table,) = build_tables(5, rows("ocsvm", AUROC))
    found = cells(table)
    cell = found["oc-SVM, efficientnet-b4, 100 epochs"]
    assert cell.mean == pytest.approx(65.0)
    assert cell.sem == pytest.approx(25.0)
    assert (cell.published_mean, cell.published_sem) == (78.1, 4.7)  # Table V, read off
    assert [name for name in found if name.startswith("oc-SVM, efficientnet-b4")] == [
        "oc-SVM, efficientnet-b4, 100 epochs"
    ]


def test_what_was_not_run_is_empty_and_what_is_quoted_says_so():
    (table,) = build_tables(5, rows("ocsvm", AUROC))
    found = cells(table)
    assert len(found) == 14  # Table V's rows
    others = {name: cell for name, cell in found.items() if name != "oc-SVM, efficientnet-b4, 100 epochs"}
    assert all(cell.mean is None and cell.published_mean is not None for cell in others.values())
    quoted = [name for name in found if "quoted: " in name]
    assert [name.split(",")[0] for name in quoted] == ["GeoTrans", "GANomaly", "ITAE", "SPADE"]
    for text in (as_text(table), as_markdown(table)):
        line = next(line for line in text.splitlines() if "GeoTrans" in line)
        assert "67.2" in line


def test_other_epochs_are_another_row_and_the_papers_stays():
    (table,) = build_tables(5, rows("mahalanobis", AUROC, epochs=20))
    found = cells(table)
    assert found["Mahalanobis, efficientnet-b4, 20 epochs"].mean == pytest.approx(65.0)
    assert found["Mahalanobis, efficientnet-b4, 100 epochs"].mean is None


def test_a_sum_over_part_of_the_levels_is_not_compared_with_the_papers():
    (table,) = build_tables(5, rows("mahalanobis", AUROC, level="sum:1-7"))
    found = cells(table)
    assert found["Mahalanobis, efficientnet-b4, level sum:1-7, 100 epochs"].published_mean is None
    assert found["Mahalanobis, efficientnet-b4, 100 epochs"].published_mean == 95.2


def test_single_levels_are_not_compared_but_for_spades():
    spade = {"backbone": "wide-resnet50-2", "padding": "native", "level": "5", "mode": "k50", "epochs": 0}
    metrics = pd.concat([rows("knn", AUROC, **spade), rows("knn", AUROC, level="7", mode="k50", epochs=0)])
    (table,) = build_tables(5, metrics)
    run = [name for name, cell in cells(table).items() if cell.mean is not None]
    assert run == ["k-NN (SPADE), k50, wide-resnet50-2, level 5"]


def test_trained_networks_have_their_rows_and_the_classifier_its_warning():
    network = {"backbone": "resnet-18", "padding": "native", **TRAINED}
    metrics = pd.concat([rows("classifier", AUROC, **network), rows("cca", AUROC, **network)])
    (table,) = build_tables(5, metrics)
    assert cells(table)["Fully supervised, resnet-18"].published_mean == 93.3
    assert cells(table)["MSE AE, CCA, resnet-18"].published_mean == 81.8
    assert any("upper bound" in note for note in table.notes)
    (without,) = build_tables(5, rows("cca", AUROC, **network))
    assert not any("upper bound" in note for note in without.notes)


def test_table_8_has_a_row_per_category_and_the_mean():
    metrics = pd.concat([rows("ocsvm", AUROC), rows("mahalanobis", AUROC, ("bottle",))])
    (table,) = build_tables(8, metrics)
    assert table.rows == ("bottle", "screw", MEAN)
    assert not any("quoted" in column.title for column in table.columns)
    number = [column.title for column in table.columns].index("oc-SVM, efficientnet-b4, 100 epochs")
    by_category = cells(table, number)
    assert by_category["bottle"].mean == pytest.approx(90.0)
    assert by_category["screw"].mean == pytest.approx(40.0)
    assert (by_category["bottle"].published_mean, by_category["screw"].published_mean) == (97.7, 31.0)
    assert by_category[MEAN].published_mean == 78.1
    other = [column.title for column in table.columns].index("Mahalanobis, efficientnet-b4, 100 epochs")
    assert cells(table, other)["screw"].mean is None
    text = as_text(table)
    assert "90.0 ±" not in text.split("notes")[0].split("Mean")[0]  # one category has no SEM
    assert "†" in text  # the mean over bottle alone


def test_other_data_sets_are_compared_among_themselves_only():
    metrics = pd.concat([rows("ocsvm", AUROC, ("textile",)), rows("gmm", AUROC, ("textile",), mode="shared2")])
    for number in (5, 8):
        (table,) = build_tables(number, metrics)
        assert all(cell.published_mean is None and cell.mean is not None for row in table.cells for cell in row)
    assert build_tables(5, rows("l2", AUROC)) == []


def test_engines_and_seeds_are_told_apart_by_their_key():
    metrics = pd.concat([rows("ocsvm", AUROC), rows("ocsvm", {"bottle": 0.5, "screw": 0.5}, key="other")])
    (table,) = build_tables(5, metrics)
    means = [cell.mean for cell in cells(table).values() if cell.mean is not None]
    named = [name for name in table.rows if name.startswith("oc-SVM, efficientnet-b4")]
    assert len(set(named)) == 2
    assert sorted(means) == pytest.approx([50.0, 65.0])


def test_csv_holds_every_cell_of_both_tables():
    metrics = rows("ocsvm", AUROC)
    tables = [*build_tables(5, metrics), *build_tables(8, metrics)]
    read = list(csv.DictReader(io.StringIO(as_csv(tables))))
    assert len(read) == 14 + 10 * 3
    screw = next(r for r in read if (r["category"], r["score"], r["backbone"]) == ("screw", "ocsvm", "efficientnet-b4"))
    assert (float(screw["mean"]), screw["paper_mean"]) == (pytest.approx(40.0), "31.0")


def test_approaches_on_unequal_sets_are_named_and_sent_to_what_they_share():
    (table,) = build_tables(5, pd.concat([rows("ocsvm", AUROC), rows("classifier", AUROC, ["bottle"], **TRAINED)]))
    text = as_text(table)
    assert "Over bottle: Fully supervised, efficientnet-b4." in text
    assert "All approaches were run on bottle: compare a marked mean with others" in text
    (table,) = build_tables(5, pd.concat([rows("ocsvm", AUROC), rows("classifier", AUROC, **TRAINED)]))
    assert "All approaches" not in as_text(table)
