import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from gaussad_cli.evaluation.metrics import (
    auroc,
    average_precision,
    exceedance,
    fpr_at_tpr,
    image_metrics,
    max_f1,
    max_f1_threshold,
)

TIES = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1e-30, 7.0, 1e30]), st.booleans()), min_size=2, max_size=60)
FEW_TIES = st.lists(st.tuples(st.floats(0, 9), st.booleans()), min_size=2, max_size=60)


def both_classes(pairs):
    """Split pairs into distances and flags, and see to it that there is one image of each class."""
    distance = np.array([value for value, _ in pairs])
    anomalous = np.array([flag for _, flag in pairs])
    anomalous[:2] = True, False
    return distance, anomalous


@given(TIES)
def test_auroc_equals_scikit_learn_ties_included(pairs):
    distance = np.array([value for value, _ in pairs])
    anomalous = np.array([flag for _, flag in pairs])
    if anomalous.all() or not anomalous.any():
        assert np.isnan(auroc(distance, anomalous))
    else:
        np.testing.assert_allclose(
            auroc(distance, anomalous), roc_auc_score(anomalous, distance), rtol=1e-12, atol=1e-15
        )


def test_auroc_of_an_undefined_distance_is_undefined():
    assert np.isnan(auroc(np.array([1.0, np.nan, 2.0]), np.array([True, False, False])))


def test_exceedance_counts_what_lies_above():
    np.testing.assert_array_equal(
        exceedance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 9.0])), [1.0, 0.5, 0.0]
    )
    assert np.isnan(exceedance(np.array([]), np.array([1.0]))).all()


@given(TIES | FEW_TIES)
def test_average_precision_equals_scikit_learn_ties_included(pairs):
    distance, anomalous = both_classes(pairs)
    expected = average_precision_score(anomalous, distance)
    assert average_precision(distance, anomalous) == pytest.approx(expected, rel=1e-12)


@given(TIES | FEW_TIES)
def test_the_greatest_f1_is_that_of_scikit_learns_curve(pairs):
    distance, anomalous = both_classes(pairs)
    precision, recall, _ = precision_recall_curve(anomalous, distance)
    found = recall > 0
    f1 = 2 * precision[found] * recall[found] / (precision[found] + recall[found])
    assert max_f1(distance, anomalous) == pytest.approx(f1.max(), rel=1e-12)


@example([(5e-324, True), (0.0, False)])  # no number lies between these
@given(TIES | FEW_TIES)
def test_images_beyond_the_threshold_of_the_greatest_f1_have_it(pairs):
    distance, anomalous = both_classes(pairs)
    found = distance >= max_f1_threshold(distance, anomalous)
    assert 2 * (found & anomalous).sum() / (found.sum() + anomalous.sum()) == max_f1(distance, anomalous)


def test_the_threshold_of_the_greatest_f1_lies_halfway_between_images():
    distance = np.array([9.0, 7.0, 4.0, 1.0])
    assert max_f1_threshold(distance, distance > 5) == 5.5
    assert max_f1_threshold(distance, distance != 4) == 1.0  # everything is found: there is no smaller distance
    assert np.isnan(max_f1_threshold(distance, distance > 0))


@given(TIES | FEW_TIES, st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_the_fpr_at_a_tpr_is_that_of_scikit_learns_curve(pairs, wanted):
    distance, anomalous = both_classes(pairs)
    fpr, tpr, _ = roc_curve(anomalous, distance, drop_intermediate=False)
    assert fpr_at_tpr(distance, anomalous, wanted) == fpr[tpr >= wanted].min()


def test_by_hand_three_anomalous_of_six_images_of_which_two_tie():
    """From above: anomalous; normal and anomalous tie; normal; anomalous; normal."""
    distance = np.array([9.0, 7.0, 7.0, 5.0, 4.0, 1.0])
    anomalous = np.array([True, False, True, False, True, False])
    assert average_precision(distance, anomalous) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert max_f1(distance, anomalous) == pytest.approx(2 * 3 / (3 + 5))  # at 4: all 3, with 2 normal images
    assert fpr_at_tpr(distance, anomalous, 0.5) == pytest.approx(1 / 3)
    assert fpr_at_tpr(distance, anomalous, 0.95) == pytest.approx(2 / 3)


def test_nineteen_of_twenty_are_95_percent():
    distance = np.concatenate([np.arange(20) + 10.0, [9.5, 10.5]])
    assert fpr_at_tpr(distance, np.arange(22) < 20, 0.95) == 0.0
    assert fpr_at_tpr(distance, np.arange(22) < 20, 0.951) == 0.5


def test_where_all_images_tie_everything_is_found_at_once():
    distance, anomalous = np.ones(8), np.arange(8) < 2
    assert image_metrics(distance, anomalous) == {"auroc": 0.5, "ap": 0.25, "f1": 0.4, "fpr_95tpr": 1.0}


def test_perfect_distances_have_perfect_metrics():
    distance, anomalous = np.arange(8.0), np.arange(8) >= 5
    assert image_metrics(distance, anomalous) == {"auroc": 1.0, "ap": 1.0, "f1": 1.0, "fpr_95tpr": 0.0}


@pytest.mark.parametrize(
    ("distance", "anomalous"),
    [([1.0, np.nan, 2.0], [True, False, False]), ([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False])],
)
def test_all_metrics_are_undefined_together(distance, anomalous):
    assert np.isnan(list(image_metrics(np.array(distance), np.array(anomalous)).values())).all()


def test_infinite_distances_that_tie_are_found_together():
    assert image_metrics(np.array([np.inf, np.inf, 0.0]), np.array([True, False, False]))["ap"] == 0.5
