"""All categories of an extraction: numbers as the protocol says, and no category kept back by another."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import evaluate as evaluate_module
from gaussad_cli.evaluation.calibration import ThresholdsWanted
from gaussad_cli.evaluation.evaluate import (
    evaluate_category,
    evaluate_dataset,
    fit_and_forget,
    fit_dataset,
    score_level,
)
from gaussad_cli.evaluation.fitting import level_spectra
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS, Scoring
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.compression import Compression
from tests import reference
from tests.evaluation.test_category import LABELS, N_TRAIN, opened, write_category

RECIPE = store.Recipe("net", 2, "net-1234", "a" * 64, "native", 32)
AUGMENTED = dataclasses.replace(RECIPE, epochs=2, augmentation="mvtec", seed=7)
GAUSSIAN, NPCA, L2, OOD = (
    Scoring("mahalanobis"),
    Scoring("mahalanobis", Compression("npca", 0.01)),
    Scoring("l2"),
    Scoring("ood"),
)
WANTED = ThresholdsWanted(("conformal",), (0.2,))
FOLDS = list(KFold(5, shuffle=True, random_state=0).split(np.empty(N_TRAIN)))


@pytest.fixture
def cache(tmp_path):
    """Two categories of two levels."""
    for seed, name in enumerate(("knob", "lid")):
        write_category(tmp_path / "cache", name, RECIPE, seed=seed)
    return tmp_path / "cache"


def evaluate(cache, *scorings, wanted=None, **options):
    return evaluate_dataset(Selection("net", cache, **options), scorings or (L2,), cache.parent / "results", wanted)


def folder(cache, name, split="train"):
    return store.split_folder(cache, "d", RECIPE, name, split)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-3])


# --- the numbers ---


def test_every_auroc_is_that_of_the_protocol(tmp_path):
    drawn = write_category(tmp_path / "cache", recipe=RECIPE)
    anomalous = np.array([label != "good" for label in LABELS])
    expected = reference.protocol(drawn["train"], drawn["test"], anomalous)
    metrics = evaluate(tmp_path / "cache", *PAPER_SCORINGS).metrics
    var = metrics["var"].astype(object).where(metrics["var"].notna(), None)
    levels = [level if level == "sum" else int(level) for level in metrics["level"]]
    keys = zip(levels, metrics["score"], metrics["mode"], var, metrics["fold"], strict=True)
    measured = dict(zip(keys, metrics["auroc"], strict=True))
    assert measured == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("fold", range(5))
def test_held_out_distances_are_of_a_gaussian_that_has_not_seen_the_image(tmp_path, fold):
    drawn = write_category(tmp_path, recipe=RECIPE)
    category, train = opened(tmp_path, RECIPE), drawn["train"][1].astype(float)
    spectra, _ = level_spectra(category.folder, category.train, 1)
    scored = score_level(category, 1, spectra, [GAUSSIAN], WANTED)
    fitted, held_out = FOLDS[fold]
    expected, _, _ = reference.mahalanobis(train[fitted], train[held_out])
    np.testing.assert_allclose(scored.held_out[GAUSSIAN][fold].distance, expected, rtol=1e-9)


@pytest.mark.parametrize("fold", range(5))
def test_held_out_images_are_scored_as_they_are_by_a_gaussian_that_has_seen_no_epoch_of_them(tmp_path, fold):
    drawn = write_category(tmp_path, recipe=AUGMENTED)
    category = opened(tmp_path, AUGMENTED)
    augmented, plain = (drawn[split][1].astype(float) for split in ("augmented", "train"))
    spectra, _ = level_spectra(category.folder, category.train, 1)
    scored = score_level(category, 1, spectra, [GAUSSIAN], WANTED)
    fitted, held_out = FOLDS[fold]
    expected, _, _ = reference.mahalanobis(augmented[fitted].reshape(-1, plain.shape[1]), plain[held_out])
    np.testing.assert_allclose(scored.held_out[GAUSSIAN][fold].distance, expected, rtol=1e-9)


def test_one_category_in_this_process_gives_the_rows_of_the_whole_data_set(cache):
    whole = evaluate(cache, L2, GAUSSIAN).metrics
    alone = evaluate_category(opened(cache, RECIPE, "lid"), (1, 2), [L2, GAUSSIAN]).metrics
    pd.testing.assert_frame_equal(whole[whole["category"] == "lid"].reset_index(drop=True), alone)


# --- thresholds ---


def test_without_thresholds_wanted_nothing_held_out_is_scored(cache):
    category = opened(cache, RECIPE)
    spectra, _ = level_spectra(category.folder, category.train, 1)
    assert score_level(category, 1, spectra, [L2]).held_out == {}


def test_without_thresholds_wanted_there_are_none(cache):
    assert evaluate(cache, L2, GAUSSIAN).thresholds is None


@pytest.mark.parametrize(
    ("scorings", "modes"),
    [(None, {"all", "npca"}), ((NPCA,), {"npca"}), ((GAUSSIAN, Scoring("sed")), {"all"})],
    ids=["every scoring", "one", "one that is not evaluated"],
)
def test_only_the_scorings_they_are_wanted_for_get_thresholds(cache, scorings, modes):
    report = evaluate(cache, GAUSSIAN, NPCA, wanted=dataclasses.replace(WANTED, scorings=scorings))
    assert set(report.thresholds["mode"]) == modes


def test_thresholds_that_are_wanted_for_one_scoring_change_no_row_of_the_others(cache):
    without = evaluate(cache, L2, GAUSSIAN).metrics
    wanted = dataclasses.replace(WANTED, scorings=(GAUSSIAN,))
    pd.testing.assert_frame_equal(evaluate(cache, L2, GAUSSIAN, wanted=wanted).metrics, without)


# --- what goes wrong in one category ---


@pytest.mark.parametrize(
    ("split", "file"),
    [("train", "level_1.npy"), ("test", "level_2.npy"), ("train", "manifest.json"), ("test", "manifest.json")],
)
def test_a_damaged_category_does_not_keep_the_others_back(cache, split, file):
    cut_short(folder(cache, "knob", split) / file)
    assert set(evaluate(cache).metrics["category"]) == {"lid"}


@pytest.mark.parametrize("file", ["level_1.npy", "manifest.json"])
def test_a_damaged_category_is_reported(cache, file):
    cut_short(folder(cache, "knob") / file)
    assert str(folder(cache, "knob") / file) in evaluate(cache).problem


def test_where_every_category_is_damaged_the_evaluation_fails(cache):
    for name in ("knob", "lid"):
        cut_short(folder(cache, name, "test") / "level_1.npy")
    with pytest.raises(UserError, match=r"knob.*lid"):
        evaluate(cache)


def test_where_nothing_goes_wrong_there_is_no_problem(cache):
    assert evaluate(cache).problem is None


def test_a_category_without_the_wanted_levels_does_not_keep_the_others_back(cache):
    write_category(cache, "bolt", RECIPE, levels=(1,))
    report = evaluate(cache, levels="2")
    assert set(report.metrics["category"]) == {"knob", "lid"}
    assert "'bolt' has levels 1" in report.problem


def test_of_many_problems_the_first_three_are_told_and_the_others_counted(cache):
    for name in ("bolt", "cap", "nut"):
        write_category(cache, name, RECIPE)
    for name in ("bolt", "cap", "nut", "knob"):
        cut_short(folder(cache, name, "test") / "level_1.npy")
    problem = evaluate(cache).problem
    assert [name for name in ("bolt", "cap", "knob", "nut") if str(folder(cache, name, "test")) in problem] == [
        "bolt",
        "cap",
        "knob",
    ]
    assert problem.endswith("And 1 more problems.")


def test_lee_et_al_need_several_levels(cache):
    with pytest.raises(UserError, match="--score ood weighs levels, but 'knob' has only level 1"):
        evaluate(cache, OOD, levels="1")


def test_lee_et_al_have_no_thresholds_as_they_learn_from_anomalies(cache):
    with pytest.raises(UserError, match="--threshold does not go with --score ood"):
        evaluate(cache, OOD, wanted=WANTED)


def test_lee_et_al_go_with_thresholds_that_are_wanted_for_another_scoring(cache):
    wanted = dataclasses.replace(WANTED, scorings=(GAUSSIAN,))
    assert evaluate(cache, OOD, GAUSSIAN, wanted=wanted).problem is None


# --- what is fitted is kept ---


def test_a_second_fit_finds_all_that_the_first_has_fitted(cache):
    reports = [fit_dataset(Selection("net", cache)) for _ in range(2)]
    assert [(report.fitted, report.already_there) for report in reports] == [(4, 0), (0, 4)]


def test_what_an_evaluation_fits_is_there_for_the_next(cache):
    evaluate(cache)
    assert fit_dataset(Selection("net", cache)).already_there == 4


def test_a_cache_that_cannot_be_written_is_evaluated_all_the_same(cache, monkeypatch):
    def refuse(*_):
        raise UserError("cannot write")

    monkeypatch.setattr(evaluate_module, "store_spectra", refuse)
    assert evaluate(cache).problem is None


def test_forgotten_features_give_the_same_rows(cache):
    before = evaluate(cache, L2, GAUSSIAN).metrics
    fit_and_forget(folder(cache, "knob").parent)
    assert not list(folder(cache, "knob").glob("*.npy"))
    pd.testing.assert_frame_equal(evaluate(cache, L2, GAUSSIAN).metrics, before)
