"""Where a distance comes from: in a pooled model, which places and principal components; of a place, which levels.

The distance of an image at a level is M(mean of f_l), where f_l are its local features, one per place of the feature
map. Two maps show where it comes from; neither is a segmentation:

- The *distance map* M(f_l) scores each place alone. But the Gaussian was fitted to pooled features, which vary far less
  than local ones. So the values are large everywhere, especially at edges, their mean is not the image's distance, and
  no threshold or p-value holds for them. The map therefore shows ratios to its own median.
- The *contribution map* (f_l - mu)' P (pooled - mu), with P the inverse covariance, is exact: its mean over the places
  is the image's squared distance. Negative values pulled the pooled features back towards normal.

Both maps also show what merely differs from place to place, such as a rim or a background. Where objects are aligned, a
few normal images help: the mean of their maps, less its own mean over the places, is the normal *pattern*, which is
subtracted first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.gaussian.compression import Compression, component_range
from gaussad_cli.gaussian.distances import deviate, mahalanobis, project, shrunk_inverse
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.places import PlaceGaussians
from gaussad_cli.gaussian.shrinkage import Shrinkage
from gaussad_cli.gaussian.spectrum import Spectrum

N_LARGEST = 8  # components that are listed individually
LEADING = Compression("pca", 0.99)  # the components that PCA 99 % keeps (Table III); the others are trailing

Maps = Mapping[int, NDArray[Any]]  # level -> (D, H, W)
Shares = dict[int, float]


@dataclass(frozen=True)
class Located:
    """The places that the distance of a level comes from.

    Attributes
    ----------
    distance : (H, W), M(f_l) divided by its median
    contribution : (H, W), signed; the mean is the image's squared distance
    """

    distance: Array
    contribution: Array


@dataclass(frozen=True)
class Component:
    """The part that one principal component has in the squared distance of a level.

    Attributes
    ----------
    number : 1 is the most variant component
    leading : whether it is one of the components that explain 99 % of the training variance
    share : its share of the squared distance
    deviations : the image's deviation from the mean along the component, in training standard deviations, signed
    """

    number: int
    leading: bool
    share: float
    deviations: float


@dataclass(frozen=True)
class Group:
    """A group of components.

    Attributes
    ----------
    name : "leading" (99 % of the training variance), "trailing" (the rest), or "outside" (no training variance at all)
    size : number of components, or of dimensions outside
    share : share of the image's squared distance
    expected : share of the mean squared distance of the training features
    """

    name: str
    size: int
    share: float
    expected: float


@dataclass(frozen=True)
class Directions:
    """The directions of feature space that the squared distance of a level comes from: groups, and the largest ones."""

    groups: tuple[Group, ...]
    largest: tuple[Component, ...]


def normal_pattern(maps: Iterable[Maps]) -> dict[int, Array]:
    """Return what the feature maps of normal images have in common: their mean, less its mean over space; (D, H, W)."""
    total: dict[int, Array] = {}
    n = 0
    for of_image in maps:
        n += 1
        for level, values in of_image.items():
            total[level] = total.get(level, 0.0) + values.astype(np.float64)
    return {level: (sums - sums.mean(axis=(1, 2), keepdims=True)) / n for level, sums in total.items()}


def typical_distance(spectrum: Spectrum, shrinkage: Shrinkage) -> float:
    """Return the root mean squared distance of the training features, from the eigenvalues alone."""
    return float(np.sqrt(_kept(spectrum, shrinkage) @ shrunk_inverse(spectrum, shrinkage).inside))


def locate(spectrum: Spectrum, shrinkage: Shrinkage, local: NDArray[Any], pattern: Array | None = None) -> Located:
    """Return which places the distance of a level comes from; see the module.

    Parameters
    ----------
    local : (D, H, W) feature map
    pattern : (D, H, W) of normal images, zero on average over space, which is subtracted first
    """
    plain = local.astype(np.float64) if pattern is None else local - pattern
    rows, shape = plain.reshape(len(local), -1).T, local.shape[1:]
    distance = mahalanobis(project(spectrum, rows), spectrum, shrinkage).reshape(shape)
    deviations, inverse = deviate(spectrum, rows), shrunk_inverse(spectrum, shrinkage)
    pooled = deviations.mean(axis=0)
    components = pooled @ inverse.vectors
    residual = pooled - inverse.vectors @ components
    weighted = inverse.vectors @ (inverse.inside * components) + inverse.outside * residual
    return Located(distance / (np.median(distance) or 1.0), (deviations @ weighted).reshape(shape))


def direct(spectrum: Spectrum, shrinkage: Shrinkage, pooled: NDArray[Any]) -> Directions:
    """Return the directions that the squared distance of a pooled feature (D,) comes from."""
    inverse, eigenvalues = shrunk_inverse(spectrum, shrinkage), _kept(spectrum, shrinkage)
    deviations = deviate(spectrum, pooled[None])[0]
    components = deviations @ inverse.vectors
    residual = deviations - inverse.vectors @ components
    parts = np.append(np.square(components) * inverse.inside, inverse.outside * (residual @ residual))
    shares = parts / (parts.sum() or 1.0)
    expected = np.append(eigenvalues * inverse.inside, 0.0)
    n_leading = int(np.clip(component_range(spectrum.eigenvalues, LEADING)[1] - shrinkage.start, 0, eigenvalues.size))
    largest = [
        Component(
            number=int(shrinkage.start + j + 1),
            leading=bool(j < n_leading),
            share=float(shares[j]),
            deviations=float(components[j] / np.sqrt(eigenvalues[j])),
        )
        for j in np.argsort(-shares[:-1])[:N_LARGEST]
    ]
    n_outside = shrinkage.dim - eigenvalues.size if inverse.outside else 0
    return Directions(_group(shares, expected / (expected.sum() or 1.0), n_leading, n_outside), tuple(largest))


def level_shares(places: PlaceGaussians, image: NDArray[np.float32], place: int, dims: Mapping[int, int]) -> Shares:
    """Return which levels the squared distance of an image at a place comes from: level -> share, of sum 1.

    With y a channel's deviation from the mean, B the basis, and W the place's factor, the squared distance is
    y' (B W' W B') y, a sum over channels of y times what is to its right. A level's share is the sum over its channels;
    it is negative where these pull towards normal what the others push away.

    Parameters
    ----------
    image : (P, D), the channels of the levels one after the other
    dims : level -> number of channels, ascending
    """
    basis, factor = (values.astype(np.float64) for values in (places.basis, places.factors[place]))
    deviations = image[place].astype(np.float64) - places.mean[place]
    parts = deviations * (basis @ (factor.T @ (factor @ (deviations @ basis))))
    by_level = np.split(parts, np.cumsum(list(dims.values()))[:-1])
    return {level: float(values.sum() / (parts.sum() or 1.0)) for level, values in zip(dims, by_level, strict=True)}


def _group(shares: Array, expected: Array, n_leading: int, n_outside: int) -> tuple[Group, ...]:
    """Sum up the shares (k + 1,) of k components and of the directions outside; empty groups are left out."""
    k = shares.size - 1
    groups = [
        Group("leading", n_leading, float(shares[:n_leading].sum()), float(expected[:n_leading].sum())),
        Group("trailing", k - n_leading, float(shares[n_leading:k].sum()), float(expected[n_leading:k].sum())),
        Group("outside", n_outside, float(shares[k]), float(expected[k])),
    ]
    return tuple(group for group in groups if group.size)


def _kept(spectrum: Spectrum, shrinkage: Shrinkage) -> Array:
    return spectrum.eigenvalues[shrinkage.start : shrinkage.stop]
