from dataclasses import replace

import pytest

from gaussad_cli.errors import UserError
from gaussad_cli.tables.cells import CellSource, Column, Table, TableCell, Variant
from gaussad_cli.tables.check import Tolerance, check_against_paper, read_tolerances
from gaussad_cli.tables.published import MVTEC_CATEGORIES

SOURCE = CellSource(Variant("efficientnet-b4", "w", "paper", "k"), "mahalanobis", "all")
TOLERANCES = {("auroc", "default"): Tolerance(0.5, 1.0), ("auroc", 8): Tolerance(0.0, 3.0)}


def table(*cells, number=1):
    return Table(
        number,
        "t",
        (Column("Mahalanobis", SOURCE),),
        tuple(f"r{i}" for i, _ in enumerate(cells)),
        tuple((c,) for c in cells),
    )


def cell(mean, paper, sem=None, categories=MVTEC_CATEGORIES, category="mean"):
    return TableCell("7", "auroc", None, category, SOURCE, mean, None, tuple(categories), (), paper, sem)


def test_a_cell_is_too_far_beyond_its_tolerance_and_not_at_it():
    verdict = check_against_paper([table(cell(91.0, 90.0), cell(88.9, 90.0), cell(93.0, 90.0, 6.0))], TOLERANCES)
    assert verdict.checked == 3
    assert [failure.row for failure in verdict.failures] == ["r1"]
    assert "Table I, r1, Mahalanobis, efficientnet-b4 (w, padding paper): measured 88.9, paper 90.0, " in str(verdict)
    assert "difference -1.1, tolerance 1.0" in str(verdict)


def test_means_over_other_categories_are_counted_and_never_passed():
    verdict = check_against_paper([table(cell(90.0, 90.0, categories=["bottle"]), cell(50.0, None))], TOLERANCES)
    assert (verdict.checked, verdict.unequal) == (0, 1)
    assert "fewer categories" in str(verdict)


@pytest.mark.parametrize(("epochs", "checked"), [(0, 1), (20, 0), (100, 1)])
def test_cells_of_other_epochs_than_the_papers_are_counted_and_never_passed(epochs, checked):
    other = replace(cell(50.0, 90.0), source=replace(SOURCE, epochs=epochs))
    verdict = check_against_paper([table(other, number=4)], TOLERANCES)
    assert (verdict.checked, verdict.unequal) == (checked, 1 - checked)


def test_cells_of_one_category_are_compared_by_their_tables_own_tolerance():
    one = [cell(92.0, 90.0, categories=["bottle"], category="bottle")]
    assert check_against_paper([table(*one, number=8)], TOLERANCES).failures == ()
    assert len(check_against_paper([table(*one)], TOLERANCES).failures) == 1


def test_gaussads_own_file_has_a_tolerance_for_every_quantity(tmp_path):
    own = read_tolerances()
    assert {quantity for quantity, table in own if table == "default"} == {"auroc", "fpr", "tpr", "dim"}
    (tmp_path / "t.yaml").write_text("auroc: {8: {at_least: 9}}")
    mine = read_tolerances(tmp_path / "t.yaml")
    assert mine["auroc", 8] == Tolerance(0.0, 9.0)
    assert mine["auroc", "default"] == own["auroc", "default"]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("aurok: {}", "Did you mean auroc?"),
        ("auroc: {9: {}}", "unknown key '9'"),
        ("auroc: {default: {sems: 1}}", "Did you mean sem?"),
        ("auroc: {default: {sem: many}}", "'sem: many' should be a valid number"),
        ("auroc: {default: {sem: -1}}", "'sem: -1' should be greater than or equal to 0"),
        ("auroc: {default: {}}", "'default: {}' should not be empty"),
        ("auroc: {true: {sem: 1}}", "unknown key 'True'"),
        ("auroc: {5.0: {sem: 1}}", "unknown key '5.0'"),
        ("auroc: {8: 3}", "'8: 3' should have lines"),
        ("auroc: {8: {sem: .inf}}", "'sem: inf' should be a finite number"),
        ("auroc: 3", "should have lines"),
        ("- 3", "should have lines"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_an_error(tmp_path, text, fragment):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_tolerances(path)
    assert fragment in str(caught.value)
    assert "t.yaml" in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        read_tolerances(tmp_path / "nowhere.yaml")
