"""One component is the paper's Gaussian; several are a mixture of such."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage
from sklearn.metrics import roc_auc_score

from gaussad_cli.comparators.gmm import GaussianMixture, _living, _shrink_own, fit_gmm, score_gmm
from gaussad_cli.gaussian.distances import mahalanobis, project
from gaussad_cli.gaussian.shrinkage import ledoit_wolf, shrink
from gaussad_cli.gaussian.spectrum import fit_spectrum
from tests.comparators.drawing import correlated, random

BOTH = pytest.mark.parametrize("covariance", ["shared", "own"])


def fit(train: np.ndarray, components: int, covariance: str = "shared", seed: int = 0) -> GaussianMixture:
    return fit_gmm(train, fit_spectrum(train), components, covariance, seed)


def one_gaussian(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    spectrum = fit_spectrum(train)
    return mahalanobis(project(spectrum, test), spectrum, shrink(spectrum))


def clusters(n: int, dim: int, apart: float = 8.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two clusters (2n, dim), of unequal covariances, and which each point is of."""
    first, second = correlated(n, dim, seed, 0.0), 0.5 * correlated(n, dim, seed + 1, 0.0)
    direction = np.zeros(dim)
    direction[0] = apart
    return np.concatenate([first, second + direction]), np.repeat([0, 1], n)


@BOTH
@pytest.mark.parametrize("draw", [random, correlated])
@pytest.mark.parametrize(("n", "dim"), [(60, 640), (60, 60), (200, 48), (9, 30), (3, 4), (2, 6)])
def test_one_component_is_the_mahalanobis_distance(draw, n, dim, covariance):
    features = draw(n + 30, dim).astype(np.float32)
    train, test = features[:n], features[n:]
    np.testing.assert_allclose(score_gmm(fit(train, 1, covariance), test), one_gaussian(train, test), rtol=1e-8)


def log_density(train: np.ndarray, of: np.ndarray, test: np.ndarray, shared: bool) -> np.ndarray:
    """The mixture's density (m,) from D x D covariances, if it is known which component every feature is `of`."""
    parts = [train[of == k] for k in range(of.max() + 1)]
    about_means = np.concatenate([part - part.mean(axis=0) for part in parts])
    densities = []
    for part in parts:
        shrunk = LedoitWolf(assume_centered=True).fit(about_means if shared else part - part.mean(axis=0))
        weight = np.log(len(part) / len(train))
        densities.append(weight + multivariate_normal(part.mean(axis=0), shrunk.covariance_).logpdf(test))
    return np.logaddexp.reduce(densities)


@BOTH
@pytest.mark.parametrize(("n", "dim"), [(60, 20), (60, 60), (20, 90)])
def test_scores_of_clusters_far_apart_are_log_likelihoods_by_the_textbook(n, dim, covariance):
    train, of = clusters(n, dim)
    test = np.concatenate([clusters(15, dim, seed=7)[0], clusters(5, dim, apart=3.0, seed=8)[0]])
    mixture = fit(train, 2, covariance)
    assert mixture.means.shape[0] == 2
    expected = -2 * log_density(train, of, test, covariance == "shared")
    squared = np.square(score_gmm(mixture, test))
    # They differ by one constant, the density that nothing exceeds.
    np.testing.assert_allclose(squared - squared[0], expected - expected[0], rtol=1e-7, atol=1e-7)
    assert (squared >= 0).all()


def test_a_mixture_sees_the_gap_that_one_gaussian_does_not():
    train, _ = clusters(100, 10)
    normal, _ = clusters(40, 10, seed=5)
    between = correlated(40, 10, 6, 0.0) * 0.5
    between[:, 0] += 4.0
    test, anomalous = np.concatenate([normal, between]), np.repeat([0, 1], [80, 40])
    assert roc_auc_score(anomalous, one_gaussian(train, test)) < 0.6
    for covariance in ("shared", "own"):
        assert roc_auc_score(anomalous, score_gmm(fit(train, 2, covariance), test)) > 0.95


@BOTH
def test_overlapping_clusters_converge_to_a_fixed_point_of_em(covariance):
    train, _ = clusters(150, 4, apart=0.7)
    mixture = fit(train, 2, covariance)
    z = (train - mixture.spectrum.mean) @ mixture.spectrum.eigenvectors
    shrunk = np.broadcast_to([each.factor @ each.factor.T for each in mixture.covariances], (2, 4, 4))
    parts = zip(mixing(mixture), mixture.means, shrunk, strict=True)
    density = np.stack([np.log(weight) + multivariate_normal(mean, cov).logpdf(z) for weight, mean, cov in parts])
    responsibilities = np.exp(density - np.logaddexp.reduce(density))
    assert np.minimum(*responsibilities).max() > 0.2  # they do overlap
    counts = responsibilities.sum(axis=1)
    means = (responsibilities @ z) / counts[:, None]
    np.testing.assert_allclose(means, mixture.means, atol=2e-3)
    np.testing.assert_allclose(counts / len(z), mixing(mixture), atol=2e-3)
    covariances = [(r * (z - mean).T) @ (z - mean) / r.sum() for r, mean in zip(responsibilities, means, strict=True)]
    if covariance == "shared":
        covariances = [(counts[0] * covariances[0] + counts[1] * covariances[1]) / len(z)]
    intensities = [each.intensity for each in mixture.covariances]
    assert min(intensities) > 1e-3
    for sample, cov, intensity in zip(covariances, shrunk, intensities, strict=False):
        expected = (1 - intensity) * sample + intensity * np.trace(sample) / 4 * np.eye(4)
        np.testing.assert_allclose(cov, expected, atol=2e-3)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 30), dim=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_the_intensity_is_scikit_learn_s(n, dim, seed):
    x = random(n, dim, seed)
    x -= x.mean(axis=0)
    covariance, fourth = x.T @ x / n, np.mean(np.square(x).sum(axis=1) ** 2)
    intensity = ledoit_wolf(np.square(covariance).sum(), np.trace(covariance), fourth, n, dim)
    np.testing.assert_allclose(intensity, ledoit_wolf_shrinkage(x) if dim > 1 else 0.0, rtol=1e-8)


def test_samples_shared_by_two_components_count_by_kish_s_effective_size():
    x = correlated(40, 6)
    spectrum = fit_spectrum(x)
    z = (x - x.mean(axis=0)) @ spectrum.eigenvectors
    weights = np.linspace(0.1, 1.0, 40)
    mean = weights @ z / weights.sum()
    y = z - mean
    covariance = (weights * y.T) @ y / weights.sum()
    # Ledoit and Wolf's variance of the covariance's entries, for a weighted mean of y y'.
    squared_error = np.square(np.einsum("ni,nj->nij", y, y) - covariance).sum(axis=(1, 2))
    beta = weights @ squared_error / weights.sum() * np.square(weights / weights.sum()).sum()
    delta = np.square(covariance - np.trace(covariance) / 6 * np.eye(6)).sum()
    assert _shrink_own(z, weights, mean, spectrum).intensity == pytest.approx(beta / delta, rel=1e-9)


def mixing(mixture: GaussianMixture) -> np.ndarray:
    weights = np.exp(mixture.log_weights + np.array([each.log_det for each in mixture.covariances]) / 2)
    return weights / weights.sum()


@BOTH
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.sampled_from([0.0, 100.0]), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_order_offset_and_unit_do_not_matter(covariance, seed, shift, scale):
    train, _ = clusters(25, 8)
    test, _ = clusters(10, 8, seed=4)
    moved = np.random.default_rng(seed).permutation(train * scale + shift)
    expected = score_gmm(fit(train, 2, covariance), test)
    np.testing.assert_allclose(score_gmm(fit(moved, 2, covariance), test * scale + shift), expected, rtol=1e-6)


def test_what_k_means_starts_from_does_not_depend_on_the_order():
    features = correlated(90, 6)  # one cloud, which may be cut in many ways
    expected = score_gmm(fit(features[:60], 5), features[60:])
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(features[:60])
        np.testing.assert_allclose(score_gmm(fit(shuffled, 5), features[60:]), expected, rtol=1e-6)


def test_the_samples_of_a_dead_component_go_to_the_nearest_mean():
    z = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [8.0], [3.0]])
    of = np.array([0, 0, 0, 1, 1, 1, 2, 3])
    np.testing.assert_array_equal(_living(z, np.eye(4)[of]), np.eye(2)[[0, 0, 0, 1, 1, 1, 1, 0]])


@BOTH
@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 40), dim=st.integers(1, 30), k=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_any_mixture_gives_finite_distances_and_no_more_components_than_wanted(covariance, n, dim, k, seed):
    features = correlated(n + 10, dim, seed)
    mixture = fit(features[:n], k, covariance)
    scores = score_gmm(mixture, features[n:])
    assert np.isfinite(scores).all() and (scores >= 0).all()
    assert 1 <= mixture.means.shape[0] <= k
    np.testing.assert_allclose(np.exp(mixture.log_weights).sum(), 1.0)


@BOTH
def test_the_same_seed_gives_the_same_scores(covariance):
    features = correlated(90, 20)
    first, again = (score_gmm(fit(features[:60], 3, covariance, 5), features[60:]) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@BOTH
def test_a_lone_outlier_is_no_component(covariance):
    train = np.concatenate([correlated(60, 10), np.full((1, 10), 50.0)])
    assert fit(train, 2, covariance).means.shape[0] == 1


def test_copies_of_one_feature_are_no_component_of_their_own():
    train = np.concatenate([correlated(40, 6), np.full((30, 6), 20.0)])
    test = correlated(60, 6)[40:]
    assert fit(train, 2, "own").means.shape[0] == 1
    np.testing.assert_allclose(score_gmm(fit(train, 2, "own"), test), one_gaussian(train, test), rtol=1e-8)
    assert fit(train, 2, "shared").means.shape[0] == 2


@BOTH
def test_clusters_of_copies_alone_are_one_gaussian(covariance):
    train = np.repeat(random(3, 5), 6, axis=0)
    test = random(9, 5, 1)
    np.testing.assert_allclose(score_gmm(fit(train, 3, covariance), test), one_gaussian(train, test), rtol=1e-8)


@BOTH
@pytest.mark.parametrize("k", [1, 3])
def test_equal_features_have_no_distribution_and_distances_are_nan(covariance, k):
    assert np.isnan(score_gmm(fit(np.full((5, 3), 0.7), k, covariance), random(4, 3))).all()


@pytest.mark.parametrize(("components", "rows"), [(0, 20), (2, 19)])
def test_no_components_and_other_features_than_the_spectrum_s_are_errors(components, rows):
    train = random(20, 3)
    with pytest.raises(ValueError, match="need k >= 1"):
        fit_gmm(train[:rows], fit_spectrum(train), components)
