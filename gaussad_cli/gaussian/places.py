"""One Gaussian per place of the feature maps: what is normal there, and how far an image is from it (beyond the paper).

At each place p of a grid, over n normal images, are a mean mu_p and a covariance S_p. The mean of all S_p is the
image-wide covariance T, of what varies within places, whatever the place. The shrunk covariance is::

    Sigma_p = (1 - rho) S_p + rho T

T says how features vary where n images alone cannot: places of a plain background hardly vary at all, and without T
their distances would drown all others. Everything is computed in the eigenbasis of T, scaled so that T is the identity;
leading or trailing directions of that basis can be left out, as PCA and NPCA do with pooled features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression, component_range
from gaussad_cli.gaussian.moments import Array

Target = Literal["image", "identity", "padim"]
TARGETS: tuple[Target, ...] = ("image", "identity", "padim")
PADIM = 0.01  # what PaDiM adds to every variance (Defard et al. 2020, section III-B)
FAR = 0.9  # the quantile of held-out normal images that is one unit from their median, see :class:`MapScale`
WHOLE_WEIGHT = 0.5  # of the deviation of a whole image, beside that of its greatest place
TOP = 0.01  # share of the places whose mean distance is the score of :func:`top_mean`

_BLOCK = 16  # places at a time: their matrices stay in a core's cache
_LEAST_SPREAD = 1e-6  # of the median: images that are copies have no spread
_ROUNDING = 1e-12  # of T's greatest variance: directions with less are rounding of float32 features

Maps = NDArray[np.float32]
SMOOTHING = 0.0  # places, the sigma of the Gaussian that heat maps are smoothed by (docs/places.md)


@dataclass(frozen=True)
class PlaceMoments:
    """Mean and centred second moments of the channels at every place, over n images.

    Attributes
    ----------
    n : number of images
    mean : (P, D) float64
    second : (P, D, D) float64, sums of the outer products of deviations from the mean
    """

    n: int
    mean: Array
    second: Array


@dataclass(frozen=True)
class PlaceOptions:
    """How the covariance of places is estimated.

    Attributes
    ----------
    compression : which directions of T's eigenbasis are kept
    channels : if given, a random subset of so many channels is taken first, as PaDiM does; `seed` chooses it
    target : what S_p is shrunk towards: "image" (T), "identity" (the place's own mean variance), or "padim", which adds
        0.01 to every variance instead
    intensity : rho; None: the closed form, :func:`closed_form_intensity`
    """

    compression: Compression = NO_COMPRESSION
    channels: int | None = None
    target: Target = "image"
    intensity: float | None = None
    seed: int = 0


PLACES = PlaceOptions(Compression("npca", 0.1), intensity=0.5)  # the default, chosen by measurement (docs/places.md)


@dataclass(frozen=True)
class PlaceGaussians:
    """A Gaussian per place.

    Attributes
    ----------
    n : number of images they were fitted to
    mean : (P, D) float32
    basis : (D, k) float32, from channels to the kept directions
    factors : (P, k, k) float32, lower triangular W with W Sigma W' the identity in these directions
    intensity : rho
    """

    n: int
    mean: Maps
    basis: Maps
    factors: NDArray[np.float32] = field(repr=False)
    intensity: float

    def project(self, image: Maps) -> Maps:
        """Return the deviations of an image (P, D) from the means, in the kept directions, (P, k) float32."""
        return np.asarray((image - self.mean) @ self.basis)

    def squared(self, images: Maps, threads: int = 1) -> Array:
        """Return the squared Mahalanobis distances of images (m, P, D) at every place, (m, P) float64.

        An image's distances do not depend on the images beside it, to the bit: every product has the same shape,
        whatever m. Call it with BLAS limited to one thread.
        """
        projected = [self.project(image) for image in images]
        result = np.zeros((len(images), len(self.mean)))

        def block(places: slice) -> None:
            for row, deviations in enumerate(projected):
                whitened = np.matmul(self.factors[places], deviations[places, :, None])[..., 0]
                result[row, places] = np.einsum("pk,pk->p", whitened, whitened, dtype=np.float64)

        _by_blocks(block, len(self.mean), threads)
        return result

    def distances(self, images: Maps, threads: int = 1) -> Array:
        """Return the Mahalanobis distances of images (m, P, D) at every place, (m, P); see :meth:`squared`."""
        return np.asarray(np.sqrt(self.squared(images, threads)))

    def held_out(self, squared: Array) -> Array:
        """Return the distances that images of the fit would have from Gaussians of all others.

        Leaving image i out, with y its deviation from the mean and m = n - 1, changes S_p to
        m/(m-1) (S_p - n/m^2 yy') and the deviation to n/m y. If T is taken to change as S_p does on the average, the
        new covariance is m/(m-1) (Sigma_p - (1-rho) n/m^2 yy'), whose inverse is that of Sherman and Morrison. What
        this leaves out, the image's own part in T, is one of n images at P places (docs/places.md has the error).

        Parameters
        ----------
        squared : (m, P), from :meth:`squared`, of images of the fit

        Returns
        -------
        (m, P); NaN if n < 3
        """
        n, m = float(self.n), float(self.n - 1)
        if m < 2:
            return np.full_like(squared, np.nan)
        left = 1.0 - (1.0 - self.intensity) * n / m**2 * squared
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = (n / m) ** 2 * (m - 1.0) / m * squared / np.maximum(left, 0.0)
        return np.asarray(np.sqrt(grown))

    def left_out(self, images: Maps, threads: int = 1) -> Array:
        """Return the distances that images of the fit, (m, P, D), would have from Gaussians of all others, (m, P).

        As :meth:`held_out`, but without the image's own part in T too, to first order. With y_q its deviation at place
        q, T loses n/m^2 times the mean over q of y_q y_q', which at place p adds ``rho n/m^2 mean_q (y_q' a)^2`` to the
        squared distance, a being y_p times the inverse of Sigma_p. For Gaussians that are shrunk towards T.
        """
        projected = [self.project(image) for image in images]
        squared, solved = np.zeros((len(images), len(self.mean))), [np.empty_like(rows) for rows in projected]

        def block(places: slice) -> None:
            factors = self.factors[places]
            for row, deviations in enumerate(projected):
                whitened = np.matmul(factors, deviations[places, :, None])
                squared[row, places] = np.einsum("pki,pki->p", whitened, whitened, dtype=np.float64)
                solved[row][places] = np.matmul(factors.transpose(0, 2, 1), whitened)[..., 0]

        _by_blocks(block, len(self.mean), threads)
        share = self.intensity * self.n / (self.n - 1.0) ** 2
        for row, (y, a) in enumerate(zip(projected, solved, strict=True)):
            squared[row] += share * np.einsum("pk,pk->p", a @ (y.T @ y / len(y)), a, dtype=np.float64)
        return self.held_out(squared)


def join_levels(features: Mapping[int, Maps], places: int, neighbours: bool = True) -> Maps:
    """Join the features of levels, level -> (m, places * D_level) place by place, to (m, places, D) float32.

    Parameters
    ----------
    places : their number, a square
    neighbours : whether each place is averaged with the places around it, which forgives small shifts of the object
    """
    joined = np.concatenate([rows.reshape(len(rows), places, -1) for _, rows in sorted(features.items())], axis=2)
    return average_neighbours(joined) if neighbours else joined


def average_neighbours(images: Maps) -> Maps:
    """Return the mean over each place and those around it, 3 x 3 or fewer at the rim, of images (m, g * g, D)."""
    m, places, dim = images.shape
    grid = round(places**0.5)
    sums = _add_neighbours(_add_neighbours(images.reshape(m, grid, grid, dim), 1), 2)
    inside = _add_neighbours(np.ones((1, grid, 1, 1), np.float32), 1)[0, :, 0, 0]
    counts = np.outer(inside, inside)[None, :, :, None]
    return np.asarray((sums / counts).reshape(m, places, dim))


def _add_neighbours(values: Maps, axis: int) -> Maps:
    """Add to each value its two neighbours along an axis."""
    moved, result = np.moveaxis(values, axis, 0), values.copy()
    summed = np.moveaxis(result, axis, 0)
    summed[1:] += moved[:-1]
    summed[:-1] += moved[1:]
    return result


# --- moments ---


def gather_places(chunks: Iterable[Maps], threads: int = 1) -> PlaceMoments:
    """Return the moments of images that come in chunks (b, P, D); only one chunk is in memory at a time.

    Sums are in float64. Memory is that of the result, P x D x D float64, however many images there are.

    Raises
    ------
    ValueError
        If there is no image, or a feature is NaN or infinite.
    """
    total: PlaceMoments | None = None
    for chunk in chunks:
        if not np.isfinite(chunk).all():
            raise ValueError("features hold NaN or infinite values")
        if total is None:
            places, dim = chunk.shape[1:]
            total = PlaceMoments(0, np.zeros((places, dim)), np.zeros((places, dim, dim)))
        total = _add(total, chunk, threads)
    if total is None:
        raise ValueError("there are no images")
    return total


def _add(total: PlaceMoments, chunk: Maps, threads: int) -> PlaceMoments:
    """Add a chunk (b, P, D) to moments, in place (Chan, Golub, LeVeque 1983)."""
    b = len(chunk)
    weight = total.n * b / (total.n + b)

    def block(places: slice) -> None:
        x = chunk[:, places].astype(np.float64).transpose(1, 2, 0)  # (places, D, b)
        mean = x.mean(axis=2)
        x -= mean[..., None]
        apart = mean - total.mean[places]
        scaled = np.concatenate([x, np.sqrt(weight) * apart[..., None]], axis=2)
        total.second[places] += np.matmul(scaled, scaled.transpose(0, 2, 1))
        total.mean[places] += apart * (b / (total.n + b))

    _by_blocks(block, chunk.shape[1], threads)
    return PlaceMoments(total.n + b, total.mean, total.second)


def merge_places(a: PlaceMoments, b: PlaceMoments) -> PlaceMoments:
    """Return the moments of the union of two sets of images (Chan, Golub, LeVeque 1983)."""
    n, apart = a.n + b.n, b.mean - a.mean
    between = apart[:, :, None] * (apart[:, None, :] * (a.n * b.n / n))
    return PlaceMoments(n, a.mean + apart * (b.n / n), a.second + b.second + between)


# --- fit ---


def fit_places(moments: PlaceMoments, options: PlaceOptions = PlaceOptions(), threads: int = 1) -> PlaceGaussians:
    """Fit a Gaussian per place.

    Raises
    ------
    ValueError
        If there are fewer than two images, or no channel varies at any place.
    """
    if moments.n < 2:
        raise ValueError("a Gaussian per place needs at least two images")
    variances, vectors = _directions(moments, options)
    basis = vectors / np.sqrt(variances) if options.target == "image" else vectors
    covariances = project_moments(moments, basis, threads) / (moments.n - 1)
    scales = np.ones(len(covariances))
    if options.target == "identity":
        scales = np.maximum(np.trace(covariances, axis1=1, axis2=2) / basis.shape[1], np.finfo(np.float64).tiny)
    intensity = options.intensity
    if options.target == "padim":
        intensity = 0.0
    elif intensity is None:
        intensity = closed_form_intensity(covariances / scales[:, None, None], moments.n)
    floors = np.full(len(covariances), PADIM) if options.target == "padim" else intensity * scales
    factors = _factors(covariances, 1.0 - intensity, floors, threads)
    return PlaceGaussians(
        moments.n, moments.mean.astype(np.float32), basis.astype(np.float32), factors, float(intensity)
    )


def image_covariance(moments: PlaceMoments) -> Array:
    """Return T, the mean over the places of their covariances, (D, D)."""
    return np.asarray(moments.second.mean(axis=0) / (moments.n - 1))


def _directions(moments: PlaceMoments, options: PlaceOptions) -> tuple[Array, Array]:
    """Return variances (k,), greatest first, and orthonormal directions (D, k) of the kept part of T's eigenbasis."""
    target = image_covariance(moments)
    dim = len(target)
    chosen = np.arange(dim)
    if options.channels is not None and options.channels < dim:
        chosen = np.sort(np.random.default_rng(options.seed).permutation(dim)[: options.channels])
    values, own = np.linalg.eigh(target[np.ix_(chosen, chosen)])
    values, own = values[::-1], own[:, ::-1]
    rank = int((values > max(values[0], 0.0) * _ROUNDING).sum())
    if rank == 0:
        raise ValueError("the images are all alike: no channel varies at any place")
    start, stop = component_range(values[:rank], options.compression)
    vectors = np.zeros((dim, stop - start))
    vectors[chosen] = own[:, start:stop]
    return values[start:stop], vectors


def project_moments(moments: PlaceMoments, basis: Array, threads: int = 1) -> Array:
    """Return the second moments in other directions (D, k), (P, k, k)."""
    result = np.empty((len(moments.mean), basis.shape[1], basis.shape[1]))

    def block(places: slice) -> None:
        result[places] = np.matmul(basis.T, np.matmul(moments.second[places], basis))

    _by_blocks(block, len(result), threads)
    return result


def closed_form_intensity(covariances: Array, n: int) -> float:
    """Return the intensity rho of shrinkage towards the identity, one for all places, in closed form.

    Ledoit and Wolf (2004) choose rho to make E |(1-rho) S + rho T - Sigma|^2 least, with the squared Frobenius norm.
    For any fixed target T and an unbiased S, the derivative vanishes at ``rho = E|S - Sigma|^2 / E|S - T|^2``. In the
    basis in which T is the identity, that loss is relative: a deviation counts by how many standard deviations of T it
    is, and no channel counts more for its unit. Over all places, sums of both expectations take the place of each.

    The numerator of a Gaussian is ``(tr(Sigma^2) + tr(Sigma)^2) / m`` with m = n - 1, and unbiased estimates of its
    two terms follow from ``E tr(S)^2 = tr(Sigma)^2 + 2/m tr(Sigma^2)`` and
    ``E tr(S^2) = (1 + 1/m) tr(Sigma^2) + tr(Sigma)^2 / m``, as in Chen, Wiesel, Eldar and Hero (2010). So second
    moments suffice, in one pass, and images can be added later. The denominator is estimated by its observed value.

    Parameters
    ----------
    covariances : (P, k, k), unbiased, in the basis where the target is the identity
    n : number of images

    Returns
    -------
    A number in [0, 1]; 1 if n < 3.
    """
    m = n - 1.0
    if m < 2:
        return 1.0
    trace = np.trace(covariances, axis1=1, axis2=2)
    norm = np.einsum("pij,pij->p", covariances, covariances)
    squares = (norm - np.square(trace) / m) / (1.0 + 1.0 / m - 2.0 / m**2)  # tr(Sigma^2)
    of_trace = np.square(trace) - 2.0 / m * squares  # tr(Sigma)^2
    error = float((squares + of_trace).sum() / m)
    apart = float((norm - 2.0 * trace + covariances.shape[1]).sum())
    return float(np.clip(error / apart, 0.0, 1.0)) if apart > 0.0 else 1.0


def _factors(covariances: Array, share: float, floors: Array, threads: int) -> NDArray[np.float32]:
    """Return lower triangular W with W (share S + floor I) W' the identity, (P, k, k) float32."""
    size = covariances.shape[1]
    result = np.empty(covariances.shape, np.float32)

    def block(places: slice) -> None:
        shrunk = share * covariances[places] + floors[places, None, None] * np.eye(size)
        result[places] = np.tril(np.linalg.inv(np.linalg.cholesky(shrunk)))

    _by_blocks(block, len(covariances), threads)
    return result


def _by_blocks(work: Callable[[slice], Any], n_places: int, threads: int) -> None:
    """Do some work on every block of places, several at a time; results do not depend on the number of threads."""
    blocks = [slice(start, min(start + _BLOCK, n_places)) for start in range(0, n_places, _BLOCK)]
    if threads <= 1:
        for places in blocks:
            work(places)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks))


