import numpy as np
from scipy import integrate, stats

from gaussad_cli.gaussian.thresholds import SIGMAS, chi2_threshold, target_fpr


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
