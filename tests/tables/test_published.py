"""The transcribed tables agree with themselves, with each other and with the formulas the paper gives."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PUBLISHED = Path(__file__).parents[2] / "gaussad_cli" / "tables" / "published.csv"
KEYS = ["backbone", "score", "mode", "var"]
HALF_DIGIT = 0.05  # the paper prints one decimal
# The 15 cells are rounded too: that moves their mean by 0.0075 (one standard deviation; 0.02 is ample)
MEAN_TOLERANCE = HALF_DIGIT + 0.02
# and their SEM by 0.0134 at worst (0.05 sqrt(15 / 14) / sqrt(15)).
SEM_TOLERANCE = HALF_DIGIT + 0.0134


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    """Every cell as the text that was printed."""
    return pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)


def printed(cells: pd.DataFrame, **where: str) -> pd.DataFrame:
    """The mean and SEM, by level, of the rows that match."""
    for column, value in where.items():
        cells = cells[cells[column] == value]
    return cells.set_index("level")[["mean", "sem"]]


def test_every_table_has_all_its_rows(cells):
    expected = {"1": 3 * 10, "2": 8 * 10, "3": 6 * 10, "4": 5 + 4 * (5 + 5 + 1) + 3, "5": 14, "7": 3 * 6, "8": 10 * 16}
    expected["places"] = 2 * 16 + 2 * 3 + 3  # PaDiM twice: image AUROC of all, pixel AUROC of three; PatchCore's means
    assert cells["table"].value_counts().to_dict() == expected


def test_no_cell_is_given_twice(cells):
    assert not cells.duplicated([column for column in cells if column not in ("mean", "sem")]).any()


def test_every_number_is_a_percentage(cells):
    numbers = pd.to_numeric(pd.concat([cells["mean"], cells["sem"][cells["sem"] != ""]]))
    assert numbers.between(0, 100).all()


def test_the_uncompressed_b4_mahalanobis_column_is_the_same_in_tables_1_2_and_3(cells):
    first = printed(cells, table="1", score="mahalanobis")
    assert list(first.index) == [*"123456789", "sum"]
    pd.testing.assert_frame_equal(first, printed(cells, table="2", backbone="efficientnet-b4"))
    pd.testing.assert_frame_equal(first, printed(cells, table="3", mode="all"))


def test_table_4_targets_are_the_two_sided_normal_tails(cells):
    targets = cells[cells["quantity"] == "target_fpr"]
    assert list(targets["sigma"]) == [*"12345"]
    for sigma, text in zip(targets["sigma"], targets["mean"], strict=True):
        decimals = len(text.partition(".")[2])
        assert text == f"{100 * math.erfc(int(sigma) / math.sqrt(2)):.{decimals}f}"


def test_table_4_rates_fall_as_the_threshold_rises_and_tpr_exceeds_fpr(cells):
    fourth = cells[(cells["table"] == "4") & (cells["epochs"] == "100")]
    rates = fourth[fourth["quantity"].isin(["fpr", "tpr"])].astype({"mean": float})
    rates = rates.pivot(index="sigma", columns=[*KEYS, "quantity"], values="mean")
    assert rates.shape == (5, 8)
    assert (np.diff(rates, axis=0) < 0).all()
    assert (rates.xs("tpr", axis=1, level="quantity") > rates.xs("fpr", axis=1, level="quantity")).all(axis=None)


def test_table_8_categories_reproduce_its_mean_and_sem_rows(cells):
    columns = cells[cells["table"] == "8"].groupby(KEYS)
    assert len(columns) == 10
    for key, column in columns:
        summary = column[column["category"] == "mean"].iloc[0]
        values = column.loc[column["category"] != "mean", "mean"].astype(float)
        assert values.mean() == pytest.approx(float(summary["mean"]), abs=MEAN_TOLERANCE), key
        assert values.std(ddof=1) / math.sqrt(15) == pytest.approx(float(summary["sem"]), abs=SEM_TOLERANCE), key


def test_table_5_repeats_the_means_of_table_8(cells):
    literature = ["geotrans", "ganomaly", "itae", "spade"]
    fifth = cells[(cells["table"] == "5") & ~cells["score"].isin(literature)]
    eighth = cells[(cells["table"] == "8") & (cells["category"] == "mean")]
    columns = [*KEYS, "level", "epochs", "mean", "sem"]
    pd.testing.assert_frame_equal(*(table.set_index(KEYS)[columns[4:]].sort_index() for table in (fifth, eighth)))
