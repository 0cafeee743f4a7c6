"""One Gaussian per place against slow, plain references: loops over places, float64, fits without one image."""

import os
import platform
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from threadpoolctl import threadpool_limits
from torch.nn import functional

from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.places import (
    PADIM,
    PlaceOptions,
    average_neighbours,
    closed_form_intensity,
    fit_places,
    fit_scale,
    gather_places,
    greatest,
    image_covariance,
    join_levels,
    merge_places,
    project_moments,
    smooth,
    smoothing_matrix,
    top_mean,
    whole,
)
from tests.conftest import ROOT
from tests.gaussian.test_rows import KERNELS

OPTIONS = [
    PlaceOptions(),
    PlaceOptions(intensity=0.3),
    PlaceOptions(Compression("pca", 0.9)),
    PlaceOptions(Compression("npca", 0.3), intensity=0.1),
    PlaceOptions(channels=4),
    PlaceOptions(target="identity"),
    PlaceOptions(target="padim"),
    PlaceOptions(channels=3, target="padim"),
]


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1, user_api="blas"):
        yield


def draw(n=40, places=9, dim=6, seed=0, offset=0.0):
    """Images whose places differ in mean, size and direction of their variance."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(places, dim, dim)) * generator.uniform(0.01, 2.0, size=(places, 1, 1))
    x = np.einsum("pij,npj->npi", mixing, generator.normal(size=(n, places, dim)))
    return (x + generator.normal(size=(places, dim)) * 3 + offset).astype(np.float32)


def chunks(images, size=7):
    return (images[i : i + size] for i in range(0, len(images), size))


def reference(train, test, options):
    """Squared distances by a plain loop over places, with Sigma_p in the kept directions written out."""
    x = train.astype(np.float64)
    n, places, dim = x.shape
    deviations = x - x.mean(axis=0)
    covariances = np.stack([deviations[:, p].T @ deviations[:, p] / (n - 1) for p in range(places)])
    target = covariances.mean(axis=0)
    chosen = np.arange(dim)
    if options.channels is not None:
        chosen = np.sort(np.random.default_rng(options.seed).permutation(dim)[: options.channels])
    values, vectors = np.linalg.eigh(target[np.ix_(chosen, chosen)])
    values, vectors = values[::-1], vectors[:, ::-1]
    if options.compression.mode == "pca":
        kept = slice(0, int((np.cumsum(values) / values.sum() <= options.compression.var).sum()) + 1)
    elif options.compression.mode == "npca":
        kept = slice(max(int((np.cumsum(values) / values.sum() <= 1 - options.compression.var).sum()) - 1, 0), None)
    else:
        kept = slice(None)
    directions = vectors[:, kept]
    result, intensity = np.empty((len(test), places)), options.intensity
    small = [directions.T @ covariance[np.ix_(chosen, chosen)] @ directions for covariance in covariances]
    within = directions.T @ target[np.ix_(chosen, chosen)] @ directions
    if options.target == "identity":
        goals = [np.trace(s) / len(s) * np.eye(len(s)) for s in small]
    else:
        goals = [within] * places
    if intensity is None and options.target != "padim":
        relative = []
        for s, goal in zip(small, goals, strict=True):
            root = np.linalg.inv(np.linalg.cholesky(goal))
            relative.append(root @ s @ root.T)
        intensity = closed_form_intensity(np.stack(relative), n)
    for p in range(places):
        if options.target == "padim":
            sigma = small[p] + PADIM * np.eye(len(small[p]))
        else:
            sigma = (1 - intensity) * small[p] + intensity * goals[p]
        y = (test[:, p].astype(np.float64) - x[:, p].mean(axis=0))[:, chosen] @ directions
        result[:, p] = np.einsum("ij,ij->i", y, np.linalg.solve(sigma, y.T).T)
    return result


# --- moments ---


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_moments_in_chunks_are_those_of_numpy(offset, threads):
    images = draw(offset=offset, places=35)
    moments = gather_places(chunks(images), threads)
    x = images.astype(np.float64)
    assert moments.n == len(images)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-13)
    for p in range(35):
        expected = np.cov(x[:, p].T) * (len(x) - 1)
        np.testing.assert_allclose(moments.second[p], expected, atol=1e-9 * np.abs(expected).max())


def test_merged_moments_are_those_of_all_images():
    images = draw()
    together, merged = gather_places([images]), merge_places(gather_places([images[:11]]), gather_places([images[11:]]))
    assert merged.n == together.n
    np.testing.assert_allclose(merged.mean, together.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.second, together.second, atol=1e-9 * np.abs(together.second).max())


def test_features_that_are_not_finite_or_missing_are_errors():
    images = draw()
    images[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        gather_places([images])
    with pytest.raises(ValueError, match="no images"):
        gather_places([])
    with pytest.raises(ValueError, match="at least two images"):
        fit_places(gather_places([draw(n=1)]))
    with pytest.raises(ValueError, match="all alike"):
        fit_places(gather_places([np.ones((5, 4, 3), np.float32)]))


# --- distances ---


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("n", [3, 5, 40])
def test_distances_are_those_of_a_plain_loop(options, n):
    train, test = draw(n), draw(11, seed=1)
    gaussians = fit_places(gather_places(chunks(train)), options)
    np.testing.assert_allclose(gaussians.squared(test), reference(train, test, options), rtol=2e-3 if n < 6 else 2e-4)


def test_a_channel_that_never_varies_is_left_out():
    train, test = draw(), draw(4, seed=1)
    train[:, :, 2] = test[:, :, 2] = 5.0
    without = fit_places(gather_places([np.delete(train, 2, axis=2)])).squared(np.delete(test, 2, axis=2))
    np.testing.assert_allclose(fit_places(gather_places([train])).squared(test), without, rtol=1e-4)


def test_distances_do_not_depend_on_the_unit_of_a_channel():
    train, test = draw(), draw(4, seed=1)
    scale = np.array([1, 1000, 0.001, 3, 1, 20], np.float32)
    plain, scaled = (fit_places(gather_places([train * s])).squared(test * s) for s in (1, scale))
    np.testing.assert_allclose(plain, scaled, rtol=1e-3)


ONE_BY_ONE = """
import numpy as np
from threadpoolctl import threadpool_limits
from gaussad_cli.gaussian.places import PlaceOptions, fit_places, gather_places
generator = np.random.default_rng(0)
train, test = (generator.normal(size=(n, 49, 67)).astype(np.float32) for n in (30, 23))
with threadpool_limits(1, user_api="blas"):
    gaussians = fit_places(gather_places([train]))
    together = gaussians.squared(test, threads=2)
    for start in range(0, 23):
        for stop in (start + 1, min(start + 5, 23)):
            assert np.array_equal(gaussians.squared(test[start:stop]), together[start:stop]), (start, stop)
