"""The closed forms are an exact rewriting of the PCA + LedoitWolf route."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.distances import l2, mahalanobis, project, sed
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import fit_spectrum
from tests import reference

MODES = [("all", None), ("pca", 0.99), ("pca", 0.95), ("npca", 0.01), ("npca", 0.001), ("npca", 0.0001)]
SHAPES = [(20, 60), (60, 60), (60, 61), (61, 60), (200, 30), (8, 500), (170, 112), (170, 272)]


def draw(n: int, dim: int, seed: int = 0, decay: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features whose variances span 10^(2 decay), and test points partly off the training distribution.

    On a grid of 2^-20, so that adding a large integer offset is exact.
    """
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dim, dim)) * np.logspace(0, -decay, dim)[:, None]
    sample = rng.standard_normal((n + 25, dim)) @ mixing
    sample[-10:] += rng.standard_normal((10, dim))
    sample = np.round(sample * 2**20) / 2**20
    return sample[:n], sample[n:]


def score(train, test, mode, var):
    spectrum = fit_spectrum(train)
    shrinkage = shrink(spectrum, Compression(mode, var))
    return mahalanobis(project(spectrum, test), spectrum, shrinkage), shrinkage.intensity, shrinkage.dim


def assert_equal_to_reference(train, test, mode, var, offset=0.0):
    distances, intensity, dim = score(train + offset, test + offset, mode, var)
    expected, expected_intensity, expected_dim = reference.mahalanobis(train, test, mode, var)
    assert dim == expected_dim
    np.testing.assert_allclose(intensity, expected_intensity, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(distances, expected, rtol=1e-8)


@pytest.mark.parametrize(("mode", "var"), MODES)
@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_mahalanobis_distance_shrinkage_and_dimension_equal_scikit_learn(n, dim, mode, var):
    assert_equal_to_reference(*draw(n, dim), mode, var)


@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_l2_and_sed_equal_their_formulas(n, dim):
    train, test = draw(n, dim)
    spectrum = fit_spectrum(train)
    projection = project(spectrum, test)
    np.testing.assert_allclose(l2(projection), reference.l2(train, test), rtol=1e-10)
    np.testing.assert_allclose(sed(projection, spectrum), reference.sed(train, test), rtol=1e-10)


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(4, 60),
    dim=st.integers(2, 60),
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([0.0, -17.0, 1e3, 1e6]),
    constant=st.integers(0, 3),
    duplicated=st.integers(0, 3),
    which=st.sampled_from(MODES),
)
def test_any_shape_offset_constant_and_duplicated_features_equal_scikit_learn(
    n, dim, seed, offset, constant, duplicated, which
):
    train, test = draw(n, dim, seed, decay=1.0)
    repeat = [np.concatenate([x, x[:, :duplicated], np.ones((len(x), constant))], axis=1) for x in (train, test)]
    assert_equal_to_reference(repeat[0], repeat[1], *which, offset=offset)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]), which=st.sampled_from(MODES))
def test_mahalanobis_distance_does_not_change_with_the_unit(seed, scale, which):
    train, test = draw(30, 20, seed)
    distances, _, _ = score(train, test, *which)
    scaled, _, _ = score(train * scale, test * scale, *which)
    np.testing.assert_allclose(scaled, distances, rtol=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(5, 60), which=st.sampled_from(MODES))
def test_mahalanobis_distance_does_not_change_under_rotation(seed, n, which):
    train, test = draw(n, 24, seed, decay=1.0)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((24, 24)))
    distances, _, _ = score(train, test, *which)
    rotated, _, _ = score(train @ rotation, test @ rotation, *which)
    np.testing.assert_allclose(rotated, distances, rtol=1e-7)


def test_float32_features_are_computed_in_float64():
    train, test = (x.astype(np.float32) for x in draw(40, 30))
    distances, _, _ = score(train, test, "all", None)
    expected, _, _ = reference.mahalanobis(train.astype(np.float64), test.astype(np.float64))
    np.testing.assert_allclose(distances, expected, rtol=1e-8)