# --- from distances to a heat map and a score ---


def smoothing_matrix(grid: int, sigma: float) -> Array:
    """Return the (grid, grid) matrix K that smooths a map M along one axis by a Gaussian of sigma places: K M K'.

    The Gaussian is cut off at 4 sigma. Beyond the rim, a map has its outermost values.
    """
    if sigma <= 0.0:
        return np.eye(grid)
    matrix = np.zeros((grid, grid))
    places, reach = np.arange(grid)[:, None], int(4.0 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * np.square(offsets / sigma))
    np.add.at(matrix, (places, np.clip(places + offsets, 0, grid - 1)), weights / weights.sum())
    return matrix


def smooth(distances: Array, sigma: float) -> Array:
    """Return heat maps (m, g, g) from distances (m, g * g), smoothed by a Gaussian of sigma places."""
    grid = round(distances.shape[1] ** 0.5)
    kernel = smoothing_matrix(grid, sigma)
    return np.stack([kernel @ row.reshape(grid, grid) @ kernel.T for row in distances])


def greatest(maps: Array) -> Array:
    """Return the greatest value of every heat map (m, g, g), (m,)."""
    return np.asarray(maps.reshape(len(maps), -1).max(axis=1))


def top_mean(maps: Array, share: float = TOP) -> Array:
    """Return the mean of the greatest values of every heat map (m, g, g), a share of its places, (m,)."""
    values = np.sort(maps.reshape(len(maps), -1), axis=1)
    return np.asarray(values[:, -max(1, round(share * values.shape[1])) :].mean(axis=1))


