"""The detector in Python."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.utils.estimator_checks import check_estimator

from gaussad_cli import GaussianDetector


def test_it_passes_scikit_learns_checks():
    check_estimator(GaussianDetector())


def test_scores_are_scikit_learns_mahalanobis_distances():
    rng = np.random.default_rng(0)
    x, test = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(9, 6))
    theirs = np.sqrt(LedoitWolf().fit(x).mahalanobis(test))
    np.testing.assert_allclose(-GaussianDetector().fit(x).score_samples(test), theirs, rtol=1e-10)


@pytest.mark.parametrize("fpr", [0.2, 0.05])
def test_the_rate_of_false_alarms_is_about_the_wanted_one(fpr):
    rng = np.random.default_rng(1)
    detector = GaussianDetector(fpr=fpr).fit(rng.normal(size=(500, 10)))
    flagged = (detector.predict(rng.normal(size=(4000, 10))) == -1).mean()
    assert 0.5 * fpr < flagged < 1.5 * fpr


@pytest.mark.parametrize("mode", ["pca", "npca"])
def test_modes_keep_other_components(mode):
    x = np.random.default_rng(2).normal(size=(60, 5)) * [9, 3, 1, 0.3, 0.1]
    whole, part = (GaussianDetector(mode=m).fit(x).score_samples(x) for m in ("all", mode))
    assert not np.allclose(whole, part)


@pytest.mark.parametrize("wrong", [{"mode": "mean"}, {"fpr": 0.0}, {"mode": "pca", "var": 2.0}])
def test_wrong_parameters_are_value_errors(wrong):
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        GaussianDetector(**wrong).fit(np.random.default_rng(0).normal(size=(20, 3)))


def test_samples_without_variance_are_a_value_error():
    with pytest.raises(ValueError, match="no variance"):
        GaussianDetector().fit(np.ones((20, 3)))
