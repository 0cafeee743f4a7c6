"""Where a level's distance comes from: over the image, and over the principal components.

An image's distance at a level is M(mean of f_l) of its local features f_l, pooled over the feature map. Two maps say
where it comes from; neither is a segmentation:

- The *distance map* M(f_l) asks the Gaussian about each place alone. That Gaussian was fitted to pooled features,
  which vary far less than local ones: the values are large everywhere, at edges most of all, their mean is not the
  image's distance, and no threshold or p-value holds for them. So the map shows ratios to its own median.
- The *contribution map* (f_l - mu)' P (pooled - mu) is exact: its mean over the places is the image's squared
  distance. What is negative pulled the pooled features back towards normal.

Both mix what is unusual with what merely differs between places (a rim, a background). Some normal images settle that
where objects are aligned: the mean of their maps, less its own mean, is the normal *pattern*, and is taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.detector.precision import deviate, precision
from gaussad_cli.gaussian.compression import Compression, component_range
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.shrinkage import Shrinkage
from gaussad_cli.gaussian.spectrum import Spectrum

N_LARGEST = 8  # components named one by one
LEADING = Compression("pca", 0.99)  # what Table III calls PCA 99 %; the rest trails

Maps = Mapping[int, NDArray[Any]]  # level -> (D, H, W)


@dataclass(frozen=True)
class Located:
    """Where a level's distance comes from.

    Attributes
    ----------
    distance : (H, W), M(f_l) over its median
    contribution : (H, W), signed; their mean is the image's squared distance
    """

    distance: Array
    contribution: Array


@dataclass(frozen=True)
class Component:
    """A principal component's part in a level's squared distance.

    Attributes
    ----------
    number : 1 is the most variant
    leading : whether it is one of those that explain 99 % of the training variance
    share : of the squared distance
    deviations : of the image from the mean along it, in training standard deviations, signed
    """

    number: int
    leading: bool
    share: float
    deviations: float


@dataclass(frozen=True)
class Group:
    """Components taken together.

    Attributes
    ----------
    name : "leading" (99 % of the training variance), "trailing" (the rest), or "outside" (no training variance at all)
    size : components, or dimensions
    share : of the image's squared distance
    expected : share of the mean squared distance of the training features
    """

    name: str
    size: int
    share: float
    expected: float


@dataclass(frozen=True)
class Directions:
    """Along which directions of feature space a level's squared distance lies: all of it, and the largest parts."""

    groups: tuple[Group, ...]
    largest: tuple[Component, ...]


def normal_pattern(maps: Iterable[Maps]) -> dict[int, Array]:
    """Return what normal images' feature maps have in common: their mean, less its own mean over space; (D, H, W)."""
    total: dict[int, Array] = {}
    n = 0
    for one in maps:
        n += 1
        for level, values in one.items():
            total[level] = total.get(level, 0.0) + values.astype(np.float64)
    return {level: (one - one.mean(axis=(1, 2), keepdims=True)) / n for level, one in total.items()}


def typical_distance(spectrum: Spectrum, shrinkage: Shrinkage) -> float:
    """Return the root mean squared distance of the training features, from the eigenvalues alone."""
    return float(np.sqrt(_kept(spectrum, shrinkage) @ precision(spectrum, shrinkage).inside))


def locate(spectrum: Spectrum, shrinkage: Shrinkage, local: NDArray[Any], pattern: Array | None = None) -> Located:
    """Return where a level's distance comes from; see the module.

    Parameters
    ----------
    local : (D, H, W) feature map
    pattern : (D, H, W) of normal images, zero on average over space, to take away first
    """
    inverse, shape = precision(spectrum, shrinkage), local.shape[1:]
    plain = local.astype(np.float64) if pattern is None else local - pattern
    deviations = deviate(spectrum, plain.reshape(len(local), -1).T)
    squared = np.einsum("ld,ld->l", deviations, inverse.times(deviations))
    distance = np.sqrt(np.maximum(squared, 0.0)).reshape(shape)
    contribution = deviations @ inverse.times(deviations.mean(axis=0, keepdims=True))[0]
    return Located(distance / (np.median(distance) or 1.0), contribution.reshape(shape))


def direct(spectrum: Spectrum, shrinkage: Shrinkage, pooled: NDArray[Any]) -> Directions:
    """Return along which directions the squared distance of a pooled feature (D,) lies."""
    inverse, eigenvalues = precision(spectrum, shrinkage), _kept(spectrum, shrinkage)
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


def _group(shares: Array, expected: Array, n_leading: int, n_outside: int) -> tuple[Group, ...]:
    """Sum up shares (k + 1,), of k components and of what lies outside them; groups of no dimension are left out."""
    k = shares.size - 1
    groups = [
        Group("leading", n_leading, float(shares[:n_leading].sum()), float(expected[:n_leading].sum())),
        Group("trailing", k - n_leading, float(shares[n_leading:k].sum()), float(expected[n_leading:k].sum())),
        Group("outside", n_outside, float(shares[k]), float(expected[k])),
    ]
    return tuple(group for group in groups if group.size)


def _kept(spectrum: Spectrum, shrinkage: Shrinkage) -> Array:
    return spectrum.eigenvalues[shrinkage.start : shrinkage.stop]
