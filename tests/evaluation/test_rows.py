"""Rows of the results: who they are about, and rates and AUROCs as the definitions say."""

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import average_precision_score, roc_auc_score

from gaussad_cli.evaluation.calibration import ThresholdsWanted
from gaussad_cli.evaluation.category import OpenCategory
from gaussad_cli.evaluation.rows import LevelDistances, assemble, identify, sum_name
from gaussad_cli.evaluation.scorings import Scored, Scoring
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.compression import Compression

RECIPE = store.Recipe("net", 3, "net-1234", "a" * 64, "native", 32)
AUGMENTED = dataclasses.replace(RECIPE, epochs=100, augmentation="mvtec")
LABELS = ["good"] * 20 + ["scratch"] * 20
N_TRAIN, DIM = 23, 4  # 23 images: folds of 18 or 19
GAUSSIAN, NPCA, L2, OOD = (
    Scoring("mahalanobis"),
    Scoring("mahalanobis", Compression("npca", 0.01)),
    Scoring("l2"),
    Scoring("ood"),
)


def category(recipe=RECIPE, labels=LABELS):
    def manifest(split, of_split, labels):
        images = tuple(store.ImageEntry(f"{split}/{label}/{i}.png", label, "") for i, label in enumerate(labels))
        return store.Manifest("d", "knob", split, of_split, images, {})

    train, test = manifest("train", recipe, ["good"] * N_TRAIN), manifest("test", recipe.plain(), labels)
    return OpenCategory(store.Extraction("d", Path("cache"), recipe), "knob", train, test)


def distances(*chosen, seed=0):
    """Five folds' distances by each scoring; anomalous images lie farther out, beyond some of the five sigmas."""
    rng, m = np.random.default_rng(seed), len(LABELS)
    far = np.arange(m) >= m // 2
    drawn = {scoring: [Scored(rng.uniform(0, 4, m) + 3 * far, DIM, 0.1) for _ in range(5)] for scoring in chosen}
    return LevelDistances(drawn, {})


def several_levels(*chosen):
    return {level: distances(*chosen, seed=level) for level in (1, 2, 3)}


# --- who a row is about ---


@pytest.mark.parametrize(
    ("levels", "n_levels", "name"),
    [((1, 2, 3), 3, "sum"), ((1, 2), 3, "sum:1-2"), ((1, 2, 3), 9, "sum:1-3"), ((1, 3, 4, 7), 9, "sum:1,3-4,7")],
)
def test_only_the_sum_over_all_levels_of_a_backbone_is_the_papers(levels, n_levels, name):
    assert sum_name(levels, n_levels) == name


def test_rows_are_told_apart_by_the_extraction_they_came_of():
    assert identify(category(AUGMENTED)) == {
        "dataset": "d",
        "category": "knob",
        "backbone": "net",
        "weights": "net-1234",
        "padding": "native",
        "epochs": 100,
        "key": AUGMENTED.key,
    }


def test_a_reduced_precision_is_named_with_the_weights():
    assert identify(category(dataclasses.replace(RECIPE, precision="fp16")))["weights"] == "net-1234, fp16"


def test_there_is_a_row_per_level_scoring_and_fold():
    metrics = assemble(category(), several_levels(L2, NPCA)).metrics
    rows = metrics[["level", "score", "fold"]].itertuples(index=False, name=None)
    assert sorted(rows) == sorted(product(["1", "2", "3", "sum"], ["l2", "mahalanobis"], range(5)))


def test_rows_of_one_level_have_no_sum():
    assert set(assemble(category(), {2: distances(L2)}).metrics["level"]) == {"2"}


def test_rows_name_the_compression():
    metrics = assemble(category(), {1: distances(NPCA)}).metrics
    assert metrics[["score", "mode", "var"]].drop_duplicates().values.tolist() == [["mahalanobis", "npca", 0.01]]


@pytest.mark.parametrize(("recipe", "epochs"), [(RECIPE, 1), (AUGMENTED, 100)])
def test_training_features_are_counted_in_every_epoch(recipe, epochs):
    metrics = assemble(category(recipe), {1: distances(L2)}).metrics
    assert metrics["n_train"].tolist() == [18 * epochs] * 3 + [19 * epochs] * 2


# --- rates and AUROCs ---


@pytest.mark.parametrize("sigma", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("rate", "is_anomalous"), [("fpr", False), ("tpr", True)])
def test_rates_per_sigma_are_those_beyond_the_chi_square_quantile(sigma, rate, is_anomalous):
    scored = distances(GAUSSIAN)
    threshold = np.sqrt(stats.chi2.ppf(special.erf(sigma / np.sqrt(2)), DIM))
    of_class = np.array([label != "good" for label in LABELS]) == is_anomalous
    expected = [np.mean(fold.distance[of_class] > threshold) for fold in scored.tested[GAUSSIAN]]
    assert assemble(category(), {1: scored}).metrics[f"{rate}_{sigma}s"].tolist() == expected


def test_the_drawn_distances_lie_on_either_side_of_the_thresholds():
    metrics = assemble(category(), {1: distances(GAUSSIAN)}).metrics
    assert 0 < metrics["fpr_1s"].mean() < 1
    assert 0 < metrics["tpr_4s"].mean() < 1


def test_the_sum_over_levels_has_no_rates_as_the_law_does_not_speak_of_it():
    metrics = assemble(category(), several_levels(GAUSSIAN)).metrics
    assert metrics.groupby("level")["fpr_3s"].count().to_dict() == {"1": 5, "2": 5, "3": 5, "sum": 0}


