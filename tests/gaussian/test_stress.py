"""Ill-conditioned, offset, degenerate features against references in many digits; scripts/stress.py has them all."""

from functools import partial

import numpy as np
import pytest

from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.distances import mahalanobis, project, sed
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import fit_spectrum
from gaussad_cli.gaussian.streaming import fit_folds
from scripts.stress import Case, cases, designed_case, outcomes, random_case
from tests import reference
from tests.exact import DIGITS, EXTENDED, MODES, Design, by_jacobi, by_mpmath, hadamard, read_out

SMALL = [case for case in cases(large=False) if case.test.shape[1] <= 12]
LARGER = [
    random_case("n = D + 1, float32", 49, 48, 1e6, 1e3, "float32"),
    random_case("more dimensions than features", 40, 48, 1e12),
    random_case("rotated", 90, 48, 1e16),
]
KNOWN = [
    designed_case("known spectrum", 640, 40, 40, 1e16),
    designed_case("offset, fewer components", 960, 40, 30, 1e12, 1e6),
    designed_case("n < D", 80, 160, 79, 1e16),
]


def assert_allowed(case: Case) -> None:
    both = list(outcomes(case))
    assert len(both) == (2 if case.parts else 1)
    for outcome in both:
        assert outcome.ranks[0] == outcome.ranks[1], outcome.row()
        assert max(*outcome.errors, outcome.shrinkage) <= outcome.allowed, outcome.row()


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.name}, {case.n} x {case.test.shape[1]}")
def test_few_dimensions_agree_with_sixty_digits(case):
    assert_allowed(case)


@pytest.mark.skipif(not EXTENDED, reason="no floating point of more digits than float64 on this machine")
@pytest.mark.parametrize("case", LARGER, ids=lambda case: case.name)
def test_some_dozen_dimensions_agree_with_jacobi_rotations_in_extended_precision(case):
    assert_allowed(case)


@pytest.mark.parametrize("case", KNOWN, ids=lambda case: case.name)
def test_thousands_of_features_agree_with_a_spectrum_that_is_known(case):
    assert_allowed(case)


def test_folds_lose_nothing_to_moments_that_do_not_resolve_the_smallest_component():
    """Moments alone give 2e-10 here; and where the component drowns in their rounding, none of its digits."""
    (_, folds) = outcomes(designed_case("known spectrum", 640, 40, 40, 1e12))
    assert folds.path == "folds"
    assert max(folds.errors) < 1e-12


def test_the_references_agree_with_each_other_and_with_scikit_learn():
    assert DIGITS > 2 * 16  # 1e16 squared, and digits to spare
    case = random_case("", 60, 6, 1e4)
    for mode in MODES:
        expected, intensity, dim = reference.mahalanobis(case.train, case.test, *mode)
        for by in (by_mpmath, by_jacobi):
            answer = read_out(by(case.train, case.test), mode)
            assert answer.dim == dim
            np.testing.assert_allclose(answer.intensity, intensity, rtol=1e-9)
            np.testing.assert_allclose(answer.distances, expected, rtol=1e-9)


def test_a_designed_spectrum_is_that_of_its_features():
    design = Design(np.array([7.0, 3.0, 2.0]), 8, 12, np.array([1.0, 3.0]), 5.0)
    train = np.concatenate(list(design.chunks(design.block(), 5, [1.0, 3.0])))
    basis = design.answer(np.ones((1, 8)), [1.0, 3.0])
    covariance = np.cov(train, rowvar=False, ddof=0)
    np.testing.assert_allclose(basis.eigenvalues.astype(float), np.linalg.eigvalsh(covariance)[:-4:-1], rtol=1e-12)
    np.testing.assert_allclose(float(basis.residual[0] + basis.test[0].sum()), ((1 - 5.0) ** 2) * 8, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 12, 20, 64, 96, 80])
def test_hadamard_columns_are_orthogonal(order):
    matrix = hadamard(order)
    assert set(np.unique(matrix)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(matrix.T @ matrix, order * np.eye(order))
    assert (matrix[:, 0] == 1).all()


@pytest.mark.parametrize("repeats", [1, 3])
def test_two_different_images_have_no_shrinkage_and_finite_distances(repeats):
    """Their fourth moments cancel: what rounding left was taken for a shrinkage, and divided by."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        pair = rng.standard_normal((2, 8))
        spectrum = fit_spectrum(np.repeat(pair, repeats, axis=0))
        shrinkage = shrink(spectrum)
        assert (spectrum.rank, shrinkage.intensity) == (1, 0.0)
        along = pair[0] - pair[1]
        test = pair.mean(axis=0) + np.outer([0.5, -1.5], along)
        np.testing.assert_allclose(mahalanobis(project(spectrum, test), spectrum, shrinkage), [1.0, 3.0], rtol=1e-12)


def test_a_feature_that_only_the_held_out_images_vary_in_is_constant_to_the_fold():
    """Such as a ReLU feature that one image switches on: exactly no variance, so no standardised distance."""
    features = np.random.default_rng(1).standard_normal((55, 6))
    features[:, 4] = 0.1
    features[:11, 4] += np.linspace(0.37, 1e5, 11)
    spectra = fit_folds([partial(iter, [part]) for part in np.split(features, 5)])
    assert [spectrum.variances[4] == 0 for spectrum in spectra] == [True, False, False, False, False]
    assert np.isnan(sed(project(spectra[0], features), spectra[0])).all()
    assert np.isfinite(sed(project(spectra[1], features), spectra[1])).all()


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_triangles_do_not_depend_on_the_chunks(chunk):
    features = np.random.default_rng(2).standard_normal((200, 12)) * np.geomspace(1, 1e-10, 12)
    parts = [partial(_in_chunks, part, chunk) for part in np.split(features, 5)]
    for number, spectrum in enumerate(fit_folds(parts)):
        direct = fit_spectrum(np.delete(features, np.s_[40 * number : 40 * number + 40], axis=0))
        npca = Compression("npca", 0.01)
        assert spectrum.rank == direct.rank == 12
        distances = [mahalanobis(project(s, features), s, shrink(s, npca)) for s in (spectrum, direct)]
        np.testing.assert_allclose(*distances, rtol=1e-8)


def _in_chunks(part, size):
    return (part[i : i + size] for i in range(0, len(part), size))
