"""A comparison as text and as CSV."""

import csv
import io

import pytest

from gaussad_cli.compare.differences import EXACT
from gaussad_cli.compare.render import SHOWN, as_csv, as_text, small
from gaussad_cli.tables.cells import MEAN
from tests.compare.toy import compared, rows


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
