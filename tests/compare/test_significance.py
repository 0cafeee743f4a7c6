"""The sign-flip test and Holm's correction, against SciPy and by hand."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from gaussad_cli.compare.differences import EXACT, holm, sign_flip_p, smallest_p


@pytest.mark.parametrize("k", [2, 5, 8])
def test_sign_flips_are_those_of_scipy(k):
    for seed in range(3):
        d = np.random.default_rng(seed).integers(-3, 5, k) / 7  # with ties and zeros
        expected = permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        assert sign_flip_p(d) == pytest.approx(expected)


def test_p_is_no_smaller_than_half_to_the_number_of_categories_less_one():
    assert sign_flip_p(np.array([1.0])) == smallest_p(1) == 1
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == smallest_p(3) == 0.25
    assert sign_flip_p(np.arange(1.0, 16.0)) == smallest_p(15) == 2**-14
    assert sign_flip_p(np.zeros(4)) == 1


def test_of_many_categories_flips_are_drawn_and_always_the_same():
    d = np.random.default_rng(0).normal(0.3, 1, EXACT + 4)
    assert sign_flip_p(d) == sign_flip_p(d)
    flipped = np.random.default_rng(1).choice([-1.0, 1.0], (100_000, len(d))) * d
    expected = (abs(flipped.mean(axis=1)) >= abs(d.mean())).mean()
    assert sign_flip_p(d) == pytest.approx(expected, abs=0.02)
    assert sign_flip_p(np.ones(EXACT + 4)) == smallest_p(EXACT + 4) > 0


def test_holms_correction():
    # By hand: sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1, never falling.
    assert holm(np.array([0.03, 0.01, 0.5, 0.02])) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []
