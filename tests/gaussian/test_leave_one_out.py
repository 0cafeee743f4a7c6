"""Every sample's distance from the Gaussian of all others: the fast ways equal one fit per sample."""

import numpy as np
import pytest

from gaussad_cli.gaussian import leave_one_out as module
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.leave_one_out import leave_one_out
from gaussad_cli.gaussian.thresholds import conformal_threshold
from tests import reference

COMPRESSIONS = [NO_COMPRESSION, Compression("pca", 0.99), Compression("npca", 0.01)]


def features(n, dim, seed=0):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return (rng.standard_normal((n, dim)) * np.geomspace(1, 1e-2, dim)) @ basis + 5


def by_scikit_learn(x, mode="all", var=None):
    """One fit of PCA and LedoitWolf per sample, with no row of its own."""
    return np.array([reference.mahalanobis(np.delete(x, i, 0), x[i : i + 1], mode, var)[0][0] for i in range(len(x))])


@pytest.mark.parametrize(("n", "dim"), [(12, 40), (30, 30), (60, 8), (7, 3), (40, 1)])
def test_with_all_components_kept_it_is_scikit_learns(n, dim):
    x = features(n, dim)
    np.testing.assert_allclose(leave_one_out(x, NO_COMPRESSION), by_scikit_learn(x), rtol=1e-8)


@pytest.mark.parametrize(("n", "dim"), [(15, 40), (60, 8)])
def test_the_closed_form_is_what_fits_give(n, dim):
    x = features(n, dim)
    spectrum = module.fit_spectrum(x)
    y = module.times(module.centre(x)[2], spectrum.eigenvectors)
    fitted = module._by_fits(y, NO_COMPRESSION, dim)
    np.testing.assert_allclose(module._closed_form(y, spectrum.eigenvalues, dim), fitted, rtol=1e-9)


@pytest.mark.parametrize(("mode", "var"), [("pca", 0.9), ("npca", 0.1)])
def test_compressed_it_is_a_fit_without_each_sample_times_the_growth_by_one_more(mode, var, monkeypatch):
    x, order = features(14, 6), np.random.default_rng(0).permutation(14)
    expected = np.empty(14)
    for place, i in enumerate(order):
        j = order[(place + 1) % 14]
        alone = reference.mahalanobis(np.delete(x, i, 0), x[i : i + 1], mode, var)[0][0]
        without_two = reference.mahalanobis(np.delete(x, [i, j], 0), x[i : i + 1], mode, var)[0][0]
        expected[i] = alone * alone / without_two
    np.testing.assert_allclose(leave_one_out(x, Compression(mode, var)), expected, rtol=1e-7)


def test_of_many_samples_several_are_left_out_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "_BUDGET", 0.0)
    fits = []
    monkeypatch.setattr(module, "fit_spectrum", lambda x, fit=module.fit_spectrum: fits.append(len(x)) or fit(x))
    distances = leave_one_out(features(200, 5), Compression("pca", 0.9))
    assert np.isfinite(distances).all()
    assert sorted(set(fits)) == [180, 190, 200]


def test_samples_that_do_not_vary_have_no_distance():
    assert np.isnan(leave_one_out(np.ones((9, 4)), NO_COMPRESSION)).all()


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=str)
@pytest.mark.parametrize("n", [40, 90])  # fewer and more samples than the 60 features
def test_new_samples_are_beyond_the_threshold_at_the_wanted_rate(n, compression):
    """Over 40 draws; five folds flag 30 % and more for npca with n = 90."""
    flagged = []
    for seed in range(40):
        x = features(n + 200, 60, seed)
        spectrum = module.fit_spectrum(x[:n])
        start, stop = module.component_range(spectrum.eigenvalues, compression)
        shrinkage = module.shrink_range(spectrum, start, stop, 60 if compression.mode == "all" else stop - start)
        distances = module.mahalanobis(module.project(spectrum, x[n:]), spectrum, shrinkage)
        flagged.append(np.mean(distances > conformal_threshold(leave_one_out(x[:n], compression), 0.1)))
    assert 0.06 < np.mean(flagged) < 0.13