"""


@pytest.mark.parametrize("kernel", ["", *KERNELS.get(platform.machine(), ())])
def test_an_image_has_the_same_distances_whatever_the_company(kernel):
    environment = os.environ | ({"OPENBLAS_CORETYPE": kernel} if kernel else {})
    program = [sys.executable, "-c", ONE_BY_ONE]
    run = subprocess.run(program, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode == -signal.SIGILL:
        pytest.skip(f"this processor does not have what the kernel {kernel} needs")
    assert run.returncode == 0, run.stderr


# --- the closed form ---


def oracle(covariances, n, draws=300):
    """The intensity with the least mean loss over many samples of Gaussians with these covariances."""
    generator = np.random.default_rng(3)
    k = covariances.shape[1]
    roots, grid = np.linalg.cholesky(covariances), np.linspace(0, 1, 101)
    losses = np.zeros(grid.size)
    for _ in range(draws):
        x = np.einsum("pij,pnj->pni", roots, generator.normal(size=(len(roots), n, k)))
        x -= x.mean(axis=1, keepdims=True)
        samples = np.einsum("pni,pnj->pij", x, x) / (n - 1)
        for i, rho in enumerate(grid):
            losses[i] += np.square((1 - rho) * samples + rho * np.eye(k) - covariances).sum()
    return grid[losses.argmin()]


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("n", [6, 30])
def test_the_closed_form_finds_the_intensity_of_least_loss(spread, n):
    """Against brute force: known covariances around the target, and the mean loss of every intensity."""
    generator = np.random.default_rng(1)
    places, k = 30, 5
    roots = np.eye(k) + spread * generator.normal(size=(places, k, k))
    covariances = roots @ roots.transpose(0, 2, 1)
    found = []
    for _ in range(20):
        x = np.einsum("pij,pnj->pni", np.linalg.cholesky(covariances), generator.normal(size=(places, n, k)))
        x -= x.mean(axis=1, keepdims=True)
        found.append(closed_form_intensity(np.einsum("pni,pnj->pij", x, x) / (n - 1), n))
    assert np.mean(found) == pytest.approx(oracle(covariances, n), abs=0.03)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.1])
def test_the_closed_form_is_near_the_intensity_of_greatest_held_out_likelihood(spread):
    """Brute force on held-out images: the likelihood at the closed form is close to the greatest one's."""
    generator = np.random.default_rng(2)
    places, k, n = 40, 12, 30
    roots = np.eye(k) + spread * generator.normal(size=(places, k, k))
    roots *= generator.uniform(0.7, 1.4, size=(places, 1, 1))

    def sample(count):
        return np.einsum("pij,npj->npi", roots, generator.normal(size=(count, places, k))).astype(np.float32)

    train, held_out = sample(n), sample(200)
    moments = gather_places([train])

    def likelihood(intensity):
        gaussians = fit_places(moments, PlaceOptions(intensity=intensity))
        logarithms = np.log(np.abs(np.diagonal(gaussians.factors, axis1=1, axis2=2))).sum(axis=1)
        return float((logarithms - 0.5 * gaussians.squared(held_out)).mean())

    grid = np.linspace(0.02, 0.98, 25)
    curve = np.array([likelihood(rho) for rho in grid])
    closed = likelihood(None)
    # Of what shrinkage can win over the worst end, all but a twentieth.
    assert curve.max() - closed < 0.05 * (curve.max() - curve.min())