def whole(maps: Array) -> Array:
    """Return the mean of every heat map (m, g, g), (m,): how far an image is as a whole."""
    return np.asarray(maps.reshape(len(maps), -1).mean(axis=1))


@dataclass(frozen=True)
class MapScale:
    """How far held-out normal images are, at their greatest place and as a whole: what makes the two comparable.

    A defect shows at a place, a wrong material or light in the whole image and nowhere in particular. The score is the
    greatest distance of the map, or the mean distance brought to the same scale if that is greater: the medians of
    held-out normal images fall together, and so do their quantiles :data:`FAR`, but what is beyond the median counts
    half for the whole, because where objects are not aligned, whole images vary more than n of them tell.

    Attributes
    ----------
    greatest, whole : the median of the maps' greatest and mean distances, and how far :data:`FAR` lies beyond it
    """

    greatest: tuple[float, float]
    whole: tuple[float, float]

    def score(self, maps: Array) -> Array:
        """Return the scores of heat maps (m, g, g), (m,)."""
        return self.combine(greatest(maps), whole(maps))

    def combine(self, greatest: Array, whole: Array) -> Array:
        """Return the scores (m,) from the greatest and the mean distances of heat maps, (m,) each."""
        return np.maximum(greatest, self.of_whole(whole))

    def of_whole(self, means: Array) -> Array:
        """Return the mean distances (m,) of heat maps on the scale of their greatest ones, (m,)."""
        return np.asarray(self.greatest[0] + self.weight * (means - self.whole[0]))

    @property
    def weight(self) -> float:
        """What a unit of mean distance beyond the median counts as."""
        return WHOLE_WEIGHT * self.greatest[1] / self.whole[1]

    def times(self, greatest: float, whole: float) -> MapScale:
        """Return the scale of maps whose greatest and mean distances are so many times as large."""
        (median, spread), (of_whole, spread_of_whole) = self.greatest, self.whole
        return MapScale((greatest * median, greatest * spread), (whole * of_whole, whole * spread_of_whole))


def fit_scale(greatest: Array, whole: Array) -> MapScale:
    """Return the scale of held-out normal images, from the greatest and the mean distances of their maps, (n,) each."""
    return MapScale(_median_and_spread(greatest), _median_and_spread(whole))


def _median_and_spread(values: Array) -> tuple[float, float]:
    median, far = np.quantile(values, [0.5, FAR])
    return float(median), float(max(far - median, _LEAST_SPREAD * abs(median), np.finfo(np.float64).tiny))
