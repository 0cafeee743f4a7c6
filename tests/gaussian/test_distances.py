"""The inverse of the shrunk covariance against scikit-learn's, and sweeps over the number of components."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.distances import (
    mahalanobis,
    project,
    shrunk_inverse,
    sweep_dims,
    sweep_leading,
    sweep_trailing,
)
from gaussad_cli.gaussian.shrinkage import shrink, shrink_range
from gaussad_cli.gaussian.spectrum import fit_spectrum


@pytest.fixture(params=[(60, 9), (12, 30)], ids=["n > D", "n < D"])
def fitted(request):
    rng = np.random.default_rng(0)
    n, dim = request.param
    train = rng.normal(size=(n, dim)) * np.geomspace(3, 0.1, dim) + 5
    test = rng.normal(size=(7, dim)) + 5
    return train, test


def dense(inverse):
    """The whole matrix, (D, D)."""
    inside = inverse.vectors @ np.diag(inverse.inside) @ inverse.vectors.T
    return inside + inverse.outside * (np.eye(len(inside)) - inverse.vectors @ inverse.vectors.T)


def test_the_shrunk_inverse_is_scikit_learns_precision(fitted):
    train, _ = fitted
    spectrum = fit_spectrum(train)
    theirs = LedoitWolf().fit(train).precision_
    np.testing.assert_allclose(dense(shrunk_inverse(spectrum, shrink(spectrum))), theirs, rtol=1e-8, atol=1e-10)


def test_without_shrinkage_directions_without_variance_do_not_count():
    train = np.random.default_rng(0).normal(size=(12, 30))
    spectrum = fit_spectrum(train)
    inverse = shrunk_inverse(spectrum, replace(shrink(spectrum), intensity=0.0))
    assert inverse.outside == 0.0
    np.testing.assert_allclose(dense(inverse), np.linalg.pinv(np.cov(train.T, ddof=0)), rtol=1e-6, atol=1e-10)


def test_a_compressed_gaussian_does_not_count_what_it_leaves_out(fitted):
    train, _ = fitted
    spectrum = fit_spectrum(train)
    shrinkage = shrink(spectrum, Compression("pca", 0.9))
    inverse = shrunk_inverse(spectrum, shrinkage)
    assert inverse.vectors.shape == (train.shape[1], shrinkage.dim)
    assert inverse.outside == 0.0


def test_every_number_of_components_equals_scikit_learn_on_the_projected_data(fitted):
    train, test = fitted
    spectrum = fit_spectrum(train)
    dims = np.arange(1, spectrum.rank + 1)
    projection = project(spectrum, test)
    pca = PCA(spectrum.rank, svd_solver="full").fit(train)
    z, t = pca.transform(train), pca.transform(test)
    for distances, part in (
        (sweep_leading(projection, spectrum, dims), lambda x, d: x[:, :d]),
        (sweep_trailing(projection, spectrum, dims), lambda x, d: x[:, -d:]),
    ):
        assert distances.shape == (len(dims), len(test))
        for d, ours in zip(dims, distances, strict=True):
            theirs = np.sqrt(LedoitWolf().fit(part(z, d)).mahalanobis(part(t, d)))
            np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_the_curve_passes_through_the_tables_points(fitted):
    train, test = fitted
    spectrum = fit_spectrum(train)
    projection = project(spectrum, test)
    for compression, sweep in ((Compression("pca", 0.9), sweep_leading), (Compression("npca", 0.05), sweep_trailing)):
        shrinkage = shrink(spectrum, compression)
        (on_curve,) = sweep(projection, spectrum, np.array([shrinkage.dim]))
        np.testing.assert_array_equal(on_curve, mahalanobis(projection, spectrum, shrinkage))


def test_dims_reach_from_one_to_the_rank():
    assert sweep_dims(0, 10).size == 0
    assert sweep_dims(3, 40).tolist() == [1, 2, 3]
    dims = sweep_dims(1000, 40)
    assert (dims[0], dims[-1]) == (1, 1000)
    assert dims.size <= 40
    assert (np.diff(dims) > 0).all()


def test_components_in_the_middle_are_refused():
    spectrum = fit_spectrum(np.random.default_rng(1).normal(size=(20, 5)))
    with pytest.raises(ValueError, match="neither leading nor trailing"):
        shrink_range(spectrum, 1, 3, 2)