def test_places_without_differences_are_shrunk_wholly_and_many_images_hardly():
    generator = np.random.default_rng(0)
    alike = generator.normal(size=(30, 25, 4)).astype(np.float32)
    assert fit_places(gather_places([alike])).intensity > 0.8
    assert fit_places(gather_places([draw(n=3000)])).intensity < 0.01
    assert fit_places(gather_places([draw(n=2)])).intensity == 1.0


# --- held out ---


@pytest.mark.parametrize(
    "options", [PlaceOptions(), PlaceOptions(intensity=0.5), PlaceOptions(intensity=0.05)], ids=str
)
def test_held_out_distances_are_those_of_fits_without_the_image(options):
    """T and rho of the others are nearly those of all images where places are many: 64 here, 784 in use."""
    images = draw(n=30, places=64)
    gaussians = fit_places(gather_places([images]), options)
    held_out = gaussians.held_out(gaussians.squared(images))
    rho = PlaceOptions(intensity=gaussians.intensity)
    for i in range(0, 30, 6):
        others = fit_places(gather_places([np.delete(images, i, axis=0)]), rho)
        np.testing.assert_allclose(held_out[i], others.distances(images[i : i + 1])[0], rtol=0.05)


def test_held_out_distances_are_exact_where_the_target_does_not_change():
    """With the target held fixed and scaled as S_p is, Sherman and Morrison's formula is an identity."""
    images = draw(n=12, places=4)
    gaussians = fit_places(gather_places([images]), PlaceOptions(intensity=0.2))
    x = images.astype(np.float64)
    n, m = 12, 11
    covariances = np.stack([np.cov(x[:, p].T) for p in range(4)])
    target = covariances.mean(axis=0)
    held_out = gaussians.held_out(gaussians.squared(images))
    for i in range(n):
        others = np.delete(x, i, axis=0)
        for p in range(4):
            sigma = 0.8 * np.cov(others[:, p].T) + 0.2 * target * m / (m - 1)
            y = x[i, p] - others[:, p].mean(axis=0)
            assert held_out[i, p] == pytest.approx(np.sqrt(y @ np.linalg.solve(sigma, y)), rel=1e-4)


@pytest.mark.parametrize("places", [9, 64])
def test_leaving_out_an_images_part_in_the_target_comes_nearer_to_fits_without_it(places):
    images = draw(n=30, places=places)
    gaussians = fit_places(gather_places([images]), PlaceOptions(intensity=0.5))
    others = [fit_places(gather_places([np.delete(images, i, axis=0)]), PlaceOptions(intensity=0.5)) for i in range(30)]
    expected = np.concatenate([one.distances(images[[i]]) for i, one in enumerate(others)])
    near, nearer = gaussians.held_out(gaussians.squared(images)), gaussians.left_out(images)
    assert np.abs(nearer / expected - 1.0).mean() < 0.5 * np.abs(near / expected - 1.0).mean()
    np.testing.assert_array_equal(gaussians.left_out(images, threads=2), nearer)


def test_what_an_image_adds_to_the_target_is_its_formula():
    """Against loops over the places."""
    images = draw(n=12, places=4)
    gaussians = fit_places(gather_places([images]), PlaceOptions(intensity=0.5))
    y = gaussians.project(images[3]).astype(np.float64)
    inverses = [w.T @ w for w in gaussians.factors.astype(np.float64)]
    own = [np.mean([(y[q] @ inverses[p] @ y[p]) ** 2 for q in range(4)]) for p in range(4)]
    squared = [y[p] @ inverses[p] @ y[p] for p in range(4)] + 0.5 * 12 / 11**2 * np.array(own)
    np.testing.assert_allclose(gaussians.left_out(images[[3]])[0], gaussians.held_out(squared), rtol=1e-5)


