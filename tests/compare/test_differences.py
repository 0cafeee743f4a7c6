"""Two results folders: rows are matched by what was measured, and tested by flipping categories."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gaussad_cli.compare.differences import compare_cells, compare_sides, find_changes
from gaussad_cli.compare.render import SHOWN, as_csv, as_text, small
from gaussad_cli.compare.sides import ResultsFilter, Side
from gaussad_cli.compare.significance import EXACT, sign_flip_p
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.manifests import Cell, Images, Origin, Record, ResultsManifest
from gaussad_cli.tables.cells import MEAN

FIVE = np.array([0.01, -0.02, 0.0, 0.02, -0.01])


def rows(auroc=(("bottle", 0.9), ("screw", 0.4)), folds=FIVE, **columns):
    """Five folds per category of one scoring."""
    key = {"dataset": "d", "backbone": "net", "weights": "w", "padding": "tf", "epochs": 0.0, "key": "k1"}
    key |= {"level": "1", "score": "l2", "mode": "all", "var": np.nan, "n_train": 8, "dim": 4, "shrinkage": np.nan}
    key |= {f"{rate}_{sigma}s": np.nan for sigma in range(1, 6) for rate in ("fpr", "tpr")}
    return pd.DataFrame(
        {**key, "category": category, "fold": fold, "auroc": mean + off} | columns
        for category, mean in auroc
        for fold, off in enumerate(folds)
    )


def side(name, *parts, manifests=()):
    metrics = pd.concat(parts, ignore_index=True)
    return Side(name, Path(name), "d", metrics, {(one.backbone, one.key): one for one in manifests})


def compared(a, b, **choice):
    return compare_sides(side("A", *a), side("B", *b), ResultsFilter(**choice))


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


# --- variants ---


def test_the_variant_that_is_in_both_is_compared():
    tf, paper = rows(), rows(padding="paper", key="k2")
    found = compared([tf, paper], [paper])
    assert [(p.a.key, p.b.key) for p in found.pairs] == [("k2", "k2")]
    assert (len(found.only_a), len(found.only_b)) == (10, 0)
    renamed = compared([tf, paper], [rows(padding="paper", key="k2", weights="same file")])
    assert [(p.a.key, p.b.key) for p in renamed.pairs] == [("k2", "k2")]


def test_of_several_variants_that_are_in_neither_one_must_be_chosen():
    a, b = [rows(), rows(key="k2")], [rows(key="m1"), rows(key="m2")]
    with pytest.raises(UserError, match="several variants") as error:
        compared(a, b)
    for part in ("net", "key k1", "key k2", "key m1", "key m2", "--key-a and --key-b"):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"--key-b KEY\.$"):
        compared(a, b, key_a="k2")
    found = compared(a, b, key_a="k2", key_b="m1")
    assert [(p.a.key, p.b.key) for p in found.pairs] == [("k2", "m1")]
    with pytest.raises(UserError, match="no key that begins with 'x'"):
        compared(a, b, key_a="x")


def test_two_variants_of_one_folder_are_compared_by_their_keys_and_other_networks_stay():
    mine = [rows(), rows((("bottle", 0.8), ("screw", 0.4)), key="k2"), rows(backbone="other", key="o")]
    found = compared(mine, mine, key_a="k1", key_b="k2")
    assert [(p.network, p.a.key, p.b.key) for p in found.pairs] == [("net", "k1", "k2"), ("other", "o", "o")]
    assert found.beyond(0)["difference"].tolist() == pytest.approx([-10])


def test_trained_networks_of_one_backbone_are_told_apart_by_their_score():
    a = [rows(epochs=np.nan, score=score, key=f"a-{score}") for score in ("cca", "classifier")]
    b = [rows(epochs=np.nan, score=score, key=f"b-{score}") for score in ("cca", "classifier")]
    found = compared(a, b)
    assert [(p.network, p.a.key, p.b.key) for p in found.pairs] == [
        ("net, cca", "a-cca", "b-cca"),
        ("net, classifier", "a-classifier", "b-classifier"),
    ]


def test_only_wanted_backbones_and_scores_are_compared():
    mine = [rows(), rows(score="sed"), rows(backbone="other")]
    found = compared(mine, mine, backbones=["net"], scores=["sed"])
    assert (set(found.matched["network"]), set(found.matched["score"])) == ({"net"}, {"sed"})
    assert (len(found.only_a), len(found.only_b)) == (0, 0)
    with pytest.raises(UserError, match=r"--score sedd is in neither folder\. Did you mean sed\?"):
        compared(mine, mine, scores=["sedd"])
    with pytest.raises(UserError, match=r"nothing was measured in both: A holds net .* B holds other "):
        compared([rows()], [rows(backbone="other")])


def test_a_row_that_is_there_twice_is_a_users_error():
    with pytest.raises(UserError, match="the same row of net twice"):
        compared([rows(), rows()], [rows()])


# --- tests ---


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


def test_few_categories_are_said_to_show_nothing_and_enough_are_not():
    few = as_text(compared([rows()], [rows((("bottle", 0.8), ("screw", 0.3)))]))
    assert "With 2 categories, p is at least 0.5" in few
    assert "flipped together" in few
    names = [f"c{i}" for i in range(8)]
    enough = as_text(compared([rows([(n, 0.5) for n in names])], [rows([(n, 0.6) for n in names])]))
    assert "p is at least" not in enough
    assert "drawn" not in enough
    many = [f"c{i}" for i in range(EXACT + 1)]
    assert "drawn" in as_text(compared([rows([(n, 0.5) for n in many])], [rows([(n, 0.6) for n in many])]))


# --- manifests ---


def manifest(key="k1", n=8, numpy="1", **recipe):
    images = {"train": Images(n, f"{n:064x}", {}), "test": Images(6, "b" * 64, {})}
    record = Record(Origin(images, {"numpy": numpy}), (Cell("l2", "all", None, "1"),))
    return ResultsManifest(
        "d", "net", key, {"weights": "label", **recipe}, {"n": 5}, {"bottle": (record,), "screw": (record,)}
    )


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


# --- output ---


def test_text_shows_so_many_cells_and_csv_all():
    names = [f"c{i}" for i in range(SHOWN + 7)]
    found = compared([rows([(n, 0.5) for n in names])], [rows([(n, 0.6) for n in names])])
    text = as_text(found)
    assert "and 7 more" in text
    assert (f" {names[SHOWN - 1]} " in text, f" {names[SHOWN]} " in text) == (True, False)
    read = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [row["category"] for row in read] == [*names, MEAN]
    assert float(read[0]["difference"]) == pytest.approx(10)
    assert (read[0]["n"], read[-1]["n"]) == ("", str(SHOWN + 7))
    assert float(read[-1]["p_holm"]) == found.tests["p_holm"].iloc[0]


def test_points_are_as_precise_as_they_need_be():
    assert [small(x) for x in (12.345, -0.5, 0.0123, 1e-15, 0.0)] == ["12.35", "-0.50", "0.012", "0", "0"]


def test_modes_and_variances_are_cells_of_their_own():
    parts = [
        rows(),
        rows(score="mahalanobis", mode="npca", var=0.01),
        rows(score="mahalanobis", mode="npca", var=0.001),
    ]
    found = compared(parts, parts)
    assert len(compare_cells(found.matched)) == 6
