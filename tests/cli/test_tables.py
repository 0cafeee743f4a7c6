"""`gaussad tables`: formats, and the check against the paper."""

from pathlib import Path

import pandas as pd
import pytest

from gaussad_cli.evaluation.results import METRICS
from gaussad_cli.tables.published import MVTEC_CATEGORIES
from tests.conftest import assert_user_error

PAPER = 0.445  # Table I, EfficientNet-B4, level 1, L2: 44.5


def write_metrics(auroc, categories=MVTEC_CATEGORIES):
    rows = [
        {
            "dataset": "d",
            "category": name,
            "backbone": "efficientnet-b4",
            "weights": "w",
            "padding": "paper",
            "epochs": 0,
        }
        | {
            "key": "k",
            "level": "1",
            "score": "l2",
            "mode": "all",
            "fold": fold,
            "n_train": 9,
            "dim": 48,
            "auroc": auroc,
        }
        for name in categories
        for fold in range(5)
    ]
    Path("results/d").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).reindex(columns=METRICS).to_csv("results/d/metrics.csv", index=False)


@pytest.mark.parametrize(("auroc", "code"), [(PAPER, 0), (PAPER + 0.02, 0), (PAPER + 0.03, 3), (PAPER - 0.03, 3)])
def test_a_check_fails_beyond_half_a_published_sem(gaussad, auroc, code):
    write_metrics(auroc)  # the SEM is 4.8 points
    done = gaussad("tables", "--check")
    assert done.code == code, done
    assert ("Table I, 1, L2, efficientnet-b4 (w, padding paper): measured" in done.out) == (code == 3)
    assert "1 cells checked" in done.out


def test_a_check_of_fewer_categories_checks_nothing_and_says_so(gaussad):
    write_metrics(PAPER, ["bottle"])
    done = gaussad("tables", "--check")
    assert_user_error(done, "no cell could be checked")
    assert "1 cells not checked" in done.out


def test_tolerances_can_be_others_and_go_with_a_check(gaussad):
    write_metrics(PAPER + 0.03)
    Path("t.yaml").write_text("auroc: {1: {at_least: 5}}\n")
    assert gaussad("tables", "--check", "--tolerances", "t.yaml").code == 0
    assert_user_error(gaussad("tables", "--tolerances", "t.yaml"), "--check")


@pytest.mark.parametrize(
    ("style", "part"),
    [
        ("text", "44.5 ±0.0"),
        ("markdown", "| 44.5"),
        ("latex", r"\toprule"),
        ("html", "<table"),
        ("csv", "1,efficientnet"),
    ],
)
def test_every_format_is_printed_and_written(gaussad, style, part):
    write_metrics(PAPER)
    done = gaussad("tables", "--format", style)
    assert done.code == 0, done.err
    assert part in done.out
    assert "\x1b" not in done.out  # stdout is no terminal
    assert len(list(Path("results/d/tables").iterdir())) == 5


@pytest.mark.parametrize(
    ("variable", "value", "code"), [("TERM", "xterm", "\x1b[32m"), ("NO_COLOR", "1", "\x1b[1m"), ("TERM", "dumb", "")]
)
def test_a_terminal_has_colours_unless_it_asks_for_none(gaussad, monkeypatch, variable, value, code):
    write_metrics(PAPER)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    done = gaussad("tables")
    assert done.code == 0, done.err
    assert "measured" in done.out
    assert code in done.out
    assert ("\x1b[32m" in done.out, "\x1b" in done.out) == (value == "xterm", value != "dumb")
    assert "\x1b" not in Path("results/d/tables/table_1.txt").read_text("utf-8")
