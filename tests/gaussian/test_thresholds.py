import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from gaussad_cli.gaussian.thresholds import (
    SIGMAS,
    chi2_threshold,
    conformal_threshold,
    cross_conformal_p_values,
    empirical_threshold,
    gamma_threshold,
    target_fpr,
)


def test_target_fpr_is_what_a_standard_normal_leaves_beyond_n_sigma():
    tails = [2 * integrate.quad(stats.norm.pdf, sigma, np.inf, epsabs=0)[0] for sigma in SIGMAS]
    np.testing.assert_allclose(target_fpr(SIGMAS), tails, rtol=1e-8)


def test_target_fpr_keeps_its_digits_far_out():
    np.testing.assert_allclose(target_fpr([10]), [1.523970604832105e-23], rtol=1e-12)  # Abramowitz & Stegun 26.2


def test_samples_of_a_gaussian_exceed_the_threshold_as_often_as_asked():
    distance = np.linalg.norm(np.random.default_rng(0).standard_normal((200_000, 17)), axis=1)
    for fpr in (0.3, 0.05, 0.003):
        achieved = (distance > chi2_threshold(fpr, 17)).mean()
        assert abs(achieved - fpr) < 4 * np.sqrt(fpr * (1 - fpr) / len(distance))


def test_one_dimension_gives_back_the_number_of_sigmas():
    np.testing.assert_allclose(chi2_threshold(target_fpr(SIGMAS), 1), SIGMAS, rtol=1e-10)


RATES = np.array([0.5, 0.3173, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001])


def test_chi_square_thresholds_keep_their_digits_far_out():
    for sigma in range(1, 13):
        rate = float(target_fpr(sigma))
        for dim in (1, 16, 272, 1792):
            np.testing.assert_allclose(chi2_threshold(rate, dim), bisected_threshold(rate, dim), rtol=1e-9)


def bisected_threshold(rate: float, dim: int) -> float:
    """The root of Q(dim/2, t^2/2) = rate by bisection on the regularised gamma function."""
    low, high = 0.0, 1e5
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if special.gammaincc(dim / 2, middle / 2) > rate else (low, middle)
    return float(np.sqrt(low))


@given(n=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
def test_a_conformal_threshold_is_the_smallest_that_promises_the_rate(n, seed):
    held_out = np.random.default_rng(seed).standard_normal(n)
    for rate, threshold in zip(RATES, conformal_threshold(held_out, RATES), strict=True):
        # A new image is equally likely to take any of the n + 1 ranks; it is flagged beyond the threshold.
        beyond = np.count_nonzero(held_out >= threshold)
        assert beyond / (n + 1) <= rate + 1e-9
        assert np.isinf(threshold) == (rate < 1 / (n + 1) - 1e-12)
        if np.isfinite(threshold):
            assert (beyond + 1) / (n + 1) > rate - 1e-9


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "standard_cauchy"])
@pytest.mark.parametrize("n", [19, 42])
def test_a_conformal_threshold_keeps_its_promise_whatever_the_distribution(n, draw):
    rng = np.random.default_rng(0)
    rates = np.array([0.2, 0.1, 0.05])
    met = np.zeros(3)
    repeats = 4000
    for _ in range(repeats):
        sample = getattr(rng, draw)(n + 1)
        met += sample[-1] > conformal_threshold(sample[:-1], rates)
    exact = np.floor((n + 1) * rates + 1e-9) / (n + 1)
    np.testing.assert_allclose(met / repeats, exact, atol=4.5 * np.sqrt(0.2 * 0.8 / repeats))
    assert (exact <= rates).all()


def test_cross_conformal_p_values_are_the_ranks_among_all_held_out_distances():
    rng = np.random.default_rng(0)
    held_out = [rng.standard_normal(n) for n in (4, 5, 5)]
    test = rng.standard_normal((3, 7))
    test[:, 0] = [held_out[k][0] for k in range(3)]  # ties count as beyond
    expected = [(1 + sum((held_out[k] >= test[k, j]).sum() for k in range(3))) / (4 + 5 + 5 + 1) for j in range(7)]
    np.testing.assert_allclose(cross_conformal_p_values(held_out, test), expected)


def test_a_gamma_threshold_finds_the_chi_square_law_again():
    held_out = np.sqrt(np.random.default_rng(0).chisquare(30, 20_000))
    np.testing.assert_allclose(gamma_threshold(held_out, RATES), chi2_threshold(RATES, 30), rtol=5e-3)
    assert np.isnan(gamma_threshold(np.ones(5), RATES)).all()


def test_an_empirical_threshold_is_a_quantile():
    np.testing.assert_allclose(empirical_threshold(np.arange(101.0), [0.5, 0.1, 0.01]), [50, 90, 99])
