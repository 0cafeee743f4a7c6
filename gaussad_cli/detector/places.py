"""The Gaussians of places in a model: its heat maps, how it is made of images, and how images are added to it.

The score of an image is the greatest value of its heat map, or how far it is as a whole, on the same scale, if that is
greater. So the threshold of the score is that of the pixels too: an image with a pixel beyond it is anomalous, and an
anomalous image without one deviates as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.backbones.registry import format_levels
from gaussad_cli.detector.kept_maps import KeptMaps
from gaussad_cli.detector.scores import Scores
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.engine import usable_cores
from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.places import (
    PLACES,
    SMOOTHING,
    Maps,
    MapScale,
    PlaceGaussians,
    PlaceMoments,
    PlaceOptions,
    fit_places,
    fit_scale,
    gather_places,
    greatest,
    join_levels,
    merge_places,
    smooth,
    whole,
)

_ROUNDING = 1e-5  # of float32 features, relative; a network's layers add some up


@dataclass(frozen=True)
class PlacesModel:
    """A Gaussian per place, and what turns the distances of an image into its heat map.

    Attributes
    ----------
    dims : level -> channels, ascending; the levels that are joined
    gaussians : the Gaussians; their factors are float16 numbers, so a model is the same in memory and in its file
    compression : says which directions of the image-wide covariance are kept
    sigma : of the Gaussian that heat maps are smoothed by, in places
    typical : the median over images of the median of their held-out heat maps: what a normal place looks like
    scale : of held-out normal images, by which the deviation of a whole image is compared with that of a place
    """

    dims: dict[int, int]
    gaussians: PlaceGaussians
    compression: Compression
    sigma: float
    typical: float
    scale: MapScale

    @property
    def n(self) -> int:
        """The number of images."""
        return self.gaussians.n

    @property
    def grid(self) -> int:
        """The places per side."""
        return round(len(self.gaussians.mean) ** 0.5)

    def heat_maps(self, features: Mapping[int, NDArray[Any]]) -> Array:
        """Return the heat maps of features, level -> (m, places * D_level), (m, grid, grid) float64."""
        return self.heat_maps_of(join_levels({level: features[level] for level in self.dims}, self.grid**2))

    def heat_maps_of(self, maps: Maps) -> Array:
        """Return the heat maps of joined maps (m, places, D), (m, grid, grid) float64."""
        with threadpool_limits(1, user_api="blas"):
            return smooth(self.gaussians.distances(maps, usable_cores()), self.sigma)

    def held_out_heat_maps_of(self, maps: Maps) -> Array:
        """Return the heat maps that images of the fit, (m, places, D), have from a model of all others."""
        with threadpool_limits(1, user_api="blas"):
            return smooth(self.gaussians.left_out(maps, usable_cores()), self.sigma)

    def score(self, features: Mapping[int, NDArray[Any]]) -> Scores:
        """Return the scores of features, level -> (m, places * D_level)."""
        heat_maps = self.heat_maps(features)
        of_whole = self.scale.of_whole(whole(heat_maps))
        return Scores(self.scale.score(heat_maps), heat_maps=heat_maps, whole=of_whole)

    def describe(self) -> list[tuple[str, str]]:
        """Describe the Gaussians for a person: name and text per line."""
        dim, kept = self.gaussians.basis.shape
        text = (
            f"{dim} features, {kept} kept, shrinkage {self.gaussians.intensity:.4f}, {self.grid} x {self.grid} places "
            f"of levels {format_levels(tuple(self.dims))}, smoothed by {self.sigma:g}"
        )
        return [("places", text)]


@dataclass(frozen=True)
class Distances:
    """The greatest, mean and median distances of m heat maps, (m,) each."""

    greatest: Array
    whole: Array
    median: Array


@dataclass(frozen=True)
class FittedPlaces:
    """A model of places, and the held-out scores (m,) of the images that it was made of, or that were added to it."""

    model: PlacesModel
    held_out: Array


def train_places(maps: KeptMaps, n: int, compression: Compression | None) -> FittedPlaces:
    """Fit a Gaussian per place to the first n images.

    Parameters
    ----------
    compression : of the image-wide covariance's directions; None: the default

    Raises
    ------
    UserError
        If the images do not vary.
    """
    options = PLACES if compression is None else replace(PLACES, compression=compression)
    with threadpool_limits(1, user_api="blas"):
        moments = gather_places(maps.read(0, n), usable_cores())
        _check_variance(moments)
        gaussians = _fit(moments, options)
    model = PlacesModel(maps.dims, gaussians, options.compression, SMOOTHING, 0.0, MapScale((0.0, 1.0), (0.0, 1.0)))
    held_out = _summarise(map(model.held_out_heat_maps_of, maps.read(0, n)))
    scale = fit_scale(held_out.greatest, held_out.whole)
    typical = float(np.median(held_out.median))
    return FittedPlaces(replace(model, typical=typical, scale=scale), scale.combine(held_out.greatest, held_out.whole))


def score_maps(model: PlacesModel, maps: Iterable[Maps]) -> Array:
    """Return the scores (m,) of joined maps that come in chunks."""
    return np.concatenate([np.zeros(0), *(model.scale.score(model.heat_maps_of(chunk)) for chunk in maps)])


def _summarise(heat_maps: Iterable[Array]) -> Distances:
    """Summarise heat maps (m, g, g) that come in chunks."""
    rows = [(greatest(chunk), whole(chunk), np.median(chunk, axis=(1, 2))) for chunk in heat_maps]
    return Distances(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _check_variance(moments: PlaceMoments) -> None:
    """Check that features vary by more than their rounding, which may differ between batches for the same image."""
    variance = np.einsum("pdd->", moments.second) / (moments.n - 1)
    if variance <= _ROUNDING**2 * np.square(moments.mean).sum():
        raise UserError("the normal images are all alike: there is nothing to learn from.")


def _fit(moments: PlaceMoments, options: PlaceOptions) -> PlaceGaussians:
    """Fit Gaussians whose factors are float16 numbers."""
    try:
        gaussians = fit_places(moments, options, usable_cores())
    except ValueError as error:  # also of a matrix that cannot be factorised
        raise UserError(f"no model can be made of the normal images: {error}.") from None
    with np.errstate(over="ignore"):
        factors = gaussians.factors.astype(np.float16).astype(np.float32)
    if not np.isfinite(factors).all():
        raise UserError("no model can be made of the normal images: some places vary too little. Give more images.")
    return replace(gaussians, factors=factors)


# --- adding images ---


@dataclass(frozen=True)
class UpdatedPlaces(FittedPlaces):
    """A model of places with images added, and their held-out scores.

    Attributes
    ----------
    shrunk : what the held-out scores of the images that it had before are multiplied by
    """

    shrunk: float


def update_places(model: PlacesModel, maps: KeptMaps) -> UpdatedPlaces:
    """Return the model with images added.

    Nothing of the old images is needed but the model: their means, and their covariances in the kept directions, which
    follow from the factors (see :func:`covariances`). Moments of old and new images are merged in these directions and
    a Gaussian per place is fitted again, so only what the first training left out stays left out.
    """
    old = model.gaussians
    with threadpool_limits(1, user_api="blas"):
        shift, moments = _deviations(old, maps)
        before = PlaceMoments(old.n, np.zeros_like(moments.mean), (old.n - 1) * covariances(old))
        inner = _fit(merge_places(before, moments), PlaceOptions(intensity=old.intensity))
    share = moments.n / inner.n
    gaussians = replace(
        inner,
        mean=(old.mean + share * shift).astype(np.float32),
        basis=(old.basis.astype(np.float64) @ inner.basis).astype(np.float32),
    )
    return _rescale(model, replace(model, gaussians=gaussians), maps)


def _rescale(model: PlacesModel, updated: PlacesModel, maps: KeptMaps) -> UpdatedPlaces:
    """Bring the scale of a model to its updated Gaussians, by the new images, which neither has seen."""
    before = _summarise(map(model.heat_maps_of, maps.read()))
    held_out = _summarise(map(updated.held_out_heat_maps_of, maps.read()))
    shrunk, share = shrunk_by(before.greatest, held_out.greatest), maps.n / updated.n
    typical = (1.0 - share) * shrunk * model.typical + share * float(np.median(held_out.median))
    scale = model.scale.times(shrunk, shrunk_by(before.whole, held_out.whole))
    scores = scale.combine(held_out.greatest, held_out.whole)
    return UpdatedPlaces(replace(updated, typical=typical, scale=scale), scores, shrunk)


def shrunk_by(before: Array, held_out: Array) -> float:
    """Return by what the held-out distances of old images are multiplied when images were added, at most 1.

    The more images a model has, the smaller its held-out distances. How much smaller they have become is measured on
    the new images, which neither model has seen: it is the median of the ratios of their distances.

    Parameters
    ----------
    before, held_out : (m,) of the new images, by the model as it was, and held out of the updated one
    """
    return min(1.0, float(np.median(held_out / before)))


def covariances(gaussians: PlaceGaussians) -> Array:
    """Return the places' own covariances S_p in the kept directions, (P, k, k) float64.

    The factors W have them: ``(W'W)^-1 = (1 - rho) S_p + rho I``. With factors in float16, the largest error of a
    direction's variance was 0.2 %, less than if S_p itself were rounded so (docs/places.md).
    """
    inverse = np.linalg.inv(gaussians.factors.astype(np.float64))
    rho, size = gaussians.intensity, gaussians.basis.shape[1]
    return np.asarray((inverse @ inverse.transpose(0, 2, 1) - rho * np.eye(size)) / (1.0 - rho))


def _deviations(old: PlaceGaussians, maps: KeptMaps) -> tuple[Array, PlaceMoments]:
    """Return the mean deviation (P, D) of new images from the old means, and moments in the old kept directions."""
    total = np.zeros(old.mean.shape)

    def projected() -> Iterable[Maps]:
        for chunk in maps.read():
            total[:] += (chunk - old.mean).sum(axis=0, dtype=np.float64)
            yield np.stack([old.project(image) for image in chunk])

    moments = gather_places(projected(), usable_cores())
    return total / moments.n, moments