def test_other_scores_have_no_rates():
    assert "fpr_3s" not in assemble(category(), {1: distances(L2)}).metrics


def test_the_auroc_is_scikit_learns():
    scored = distances(L2)
    anomalous = [label != "good" for label in LABELS]
    expected = [roc_auc_score(anomalous, fold.distance) for fold in scored.tested[L2]]
    np.testing.assert_allclose(assemble(category(), {1: scored}).metrics["auroc"], expected, rtol=1e-14)


def test_every_score_and_level_has_average_precision_f1_and_the_fpr_at_95_percent():
    metrics = assemble(category(), several_levels(L2, GAUSSIAN)).metrics
    assert metrics[["ap", "f1", "fpr_95tpr"]].notna().all(axis=None)


def test_the_average_precision_is_scikit_learns():
    scored = distances(L2)
    anomalous = [label != "good" for label in LABELS]
    expected = [average_precision_score(anomalous, fold.distance) for fold in scored.tested[L2]]
    np.testing.assert_allclose(assemble(category(), {1: scored}).metrics["ap"], expected, rtol=1e-14)


def test_the_sum_over_levels_is_their_mean_distance():
    by_level = several_levels(L2)
    scores = assemble(category(), by_level).scores
    expected = np.mean([of_level.tested[L2][3].distance for of_level in by_level.values()], axis=0)
    np.testing.assert_allclose(scores.loc[scores["level"] == "sum", "fold_3"], expected, rtol=1e-15)


def test_lee_et_al_have_a_row_for_all_levels_together_only():
    assert set(assemble(category(), several_levels(OOD)).metrics["level"]) == {"sum"}


def test_the_auroc_of_lee_et_al_is_over_the_images_that_were_not_learnt_from():
    rows = assemble(category(), several_levels(OOD))
    tested = rows.scores[rows.scores["fold_2"].notna()]
    assert len(tested) == 40 - 2 - 2  # a tenth of each class is learnt from
    assert rows.metrics["auroc"][2] == pytest.approx(roc_auc_score(tested["anomalous"], tested["fold_2"]), rel=1e-14)


def test_a_score_that_is_undefined_has_no_auroc():
    scored = distances(L2)
    scored.tested[L2][1].distance[0] = np.nan
    assert assemble(category(), {1: scored}).metrics["auroc"].isna().tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["scratch"] * 40, "AUROC is undefined for 'knob': no normal test image"),
        (["good"] * 40, "AUROC is undefined for 'knob': no anomalous test image"),
    ],
)
def test_an_undefined_auroc_says_why(labels, problem):
    assert assemble(category(labels=labels), {1: distances(L2)}).warning.startswith(problem)


@pytest.mark.parametrize("label", ["scratch", "good"])
def test_with_one_class_only_the_auroc_is_unknown(label):
    assert assemble(category(labels=[label] * 40), {1: distances(L2)}).metrics["auroc"].isna().all()


def test_with_both_classes_there_is_nothing_to_warn_of():
    assert assemble(category(), {1: distances(L2)}).warning is None


@pytest.mark.parametrize(("scoring", "warns"), [(GAUSSIAN, True), (Scoring("gmm"), True), (Scoring("sed"), False)])
def test_a_score_that_fails_for_training_images_all_alike_warns_of_them(scoring, warns):
    """SED also fails where one feature has no variance, as the paper says."""
    scored = distances(scoring)
    scored.tested[scoring][1].distance[0] = np.nan
    warning = assemble(category(), {1: scored}).warning
    assert (warning is not None and "'knob' (level 1): the training images of a fold are all alike" in warning) == warns


# --- scores and thresholds ---


def test_every_test_image_has_its_distances_and_their_mean_over_folds():
    scored = distances(L2)
    scores = assemble(category(), {1: scored}).scores
    by_fold = np.stack([fold.distance for fold in scored.tested[L2]])
    np.testing.assert_array_equal(scores[[f"fold_{fold}" for fold in range(5)]].to_numpy(), by_fold.T)
    np.testing.assert_allclose(scores["distance"], by_fold.mean(axis=0), rtol=1e-15)


def test_every_test_image_is_named_and_labelled():
    scores = assemble(category(), {1: distances(L2)}).scores
    assert scores.loc[20, ["image", "label", "anomalous"]].tolist() == ["test/scratch/20.png", "scratch", 1]


def test_without_thresholds_wanted_there_are_none():
    assert assemble(category(), {1: distances(L2)}).thresholds is None


def test_only_scorings_with_held_out_distances_get_thresholds():
    tested = distances(L2, GAUSSIAN).tested
    scored = LevelDistances(tested, {GAUSSIAN: tested[GAUSSIAN]})
    thresholds = assemble(category(), {1: scored}, ThresholdsWanted(("conformal",), (0.1,))).thresholds
    assert thresholds["score"].tolist() == ["mahalanobis"] * 5


def test_the_chi_square_threshold_is_the_laws_quantile():
    tested = distances(GAUSSIAN).tested
    wanted = ThresholdsWanted(("chi2",), (0.1,))
    thresholds = assemble(category(), {1: LevelDistances(tested, tested)}, wanted).thresholds
    assert thresholds["threshold"].tolist() == pytest.approx([np.sqrt(stats.chi2.ppf(0.9, DIM))] * 5, rel=1e-12)
