"""The table of places: quoted cells have columns of their own, and means are over the same categories or say so."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.cells import MEAN
from gaussad_cli.tables.known import NUMBERS, PLACES
from gaussad_cli.tables.places import ALL
from gaussad_cli.tables.published import MVTEC_CATEGORIES
from gaussad_cli.tables.render import as_csv, render_all

PADIM, PATCHCORE = "PaDiM, Wide-ResNet50-2", "PatchCore, Wide-ResNet50-2"
LITE0 = "efficientnet-lite0, levels 3-6"


def rows(categories=("bottle", "screw"), **columns):
    key = {"dataset": "d", "backbone": "efficientnet-lite0", "weights": "w", "padding": "tf", "epochs": 0, "key": "k"}
    key |= {"level": "joint:3-6", "mode": "npca", "var": 0.1}
    values = {"places": 0.9, "places-top": 0.8, "places-scaled": 0.95}
    return pd.DataFrame(
        {**key, "category": category, "fold": fold, "score": score, "auroc": auroc + 0.02 * number}
        | {"pixel_auroc": 0.98, "aupro": 0.9}
        | columns
        for number, category in enumerate(categories)
        for score, auroc in values.items()
        for fold in range(5)
    )


def built(metrics):
    (table,) = build_tables(PLACES, metrics)
    return table, {
        (name, column.title): cell
        for name, row in zip(table.rows, table.cells, strict=True)
        for column, cell in zip(table.columns, row, strict=True)
    }


def test_measured_means_are_over_folds_and_then_over_categories():
    table, cells = built(rows())
    assert table.rows == ("bottle", "screw", MEAN, ALL)
    mean = cells[MEAN, f"{LITE0}: image AUROC, maximum"]
    assert (mean.mean, mean.sem) == (pytest.approx(91.0), pytest.approx(1.0))
    assert cells["screw", f"{LITE0}: image AUROC, greatest 1 %"].mean == pytest.approx(82.0)
    assert cells[MEAN, f"{LITE0}: pixel AUROC"].sem == pytest.approx(0.0)
    assert cells[ALL, f"{LITE0}: AUPRO"].mean is None


def test_quoted_means_are_over_the_same_categories_and_those_of_all_have_a_row():
    table, cells = built(rows())
    title = f"{PADIM}: image AUROC"
    assert [cells[name, title].published_mean for name in table.rows] == [99.8, 84.4, pytest.approx(92.1), 95.5]
    assert [cells[name, f"{PATCHCORE}: AUPRO"].published_mean for name in table.rows] == [None, None, None, 94.4]
    assert any(note.startswith(f"'{ALL}' is over other categories") for note in table.notes)
    assert any("never measured here" in note and "crop" in note for note in table.notes)


def test_a_quoted_mean_needs_all_of_its_categories():
    _, cells = built(rows(("bottle", "carpet")))
    assert cells[MEAN, f"{PADIM}: image AUROC"].published_mean == pytest.approx((99.8 + 99.9) / 2)
    assert cells[MEAN, f"{PADIM}: pixel AUROC"].published_mean is None


def test_over_all_15_categories_the_means_stand_beside_each_other():
    table, cells = built(rows(MVTEC_CATEGORIES))
    assert table.rows == (*MVTEC_CATEGORIES, MEAN)
    assert cells[MEAN, f"{PATCHCORE}: image AUROC"].published_mean == 99.2
    assert "Mean ± SEM in percent over all 15 categories." in table.notes


def test_no_difference_is_taken_and_a_quoted_column_shows_nothing_else():
    table, _ = built(rows())
    assert all(cell.difference is None for cell in table.all_cells())
    text, markdown, latex, html = (render_all([table], style) for style in ("text", "markdown", "latex", "html"))
    shown = set(text.split()) & {"measured", "paper", "diff", "quoted"}
    assert shown == {"measured", "quoted"}
    assert f"{PADIM}: image AUROC (quoted)" in markdown
    assert "(quoted)" in latex
    assert "Rippel" not in latex
    assert '<th scope="col">quoted</th>' in html
    read = list(csv.DictReader(io.StringIO(as_csv([table]))))
    assert {row["table"] for row in read} == {"places"}
    assert {row["mean"] for row in read if row["score"] == "padim"} == {""}


def test_settings_and_epochs_have_columns_of_their_own():
    others = [rows(mode="npca rho=0.3"), rows(mode="all", var=np.nan), rows(epochs=5), rows(level="joint:4")]
    table, _ = built(pd.concat([rows(), *others]))
    heads = {column.title.rpartition(": ")[0] for column in table.columns if not column.quoted}
    lite0 = "efficientnet-lite0"
    assert heads == {
        LITE0,
        f"{LITE0}, rho=0.3",
        f"{LITE0}, all directions",
        f"{LITE0}, 5 epochs",
        f"{lite0}, levels 4",
    }


def test_a_mean_over_fewer_categories_than_the_tables_is_marked():
    table, _ = built(pd.concat([rows(), rows(("bottle",), mode="npca rho=0.3")]))
    assert any(note.startswith("†") and "rho=0.3" in note for note in table.notes)


def test_without_masks_there_are_no_columns_of_pixels():
    table, _ = built(rows(pixel_auroc=np.nan, aupro=np.nan))
    assert not any("pixel" in column.title or "AUPRO" in column.title for column in table.columns if not column.quoted)
    assert "No metrics of pixels, for lack of masks: bottle, screw." in table.notes


def test_another_data_set_has_no_quoted_columns():
    table, _ = built(rows(("textile",)))
    assert not any(column.quoted for column in table.columns)
    assert table.rows == ("textile", MEAN)


@pytest.mark.parametrize("number", [number for number in NUMBERS.values() if number != PLACES])
def test_the_papers_tables_have_no_rows_of_places(number):
    assert build_tables(number, rows()) == []
