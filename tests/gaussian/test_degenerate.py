"""Training data at the edge of what has a covariance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.distances import l2, mahalanobis, project, sed
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import fit_spectrum

RNG = np.random.default_rng(0)


@given(value=st.floats(-1e12, 1e12), n=st.integers(2, 40), dim=st.integers(1, 40))
def test_equal_images_have_no_distribution_and_distances_are_nan(value, n, dim):
    spectrum = fit_spectrum(np.full((n, dim), value))
    projection = project(spectrum, RNG.standard_normal((3, dim)))
    assert spectrum.rank == 0
    for compression in (Compression(), Compression("pca", 0.99), Compression("npca", 0.01)):
        assert np.isnan(mahalanobis(projection, spectrum, shrink(spectrum, compression))).all()
    assert np.isnan(sed(projection, spectrum)).all()
    assert np.isfinite(l2(projection)).all()


@given(value=st.floats(-1e12, 1e12), n=st.integers(4, 40))
def test_sed_is_undefined_where_a_feature_is_constant_and_mahalanobis_is_not(value, n):
    train = np.column_stack([RNG.standard_normal((n, 5)), np.full(n, value)])
    spectrum = fit_spectrum(train)
    projection = project(spectrum, train)
    assert np.isnan(sed(projection, spectrum)).all()
    assert np.isfinite(mahalanobis(projection, spectrum, shrink(spectrum))).all()


def test_one_feature_has_no_shrinkage():
    spectrum = fit_spectrum(RNG.standard_normal((10, 1)))
    assert shrink(spectrum).intensity == 0.0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(broken):
    features = RNG.standard_normal((5, 3))
    features[2, 1] = broken
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_spectrum(features)


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 3, 4)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        fit_spectrum(np.zeros(shape))
