"""Comparators on cached features through the command line, on real images, against scikit-learn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

from gaussad_cli.evaluation.results import read_metrics
from tests.cli.test_main_job import link
from tests.conftest import assert_user_error

LITE0 = ("--backbone", "efficientnet-lite0")


@pytest.fixture
def features(extract_once, mvtec, tmp_path):
    """Level 7 and 6 of every fourth image of a real category: {level: (train, test)}."""
    data = link(mvtec, tmp_path / "data", "bottle", every=4)
    folder = extract_once(data, *LITE0, "--levels", "6,7") / "bottle"
    return {
        level: tuple(np.load(folder / split / f"level_{level}.npy").astype(float) for split in ("train", "test"))
        for level in (6, 7)
    }


def evaluated(gaussad, *options):
    done = gaussad("evaluate", *LITE0, *options)
    assert done.code == 0, done.err
    return pd.read_csv("results/data/scores/bottle.csv", dtype={"level": str})


def folds(train):
    return [train[fitted] for fitted, _ in KFold(5, shuffle=True, random_state=0).split(train)]


def test_nearest_neighbours_are_scikit_learns(gaussad, features):
    scores = evaluated(gaussad, "--score", "knn", "--k", 5)
    assert set(scores["mode"]) == {"k5"}
    for level, (train, test) in features.items():
        rows = scores[scores["level"] == str(level)]
        for fold, fitted in enumerate(folds(train)):
            distances, _ = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(fitted).kneighbors(test)
            np.testing.assert_allclose(rows[f"fold_{fold}"], np.sqrt(np.square(distances).mean(axis=1)), rtol=1e-6)


def test_the_one_class_svm_is_scikit_learns_and_its_sum_the_mean_over_levels(gaussad, features):
    scores = evaluated(gaussad, "--score", "ocsvm")
    expected = {}
    for level, (train, test) in features.items():
        expected[str(level)] = [-OneClassSVM(tol=1e-9).fit(fitted).decision_function(test) for fitted in folds(train)]
    expected["sum:6-7"] = [np.mean(pair, axis=0) for pair in zip(expected["6"], expected["7"], strict=True)]
    for level, of_folds in expected.items():
        rows = scores[scores["level"] == level]
        for fold, values in enumerate(of_folds):
            np.testing.assert_allclose(rows[f"fold_{fold}"], values, atol=1e-6 * np.ptp(values))


def test_a_mixture_of_one_gaussian_is_the_mahalanobis_distance(gaussad, features):
    evaluated(gaussad, "--score", "gmm", "--components", 1)
    scores = evaluated(gaussad, "--mode", "all")
    one, other = (scores[scores["score"] == name] for name in ("gmm", "mahalanobis"))
    np.testing.assert_allclose(one["distance"], other["distance"], rtol=1e-8)
    more = evaluated(gaussad, "--score", "gmm", "--components", 3, "--covariance", "own")
    assert set(more.loc[more["score"] == "gmm", "mode"]) == {"shared1", "own3"}
    three = more[more["mode"] == "own3"]
    assert not np.allclose(three["distance"], other["distance"], rtol=1e-2)


def test_weighted_levels_are_tested_on_the_images_that_they_did_not_learn_from(gaussad, features):
    scores = evaluated(gaussad, "--score", "ood")
    assert set(scores["level"]) == {"sum:6-7"}
    learnt = scores["distance"].isna()
    assert 0 < learnt.sum() < 0.3 * len(scores)
    assert set(scores.loc[learnt, "label"] == "good") == {True, False}
    metrics = read_metrics(Path("results"), None)
    rest = scores[~learnt]
    for fold, auroc in zip(metrics["fold"].astype(int), metrics["auroc"], strict=True):
        assert auroc == pytest.approx(roc_auc_score(rest["anomalous"], rest[f"fold_{fold}"]))


def test_comparators_are_fitted_to_all_epochs_of_a_folds_images(gaussad, mvtec, tmp_path):
    data = link(mvtec, tmp_path / "data", "bottle", every=8)
    extracted = gaussad("extract", "--data", data, *LITE0, "--levels", "7", "--epochs", 2)
    folder = Path(extracted.out.strip()) / "bottle"
    train = np.load(folder / "train/level_7.npy").astype(float)
    (test_file,) = (path for path in folder.parents[1].rglob("test/level_7.npy"))
    test = np.load(test_file).astype(float)
    scores = evaluated(gaussad, "--score", "knn", "--k", 3, "--epochs", 2)
    fitted = next(KFold(5, shuffle=True, random_state=0).split(train))[0]
    neighbours = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(train[fitted].reshape(-1, train.shape[-1]))
    distances, _ = neighbours.kneighbors(test)
    np.testing.assert_allclose(scores["fold_0"], np.sqrt(np.square(distances).mean(axis=1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--score", "svm"), ("unknown score 'svm'", "Did you mean ocsvm?")),
        (
            ("--score", "knn", "--mode", "pca"),
            (
                "--mode pca goes with --score mahalanobis or ocsvm or places",
                "not with knn",
            ),
        ),
        (("--k", 5), ("--k 5 goes with --score knn, not with mahalanobis",)),
        (("--score", "gmm", "--k", 5), ("--k 5 goes with --score knn",)),
        (("--score", "gmm", "--covariance", "full"), ("unknown --covariance 'full'", "shared, own")),
        (("--score", "ocsvm", "--mode", "npca"), ("unknown mode 'npca' of ocsvm",)),
        (("--score", "ood", "--levels", "7"), ("weighs levels", "use several")),
        (("--score", "ood", "--threshold", "all"), ("--threshold does not go with --score ood",)),
    ],
)
def test_options_of_comparators_that_cannot_be(gaussad, extract_once, tiny, options, fragments):
    extract_once(tiny, *LITE0, "--levels", "6,7")
    assert_user_error(gaussad("evaluate", *LITE0, *options), *fragments)
