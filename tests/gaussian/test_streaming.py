"""Spectra from streamed moments equal those from all features at once."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.distances import l2, mahalanobis, project, sed
from gaussad_cli.gaussian.moments import gather, merge
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import fit_spectrum
from gaussad_cli.gaussian.streaming import fit_folds
from tests import reference
from tests.gaussian.test_against_scikit_learn import MODES, draw


def split(x, sizes):
    return np.split(x, np.cumsum(sizes)[:-1])


def chunked(part, size):
    return lambda: (part[i : i + size] for i in range(0, len(part), size))


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 30), min_size=2, max_size=5),
    dim=st.integers(1, 20),
    chunk=st.integers(1, 40),
    offset=st.sampled_from([0.0, -3e3, 1e6, 1e8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_merged_moments_equal_those_computed_directly(sizes, dim, chunk, offset, seed):
    x, _ = draw(sum(sizes), dim, seed, decay=1.0)
    parts = split(x + offset, sizes)  # exact: the draw is on a grid
    gathered = [gather(chunked(part, chunk)(), parts[0][0]) for part in parts]
    for number in range(len(parts)):
        rest = reduce(merge, gathered[:number] + gathered[number + 1 :])
        expected = np.concatenate([part for i, part in enumerate(split(x, sizes)) if i != number])
        mean, remainder = rest.two_float_mean()
        np.testing.assert_allclose((mean - offset) + remainder, expected.mean(axis=0), rtol=1e-9, atol=1e-10)
        scatter = (expected - expected.mean(axis=0)).T @ (expected - expected.mean(axis=0))
        np.testing.assert_allclose(rest.second, scatter, rtol=1e-9, atol=1e-9 * max(np.abs(scatter).max(), 1e-6))


@pytest.mark.parametrize(("mode", "var"), MODES)
@pytest.mark.parametrize(("n", "dim", "offset"), [(300, 12, 0.0), (300, 40, 1e6), (120, 90, 17.0), (60, 61, 0.0)])
def test_every_fold_equals_scikit_learn(n, dim, offset, mode, var):
    train, test = draw(n, dim, decay=1.5)
    sizes = [n // 5] * 5
    spectra = fit_folds([chunked(part, 17) for part in split(train + offset, sizes)])
    for number, spectrum in enumerate(spectra):
        fold = np.concatenate([part for i, part in enumerate(split(train, sizes)) if i != number])
        shrinkage = shrink(spectrum, Compression(mode, var))
        projection = project(spectrum, test + offset)
        expected, intensity, kept = reference.mahalanobis(fold, test, mode, var)
        assert (shrinkage.dim, spectrum.n) == (kept, len(fold))
        np.testing.assert_allclose(shrinkage.intensity, intensity, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(mahalanobis(projection, spectrum, shrinkage), expected, rtol=1e-8)
        np.testing.assert_allclose(l2(projection), reference.l2(fold, test), rtol=1e-9)
        np.testing.assert_allclose(sed(projection, spectrum), reference.sed(fold, test), rtol=1e-9)


def test_constant_and_repeated_features_are_no_components():
    train, test = draw(200, 10, decay=1.0)
    train, test = (np.concatenate([x, x[:, :2], np.full((len(x), 2), 0.1)], axis=1) for x in (train, test))
    spectra = fit_folds([chunked(part, 50) for part in split(train, [40] * 5)])
    for number, spectrum in enumerate(spectra):
        direct = fit_spectrum(np.delete(train, np.s_[40 * number : 40 * number + 40], axis=0))
        assert spectrum.rank == direct.rank == 10
        assert not spectrum.variances[-2:].any()
        for each in (Compression("all", None), Compression("npca", 0.01)):
            distances = [mahalanobis(project(s, test), s, shrink(s, each)) for s in (spectrum, direct)]
            np.testing.assert_allclose(*distances, rtol=1e-8)


def test_chunks_do_not_change_the_spectra():
    train, _ = draw(250, 15)
    parts = split(train, [50] * 5)
    one, other = (fit_folds([chunked(part, size) for part in parts]) for size in (50, 7))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.eigenvalues, b.eigenvalues, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_an_error(bad):
    train, _ = draw(100, 5)
    train[70, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_folds([chunked(part, 20) for part in split(train, [20] * 5)])
