import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from gaussad_cli.evaluation.metrics import auroc, exceedance


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1e-30, 7.0, 1e30]), st.booleans()), min_size=2, max_size=60))
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
