"""A detector: the identity of its network, Gaussians per level or per place, and a calibrated threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.detector.places import PlacesModel
from gaussad_cli.detector.scores import Scores
from gaussad_cli.gaussian import distances
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.leave_one_out import leave_one_out
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import mean_of
from gaussad_cli.gaussian.shrinkage import Shrinkage, shrink
from gaussad_cli.gaussian.spectrum import Spectrum, fit_spectrum
from gaussad_cli.gaussian.thresholds import conformal_threshold

HASH_DIGITS = 16  # leading hexadecimal digits of an image's SHA-256 that a model keeps


@dataclass(frozen=True)
class BackboneIdentity:
    """The network and all that its features depend on. Only features from the same network can be scored.

    Attributes
    ----------
    name : such as "efficientnet-b4"
    weights, weights_sha256 : label in results, and hash of the weight file
    padding : "paper", "tf" or "native"
    input_size : pixels
    mean, std : per-channel normalisation of RGB in [0, 1]
    preprocessing : name of the rule from file to network input
    engine, precision : how the features of the training images were computed
    grid : places per side; 0 for features averaged over the whole image
    """

    name: str
    weights: str
    weights_sha256: str
    padding: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: str
    engine: str
    precision: str
    grid: int = 0


@dataclass(frozen=True)
class LevelModel:
    """The Gaussian of one level, fitted to n images, and their features, with which images can be added later.

    Attributes
    ----------
    level : 1 is the first
    spectrum : of the n images. Its fourth moments are empty, because the shrinkage that they give is already known
    shrinkage : of the kept components
    compression : says which components are kept
    features : (n, D) float32 of the n images; None in files of gaussad models that did not keep them
    """

    level: int
    spectrum: Spectrum
    shrinkage: Shrinkage
    compression: Compression
    features: NDArray[np.float32] | None = None

    @property
    def n(self) -> int:
        """The number of images."""
        return self.spectrum.n

    def score(self, features: NDArray[Any]) -> Array:
        """Return the Mahalanobis distances of features (m, D), (m,) float64."""
        with threadpool_limits(1, user_api="blas"):  # small matrices: threads cost more than they give
            projection = distances.project(self.spectrum, features)
            return distances.mahalanobis(projection, self.spectrum, self.shrinkage)


@dataclass(frozen=True)
class PooledModel:
    """A Gaussian per level of features averaged over the image (the paper's); the score is the mean of their distances.

    Attributes
    ----------
    levels : ascending
    """

    levels: tuple[LevelModel, ...]

    @property
    def n(self) -> int:
        """The number of images."""
        return self.levels[0].n

    @property
    def dims(self) -> dict[int, int]:
        """Level -> number of features, ascending."""
        return {level.level: level.spectrum.dim for level in self.levels}

    def score(self, features: Mapping[int, NDArray[Any]]) -> Scores:
        """Return the scores of features, level -> (m, D)."""
        by_level = {level.level: level.score(features[level.level]) for level in self.levels}
        return Scores(combine(by_level), by_level)

    @property
    def compression(self) -> Compression:
        """Says which components are kept, at every level."""
        return self.levels[0].compression

    def describe(self) -> list[tuple[str, str]]:
        """Describe the Gaussians for a person: name and text per line."""
        return [
            (
                f"level {level.level}",
                f"{level.spectrum.dim} features, {level.shrinkage.dim} kept, shrinkage {level.shrinkage.intensity:.4f}",
            )
            for level in self.levels
        ]


def fit_level(level: int, features: NDArray[Any], compression: Compression = NO_COMPRESSION) -> LevelModel:
    """Fit the Gaussian of one level to features (n, D), n >= 2.

    Raises
    ------
    ValueError
        If the features are not of that shape, or not finite.
    """
    with threadpool_limits(1, user_api="blas"):
        spectrum = fit_spectrum(features)
    # Without fourth moments, shrinking the spectrum again is an error, not a wrong number.
    kept = replace(spectrum, fourth_leading=np.zeros(0), fourth_trailing=np.zeros(0))
    return LevelModel(level, kept, shrink(spectrum, compression), compression, np.asarray(features, np.float32))


def fit_levels(features: Mapping[int, NDArray[Any]], compression: Compression) -> tuple[LevelModel, ...]:
    """Fit a Gaussian per level to features, level -> (n, D); see :func:`fit_level`."""
    return tuple(fit_level(level, rows, compression) for level, rows in sorted(features.items()))


def calibrate(levels: Sequence[LevelModel], fpr: float) -> Calibration:
    """Calibrate a model on its own images, each at its distance from the Gaussians of all others.

    Raises
    ------
    ValueError
        If a level does not hold the features of its images.
    """
    distances = {}
    for level in levels:
        if level.features is None:
            raise ValueError(f"level {level.level} holds no features")
        with threadpool_limits(1, user_api="blas"):
            distances[level.level] = leave_one_out(level.features, level.compression, level.spectrum)
    return calibration_of(combine(distances), fpr)


def calibration_of(held_out: Array, fpr: float) -> Calibration:
    """Return the calibration by held-out distances (n,) of normal images for a false-positive rate."""
    return Calibration(np.sort(held_out), fpr, float(conformal_threshold(held_out, fpr)), held_out)


def lowest_rate(n: int) -> str:
    """Say how low a false-positive rate n images can be calibrated for."""
    return f"{n} images allow false-positive rates down to {100.0 / (n + 1):.2g} %"


@dataclass(frozen=True)
class Calibration:
    """Distances of normal images from Gaussians that were not fitted to them, and the threshold derived from them.

    Attributes
    ----------
    distances : (k,), ascending
    fpr : the wanted false-positive rate
    threshold : an image is anomalous if its distance is greater
    by_image : (n,) the same distances in the order of the images; None where the model was read from a file
    """

    distances: Array
    fpr: float
    threshold: float
    by_image: Array | None = None

    def p_values(self, distance: Array) -> Array:
        """Return, for each distance (m,), the share of normal images that are at least as far out, (m,).

        The image itself counts as one of them, so no p-value is 0.
        """
        k = self.distances.size
        return (k - np.searchsorted(self.distances, distance, side="left") + 1) / (k + 1)


@dataclass(frozen=True)
class Model:
    """A trained detector.

    Attributes
    ----------
    backbone : the network that features must come from
    gaussians : of features averaged over the image, or of places
    calibration : gives the threshold and p-values
    provenance : how the model was made, JSON-able
    hashes : the first :data:`HASH_DIGITS` digits of the SHA-256 of every image that the model was fitted to
    network : the ONNX graph of the network, weights inside; empty in models of older gaussads, and where the network
        cannot be exported
    """

    backbone: BackboneIdentity
    gaussians: PooledModel | PlacesModel
    calibration: Calibration
    provenance: Mapping[str, Any]
    hashes: tuple[str, ...] = ()
    network: bytes = field(default=b"", repr=False)

    @property
    def n(self) -> int:
        """The number of images that the model was fitted to."""
        return self.gaussians.n

    @property
    def levels(self) -> tuple[LevelModel, ...]:
        """The Gaussian of every level; none if this is a model of places."""
        return self.gaussians.levels if isinstance(self.gaussians, PooledModel) else ()

    @property
    def places(self) -> PlacesModel | None:
        """The Gaussians of places; None if this is a pooled model."""
        return self.gaussians if isinstance(self.gaussians, PlacesModel) else None

    @property
    def level_numbers(self) -> tuple[int, ...]:
        """The levels whose features are needed, ascending."""
        return tuple(self.gaussians.dims)

    def score(self, features: Mapping[int, NDArray[Any]]) -> Array:
        """Return the score (m,) of features, level -> (m, D): the greater, the more anomalous."""
        return self.gaussians.score(features).total


def combine(by_level: Mapping[int, Array]) -> Array:
    """Return the score (m,) from the distances (m,) of every level: their mean, which ranks as the paper's sum does."""
    return mean_of(list(by_level.values()))