def test_two_images_hold_out_nothing():
    images = draw(n=2)
    gaussians = fit_places(gather_places([images]))
    assert np.isnan(gaussians.held_out(gaussians.squared(images))).all()


# --- maps ---


def test_levels_are_joined_place_by_place_in_their_order():
    first, second = draw(3, 9, 2), draw(3, 9, 5, seed=1)
    joined = join_levels({7: second.reshape(3, -1), 3: first.reshape(3, -1)}, 9, neighbours=False)
    np.testing.assert_array_equal(joined, np.concatenate([first, second], axis=2))
    np.testing.assert_array_equal(join_levels({3: first.reshape(3, -1)}, 9), average_neighbours(first))


@pytest.mark.parametrize("grid", [1, 2, 3, 8])
def test_neighbours_are_averaged_as_torch_pools(grid):
    images = draw(2, grid * grid, 5)
    maps = torch.from_numpy(images).reshape(2, grid, grid, 5).permute(0, 3, 1, 2)
    pooled = functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
    expected = pooled.permute(0, 2, 3, 1).reshape(2, grid * grid, 5).numpy()
    np.testing.assert_allclose(average_neighbours(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
def test_smoothing_is_scipys_gaussian_filter(sigma):
    distances = np.abs(np.random.default_rng(0).normal(size=(3, 49)))
    for row, found in zip(distances, smooth(distances, sigma), strict=True):
        np.testing.assert_allclose(found, ndimage.gaussian_filter(row.reshape(7, 7), sigma, mode="nearest"), rtol=1e-12)
    np.testing.assert_allclose(smoothing_matrix(7, sigma).sum(axis=1), 1.0)


def test_the_scores_of_a_map_are_its_greatest_value_and_the_mean_of_its_greatest_places():
    maps = np.arange(2 * 400, dtype=float).reshape(2, 20, 20)
    np.testing.assert_array_equal(greatest(maps), [399, 799])
    np.testing.assert_array_equal(top_mean(maps), [397.5, 797.5])
    np.testing.assert_array_equal(top_mean(maps[:, :2, :2].copy()), greatest(maps[:, :2, :2]))


def test_projected_moments_are_those_of_projected_images():
    images, basis = draw(), np.random.default_rng(4).normal(size=(6, 3))
    moments = gather_places([images])
    expected = gather_places([(images.astype(np.float64) @ basis).astype(np.float32)])
    np.testing.assert_allclose(project_moments(moments, basis), expected.second, atol=1e-4 * expected.second.max())
    np.testing.assert_allclose(image_covariance(moments), (moments.second / 39).mean(axis=0))


def test_squared_distances_of_normal_images_follow_the_chi_square_law_where_places_share_the_covariance():
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(5, 5))
    train, test = ((generator.normal(size=(n, 16, 5)) @ mixing).astype(np.float32) for n in (400, 400))
    squared = fit_places(gather_places([train]), PlaceOptions(NO_COMPRESSION, intensity=0.9)).squared(test)
    assert stats.kstest(squared.ravel()[::7], "chi2", args=(5,)).pvalue > 0.001


def test_the_score_is_the_greatest_distance_or_that_of_the_whole_on_the_same_scale():
    generator = np.random.default_rng(0)
    normal = generator.gamma(5.0, size=(100, 4, 4))
    peaks, means = normal.max(axis=(1, 2)), normal.mean(axis=(1, 2))
    scale = fit_scale(greatest(normal), whole(normal))
    assert scale.greatest == pytest.approx((np.median(peaks), np.quantile(peaks, 0.9) - np.median(peaks)))
    spot, shifted = normal[:1].copy(), normal[:1] + 10.0
    spot[0, 2, 1] = 500.0
    maps = np.concatenate([normal, spot, shifted])
    unit = (np.quantile(peaks, 0.9) - np.median(peaks)) / (np.quantile(means, 0.9) - np.median(means))
    of_whole = np.median(peaks) + 0.5 * unit * (maps.mean(axis=(1, 2)) - np.median(means))
    np.testing.assert_allclose(scale.score(maps), np.maximum(maps.max(axis=(1, 2)), of_whole))
    assert scale.score(maps)[100] == 500.0
    assert scale.score(maps)[101] == pytest.approx(of_whole[101])
    assert of_whole[101] > maps[101].max()
    np.testing.assert_allclose(scale.times(3.0, 3.0).score(3.0 * maps), 3.0 * scale.score(maps))


def test_copies_of_one_image_have_a_scale_too():
    scale = fit_scale(np.ones(5), np.ones(5))
    assert np.isfinite(scale.score(np.full((1, 3, 3), 2.0))).all()
