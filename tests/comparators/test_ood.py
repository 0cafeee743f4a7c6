"""Levels weighted on a validation share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gaussad_cli.comparators.ood import draw_validation, weigh_levels


def levels(m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Distances (m, 4): the second level tells anomalies, the third on another scale, a little, the others not."""
    rng = np.random.default_rng(seed)
    anomalous = np.arange(m) % 3 == 0
    distances = 10 + rng.standard_normal((m, 4))
    distances[:, 1] += 3 * anomalous
    distances[:, 2] += 0.5 * anomalous
    return distances * (1, 1, 100, 1), anomalous


def test_weights_and_scores_are_those_of_a_logistic_regression_on_the_validation_images():
    distances, anomalous = levels(300)
    result = weigh_levels(distances, anomalous, share=0.3)
    known = distances[result.validation]
    standard = (distances - known.mean(axis=0)) / known.std(axis=0)
    model = LogisticRegression().fit(standard[result.validation], anomalous[result.validation])
    expected = np.where(result.validation, np.nan, model.decision_function(standard))
    np.testing.assert_allclose(result.scores, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(result.weights, model.coef_[0] / known.std(axis=0), rtol=1e-10)


def test_weighted_levels_tell_anomalies_better_than_their_sum():
    distances, anomalous = levels(600)
    result = weigh_levels(distances, anomalous)
    rest = ~result.validation
    weighted = roc_auc_score(anomalous[rest], result.scores[rest])
    assert weighted > 0.95
    assert roc_auc_score(anomalous[rest], distances[rest].sum(axis=1)) < 0.8


@settings(max_examples=50, deadline=None)
@given(
    normal=st.integers(2, 60),
    anomalies=st.integers(2, 60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_validation_takes_its_share_of_each_class_and_leaves_some(normal, anomalies, share, seed):
    anomalous = np.random.default_rng(seed).permutation(np.repeat([False, True], [normal, anomalies]))
    drawn = draw_validation(anomalous, share, seed)
    for label, size in ((False, normal), (True, anomalies)):
        count = (drawn & (anomalous == label)).sum()
        assert 1 <= count < size
        assert abs(count - share * size) <= 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_validation_labels_are_used_and_only_the_others_are_scored(seed):
    distances, anomalous = levels(60, seed)
    result = weigh_levels(distances, anomalous, seed=seed)
    np.testing.assert_array_equal(np.isnan(result.scores), result.validation)
    changed = distances.copy()
    changed[~result.validation] += 1.0
    np.testing.assert_array_equal(weigh_levels(changed, anomalous, seed=seed).weights, result.weights)


def test_another_seed_draws_other_images():
    distances, anomalous = levels(60)
    first, again, other = (weigh_levels(distances, anomalous, seed=seed).validation for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@settings(max_examples=25, deadline=None)
@given(factors=st.lists(st.sampled_from([1e-6, 1.0, 1e6]), min_size=4, max_size=4), shift=st.floats(0, 100))
def test_the_unit_of_a_level_does_not_matter(factors, shift):
    distances, anomalous = levels(90)
    expected = weigh_levels(distances, anomalous).scores
    moved = weigh_levels((distances + shift) * factors, anomalous).scores
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("useless", [np.nan, 0.1, 0.0])
def test_a_level_that_is_undefined_or_constant_weighs_nothing(useless):
    distances, anomalous = levels(60)
    expected = weigh_levels(distances, anomalous)
    result = weigh_levels(np.column_stack([distances, np.full(60, useless)]), anomalous)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-9)
    np.testing.assert_array_equal(result.weights, [*expected.weights, 0.0])


def test_no_level_of_use_gives_equal_scores():
    result = weigh_levels(np.ones((20, 2)), np.arange(20) % 2 == 0)
    assert set(result.scores[~result.validation]) == {0.0}


def test_where_no_level_is_defined_no_score_is():
    result = weigh_levels(np.full((20, 2), np.nan), np.arange(20) % 2 == 0)
    assert np.isnan(result.scores).all()
    assert not result.validation.any()


@pytest.mark.parametrize("anomalies", [0, 1, 9, 10])
def test_a_class_of_fewer_than_two_images_leaves_nothing_to_score(anomalies):
    result = weigh_levels(levels(10)[0], np.arange(10) < anomalies)
    assert np.isnan(result.scores).all() and np.isnan(result.weights).all() and not result.validation.any()


@pytest.mark.parametrize(("shape", "share"), [((5, 2), 0.1), ((6,), 0.1), ((6, 2), 0.0), ((6, 2), 1.0)])
def test_shapes_and_shares_that_make_no_sense_are_errors(shape, share):
    with pytest.raises(ValueError, match="need distances"):
        weigh_levels(np.ones(shape), np.arange(6) % 2, share)
