"""Thresholds and the rates they achieve: read off the distances as the definitions say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.calibration import (
    ALL_CATEGORIES,
    ALL_FOLDS,
    METHODS,
    ThresholdsWanted,
    calibrate,
    choose_methods,
    exchangeability,
    mean_gaps,
    parse_targets,
    per_category,
)
from gaussad_cli.evaluation.metrics import binomial_interval
from gaussad_cli.evaluation.scorings import Scored

ANOMALOUS = np.repeat([False, True], [40, 10])
TARGETS = (0.2, 0.05)


def folds(seed=0, dim=9, n_held_out=30, apart=0.0):
    rng = np.random.default_rng(seed)
    test = [np.sqrt(rng.chisquare(dim, 50) + apart + 100 * ANOMALOUS) for _ in range(5)]
    held_out = [np.sqrt(rng.chisquare(dim, n_held_out)) for _ in range(5)]
    return [Scored(d, dim, 0.1) for d in test], [Scored(d, dim, 0.1) for d in held_out]


def frame(rows, **identity):
    key = {"category": "knob", "scoring": "mahalanobis", "level": "7", **identity}
    return pd.DataFrame([{**key, **row} for row in rows])


def test_every_method_flags_what_lies_beyond_its_threshold():
    test, held_out = folds()
    rows = frame(calibrate(ThresholdsWanted(METHODS, TARGETS), test, held_out, ANOMALOUS, is_gaussian=True))
    assert len(rows) == 4 * 5 * 2 + 2
    for row in rows[rows["method"] != "cross-conformal"].itertuples():
        distance = test[row.fold].distance
        assert row.fpr == np.mean(distance[:40] > row.threshold)
        assert row.tpr == np.mean(distance[40:] > row.threshold)
        assert row.n_held_out == (0 if row.method == "chi2" else 30)
    (whole,) = rows.loc[(rows["method"] == "cross-conformal") & (rows["target"] == 0.2)].to_dict("records")
    beyond = sum((h.distance[:, None] >= t.distance).sum(axis=0) for t, h in zip(test, held_out, strict=True))
    flagged = (beyond + 1) / 151 <= 0.2
    assert (whole["fold"], whole["n_held_out"]) == (ALL_FOLDS, 150)
    assert (whole["fpr"], whole["tpr"]) == (flagged[:40].mean(), flagged[40:].mean())


def test_the_chi_square_law_says_nothing_of_other_scores():
    test, held_out = folds()
    rows = calibrate(ThresholdsWanted(METHODS, TARGETS), test, held_out, ANOMALOUS, is_gaussian=False)
    assert "chi2" not in {row["method"] for row in rows}


def test_an_undefined_score_has_no_thresholds():
    test, held_out = folds()
    test[2].distance[0] = np.nan
    assert calibrate(ThresholdsWanted(METHODS, TARGETS), test, held_out, ANOMALOUS, is_gaussian=True) == []


def test_without_normal_test_images_rates_are_unknown_and_the_interval_is_everything():
    test, held_out = folds()
    (row, *_) = calibrate(
        ThresholdsWanted(("conformal",), TARGETS), test, held_out, np.ones(50, dtype=bool), is_gaussian=True
    )
    assert np.isnan(row["fpr"])
    assert (row["fpr_low"], row["fpr_high"]) == (0.0, 1.0)
    assert np.isnan(row["drift"])


@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 20), (41, 41)])
def test_the_interval_is_clopper_and_pearsons(k, n):
    low, high = binomial_interval(k, n)
    assert low == pytest.approx(0.0 if k == 0 else stats.beta.ppf(0.025, k, n - k + 1))
    assert high == pytest.approx(1.0 if k == n else stats.beta.ppf(0.975, k + 1, n - k))


def test_images_that_are_alike_seldom_seem_to_drift_and_others_do():
    alike = [exchangeability(*drawn(seed)) for seed in range(300)]
    assert np.mean([p < 0.05 for _, p in alike]) <= 0.05
    assert np.mean([drift for drift, _ in alike]) == pytest.approx(0.5, abs=0.02)
    drift, p = exchangeability(*drawn(0, apart=6.0))
    assert drift > 0.7
    assert p < 1e-3


def drawn(seed, apart=0.0):
    test, held_out = folds(seed, apart=apart)
    return [fold.distance[:40] for fold in test], [fold.distance for fold in held_out]


def test_categories_are_followed_by_all_of_them_together_weighted_by_their_images():
    test, held_out = folds(1)
    fewer = [Scored(fold.distance[20:], fold.dim, None) for fold in test]  # 20 normal images, not 40
    some = calibrate(ThresholdsWanted(("conformal",), (0.2,)), test, held_out, ANOMALOUS, is_gaussian=True)
    others = calibrate(ThresholdsWanted(("conformal",), (0.2,)), fewer, held_out, ANOMALOUS[20:], is_gaussian=True)
    table = per_category(pd.concat([frame(some), frame(others, category="lid")])).set_index("category")
    knob, lid, together = (table.loc[name] for name in ("knob", "lid", ALL_CATEGORIES))
    assert (knob["n_normal"], lid["n_normal"], together["n_normal"]) == (40, 20, 60)
    assert together["fpr"] == pytest.approx((2 * knob["fpr"] + lid["fpr"]) / 3)
    assert together["fpr_low"] <= together["fpr"] <= together["fpr_high"]
    assert per_category(frame(some))["category"].tolist() == ["knob"]


def test_gaps_are_between_the_mean_rate_of_the_folds_and_the_wanted_one():
    test, held_out = folds()
    rows = frame(calibrate(ThresholdsWanted(("empirical",), TARGETS), test, held_out, ANOMALOUS, is_gaussian=True))
    rates = [rows.loc[rows["target"] == target, "fpr"].mean() for target in TARGETS]
    expected = 100 * np.mean(np.abs(np.subtract(rates, TARGETS)))
    assert mean_gaps(rows).loc[("mahalanobis", "7"), "empirical"] == pytest.approx(expected)


def test_methods_and_rates_are_read_from_the_options():
    assert choose_methods(["all"]) == METHODS
    assert choose_methods(["conformal", "chi2"]) == ("chi2", "conformal")
    with pytest.raises(UserError, match=r"unknown --threshold 'conformall'\. Did you mean conformal\?"):
        choose_methods(["conformall"])
    assert parse_targets("0.1, 0.05") == (0.1, 0.05)
    for text in ("1", "0", "x", "", "nan", "0.1,,0.2"):
        with pytest.raises(UserError, match="--fpr"):
            parse_targets(text)
