"""Rows to tables: means over folds then categories, SEM over categories, the paper's cells beside them."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.markup import as_html
from gaussad_cli.tables.published import MVTEC_CATEGORIES
from gaussad_cli.tables.render import as_csv, as_markdown, as_text


def rows(categories, backbone="efficientnet-b4", levels=("1", "7", "sum"), padding="paper", auroc=None):
    """Metrics of every paper scoring, AUROC a fixed function of category, level, scoring and fold."""
    found = []
    for c, category in enumerate(categories):
        for number, scoring in enumerate(PAPER_SCORINGS):
            for row, level in enumerate(levels):
                for fold in range(5):
                    value = 0.5 + 0.02 * c + 0.01 * number + 0.1 * row + 0.001 * (fold - 2)
                    found.append(
                        {
                            "dataset": "d",
                            "category": category,
                            "backbone": backbone,
                            "weights": "w",
                            "padding": padding,
                            "epochs": 0,
                            "key": f"{backbone}-{padding}",
                            "level": level,
                            "score": scoring.score,
                            "mode": scoring.compression.mode,
                            "var": scoring.compression.var if scoring.compression.var is not None else np.nan,
                            "fold": fold,
                            "auroc": value if auroc is None else auroc(category, scoring, level, fold, value),
                        }
                    )
    return pd.DataFrame(found)


def test_cell_is_the_mean_over_categories_of_fold_means_with_sem():
    (table,) = build_tables(1, rows(["bottle", "cable", "screw"]))
    cell = table.cells[1][2]  # level 7, Mahalanobis
    per_category = 100 * np.array([0.62, 0.64, 0.66])
    assert cell.mean == pytest.approx(per_category.mean())
    assert cell.sem == pytest.approx(per_category.std(ddof=1) / np.sqrt(3))


def test_the_papers_cells_stand_beside_the_measured_ones():
    (table,) = build_tables(3, rows(MVTEC_CATEGORIES))
    assert [column.title for column in table.columns][3:] == ["NPCA 1%", "NPCA 0.1%", "NPCA 0.01%"]
    level_7 = table.cells[1]
    assert [cell.published_mean for cell in level_7] == [96.7, 93.4, 87.1, 96.1, 94.5, 89.6]  # Table III, read off
    assert level_7[0].difference == pytest.approx(level_7[0].mean - 96.7)


def test_a_subset_is_never_set_beside_the_means_over_15_without_saying_so():
    (subset,) = build_tables(1, rows(["bottle", "screw"]))
    (full,) = build_tables(1, rows(MVTEC_CATEGORIES))
    for render in (as_text, as_markdown):
        assert "2 categories: bottle, screw" in render(subset)
        assert "means over all 15 MVTec AD categories" in render(subset)
        assert "unequal sets" not in render(full)
        assert "all 15 categories" in render(full)


def test_other_data_sets_have_no_published_cells():
    (table,) = build_tables(1, rows(["textile"]))
    assert all(cell.published_mean is None for row in table.cells for cell in row)
    assert table.cells[0][0].sem is None  # one category


def test_a_sum_over_part_of_the_levels_has_no_published_cell():
    (table,) = build_tables(1, rows(["bottle"], levels=("1", "sum:1-7")))
    assert table.rows == ("1", "sum:1-7")
    assert table.cells[1][2].published_mean is None


def test_backbones_of_another_padding_are_other_columns():
    both = pd.concat([rows(["bottle"]), rows(["bottle"], padding="tf"), rows(["bottle"], backbone="resnet-18")])
    (table,) = build_tables(2, both)
    assert [column.title for column in table.columns] == [
        "efficientnet-b4 (w, padding paper)",
        "efficientnet-b4 (w, padding tf)",
    ]
    assert [table.columns[0].title for table in build_tables(7, both)] == ["resnet-18"]
    assert len(build_tables(1, both)) == 3


def test_an_undefined_auroc_is_left_out_and_said():
    def broken(category, scoring, _level, fold, value):
        return np.nan if (category, scoring.score, fold) == ("screw", "sed", 3) else value

    (table,) = build_tables(1, rows(["bottle", "screw"], auroc=broken))
    cell = table.cells[0][1]
    assert (cell.categories, cell.undefined) == (("bottle",), ("screw",))
    assert "†" in as_text(table)
    assert "undefined in some cells for screw" in as_text(table)


def test_csv_holds_every_cell_in_full():
    tables = build_tables(3, rows(["bottle", "screw"]))
    read = list(csv.DictReader(io.StringIO(as_csv(tables))))
    assert len(read) == 6 * 3
    first = next(row for row in read if (row["level"], row["mode"], row["var"]) == ("7", "npca", "0.01"))
    assert (first["categories"], first["paper_mean"]) == ("bottle screw", "96.1")
    assert float(first["difference"]) == pytest.approx(float(first["mean"]) - 96.1)


def test_markdown_has_a_cell_per_column():
    (table,) = build_tables(3, rows(["bottle"]))
    body = [line for line in as_markdown(table).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in body} == {8}


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    (table,) = build_tables(1, rows(["bottle"], auroc=lambda *_: 0.9666))  # level 7, Mahalanobis: 96.7 in the paper
    line = next(line for line in as_text(table).splitlines() if line.startswith("7"))
    assert line.endswith("+0.0")


def test_networks_on_unequal_sets_are_marked_and_compared_over_what_they_share():
    some = rows(["bottle"], backbone="efficientnet-b0", auroc=lambda *_: 0.9)
    whole, shared = build_tables(2, pd.concat([rows(["bottle", "screw"]), some]))
    assert "Mean ± SEM in percent over 2 categories: bottle, screw." in as_text(whole)
    assert "†: a mean over fewer categories than the table's. Over bottle: efficientnet-b0." in as_text(whole)
    assert "Over bottle: efficientnet-b0" in as_html(whole)
    assert "**" not in as_markdown(whole).split("\n", 1)[1]  # a mean over fewer categories is not the best
    assert "over the categories that all columns share" in shared.title
    assert {cell.categories for cell in shared.all_cells()} == {("bottle",)}
    assert "over 1 category: bottle." in as_text(shared)
    assert "means over all 15 MVTec AD categories" in as_text(shared)
    assert shared.cells[0][0].mean == pytest.approx(90.0)
    assert "**90.0**" in as_markdown(shared)


def test_networks_without_a_category_in_common_are_not_compared():
    other = rows(["screw"], backbone="efficientnet-b0")
    (table,) = build_tables(2, pd.concat([rows(["bottle"]), other]))
    assert "Over screw: efficientnet-b0. Over bottle: efficientnet-b4." in as_text(table)
    assert "**" not in as_markdown(table).split("\n", 1)[1]
