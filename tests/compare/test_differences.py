"""Rows are matched by what was measured, and categories are tested as one observation each."""

import csv
import io

import numpy as np
import pytest

from gaussad_cli.compare.differences import compare_cells, compare_sides, find_changes, sign_flip_p
from gaussad_cli.compare.render import as_csv, as_text
from gaussad_cli.compare.sides import ResultsFilter
from gaussad_cli.tables.cells import MEAN
from tests.compare.toy import FIVE, compared, manifest, rows, side


def test_results_beside_themselves_are_the_same():
    mine = [rows(), rows(level="2"), rows(key="k2", padding="paper"), rows(epochs=np.nan, score="cca", key="t")]
    found = compared(mine, mine)
    assert found.is_same
    assert len(found.matched) == 4 * 10
    assert as_text(found).endswith("The same: neither the rows nor the manifests differ.\n")


def test_weights_padding_and_key_are_compared_not_matched():
    found = compared([rows()], [rows(weights="v", padding="paper", key="k2")])
    assert len(found.matched) == 10
    assert {(c.what, c.a, c.b) for c in found.changes} == {
        ("weights", "w", "v"),
        ("padding", "tf", "paper"),
        ("key", "k1", "k2"),
    }
    assert not found.is_same


def test_what_is_in_one_only_is_counted_with_its_network():
    found = compared([rows(), rows(epochs=20.0)], [rows((("screw", 0.4),)), rows(backbone="other")])
    assert (len(found.matched), len(found.only_a), len(found.only_b)) == (5, 15, 10)
    text = as_text(found)
    assert "only in A: 15\n    5 of net (bottle)\n    10 of net, 20 epochs (bottle, screw)\n" in text
    assert "only in B: 10\n    10 of other (bottle, screw)\n" in text
    assert not found.is_same


def test_cells_are_means_over_folds_in_points_largest_first():
    b = rows((("bottle", 0.93), ("screw", 0.3)))
    cells = compared([rows()], [b]).beyond(0)
    assert cells["category"].tolist() == ["screw", "bottle"]
    assert cells["difference"].tolist() == pytest.approx([-10, 3])
    assert cells["largest"].tolist() == pytest.approx([10, 3])
    assert cells["a"].tolist() == pytest.approx([40, 90])
    assert compared([rows()], [b]).beyond(3.5)["category"].tolist() == ["screw"]


def test_a_last_bit_is_a_difference_even_where_folds_cancel():
    b = rows()
    b.loc[0, "auroc"] = np.nextafter(b.loc[0, "auroc"], 1)
    found = compared([rows()], [b])
    assert found.beyond(0)["category"].tolist() == ["bottle"]
    assert found.beyond(1e-6).empty
    swapped = compared([rows((("bottle", 0.9),))], [rows((("bottle", 0.9),), FIVE[::-1])])
    assert swapped.beyond(0)["difference"].tolist() == pytest.approx([0], abs=1e-12)
    assert swapped.beyond(0)["largest"].tolist() == pytest.approx([4.0])


def test_an_auroc_that_is_undefined_in_one_only_differs_without_end_and_in_both_not():
    a, b = rows(), rows()
    a.loc[0, "auroc"] = b.loc[0, "auroc"] = np.nan
    assert compared([a], [b]).is_same
    b.loc[1, "auroc"] = np.nan
    found = compared([a], [b])
    (cell,) = found.beyond(50).itertuples()
    assert (cell.category, cell.size) == ("bottle", np.inf)
    assert np.isnan(cell.difference)
    assert found.tests["n"].tolist() == [1]  # screw alone
    nothing = compared([rows().assign(auroc=np.nan)], [rows()])
    assert nothing.tests.empty
    assert "10 different" in as_text(nothing)
    assert "inf" not in as_text(nothing)
    assert len(list(csv.DictReader(io.StringIO(as_csv(nothing))))) == 2


def test_other_columns_are_compared_too():
    found = compared([rows()], [rows(shrinkage=0.5)])
    assert "other columns that differ, rows: shrinkage in 10" in as_text(found)
    assert not found.is_same
    assert "No cell differs." in as_text(found)


def test_metrics_that_an_earlier_gaussad_did_not_have_do_not_differ():
    assert compared([rows()], [rows(ap=0.5, aupro=0.9)]).is_same
    found = compared([rows(ap=0.5, aupro=0.8)], [rows(ap=0.5, aupro=0.9)])
    assert "other columns that differ, rows: aupro in 10" in as_text(found)
    assert not found.is_same


def test_modes_and_variances_are_cells_of_their_own():
    parts = [
        rows(),
        rows(score="mahalanobis", mode="npca", var=0.01),
        rows(score="mahalanobis", mode="npca", var=0.001),
    ]
    found = compared(parts, parts)
    assert len(compare_cells(found.matched)) == 6


def test_folds_of_a_category_are_flipped_together():
    d = np.array([2.0, 1.0, -0.5, 3.0])
    names = ("a", "b", "c", "d")
    a = rows([(name, 0.5) for name in names])
    b = rows([(name, 0.5 + x / 100) for name, x in zip(names, d, strict=True)], FIVE[::-1])
    (test,) = compared([a], [b]).tests.itertuples()
    assert (test.n, test.category) == (4, MEAN)
    assert test.difference == pytest.approx(d.mean())
    assert test.sem == pytest.approx(d.std(ddof=1) / 2)
    assert test.p == pytest.approx(sign_flip_p(d))


def test_all_rows_compared_are_corrected_for():
    names = [f"c{i}" for i in range(6)]
    a = [rows([(name, 0.5) for name in names], level=level) for level in "123"]
    b = [rows([(name, 0.5 + 0.1 * (level == "1")) for name in names], level=level) for level in "123"]
    tests = compared(a, b).tests.set_index("level")
    assert tests["p"].tolist() == [2**-5, 1, 1]
    assert tests["p_holm"].tolist() == pytest.approx([3 * 2**-5, 1, 1])


# --- manifests ---


def test_manifests_are_compared_category_by_category_and_said_once():
    a = side("A", rows(), manifests=[manifest(engine="onnx", weights_sha256="c" * 64)])
    b = side("B", rows(key="k2"), manifests=[manifest("k2", n=9, numpy="2", engine="torch", weights_sha256="d" * 64)])
    found = compare_sides(a, b, ResultsFilter())
    assert {(c.what, c.a, c.b, c.categories) for c in found.changes} == {
        ("key", "k1", "k2", ("",)),
        ("engine", "onnx", "torch", ("",)),
        ("weights sha256", "c" * 64, "d" * 64, ("",)),
        ("train images", "8", "9", ("bottle", "screw")),
        ("train images, sha256", f"{8:064x}", f"{9:064x}", ("bottle", "screw")),
        ("evaluated by numpy", "1", "2", ("bottle", "screw")),
    }
    text = as_text(found)
    assert "weights sha256: cccccccccccc... | dddddddddddd..." in text
    assert "evaluated by numpy (bottle, screw): 1 | 2" in text
    assert not found.is_same


def test_without_a_manifest_on_one_side_that_is_said_and_nothing_made_up():
    found = compare_sides(side("A", rows()), side("B", rows(), manifests=[manifest(engine="onnx")]), ResultsFilter())
    assert found.changes == ()
    assert "net: the same (A without manifest: only weights, padding, key)" in as_text(found)


def test_what_only_one_manifest_says_is_a_change():
    (change,) = find_changes("net", {("engine", ""): "onnx"}, {})
    assert (change.a, change.b) == ("onnx", "")
