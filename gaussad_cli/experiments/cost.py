"""The cost of an experiment: time and disk space as functions of images, epochs, backbones and folds.

The speeds are those of one machine with two shared x86-64 cores and AVX2, fitted to measurements of `scripts/cost.py`;
docs/cost.md has the ratios of prediction to measurement. On other machines, the times change by a factor.
"""

from __future__ import annotations

from collections.abc import Sequence

from gaussad_cli.datasets.folds import N_FOLDS
from gaussad_cli.extraction.store import ON_DISK

FLOAT32, FLOAT64 = 4, 8  # bytes

# Extraction with the onnx engine on both cores (docs/speed.md).
MACS_PER_SECOND = 40e9  # multiply-adds; EfficientNet-B4 and Lite0 agree within a third
VIEWS_PER_SECOND = 1100.0  # decoded, augmented, resized
STORED_PER_SECOND = 100e6  # bytes of features: hashed and written as shards, then read, hashed and written as a level

# The fit on one core. A decomposition of (n, D) costs n * D * min(n, D), plus n * D, which matters if D is small.
SVD_PER_SECOND, SVD_VALUES_PER_SECOND = 2.5e9, 10e6
FOLDS_PER_SECOND, FOLDS_VALUES_PER_SECOND = 4.5e9, 12e6  # all folds from moments: n * D^2, n * D
EIGEN_PER_SECOND = 3.3e9  # D^3
PROJECTION_PER_SECOND = 5e9  # multiply-adds
PLACES_PER_SECOND = 10e9  # multiply-adds, with joining the levels
MAP_SECONDS = 15e-3  # per test image: its map at the mask's resolution, its pixels sorted and counted

# The rest of an evaluation: Python, pandas and files.
START_SECONDS = 0.1
SCORING_SECONDS = 1.2e-3  # per fold, level and scoring
ROW_SECONDS = 25e-6  # to write an image's five distances of one level and scoring as text
HASHED_PER_SECOND = 0.5e9  # bytes of features read, checked and hashed


def feature_bytes(n_images: int, epochs: int, dims: Sequence[int]) -> int:
    """Return the bytes of cached features; `dims` are the levels' D, and 0 epochs means the original images."""
    return FLOAT32 * n_images * max(1, epochs) * sum(dims)


def spectra_bytes(n_train_images: int, epochs: int, dims: Sequence[int]) -> int:
    """Return the bytes of the spectra of all folds: eigenvectors (D, r), 3 vectors of D and 3 of r, in float64."""
    n = _fold_size(n_train_images, epochs)
    return N_FOLDS * FLOAT64 * sum(dim * min(n, dim) + 3 * dim + 3 * min(n, dim) for dim in dims)


def extraction_seconds(
    n_views: int, macs: int, rate_macs_per_s: float = MACS_PER_SECOND, images_per_s: float | None = None
) -> float:
    """Return the seconds to decode views and to run them through a network of `macs` multiply-adds.

    Parameters
    ----------
    n_views : images, or images times epochs
    images_per_s : a measured rate, which replaces the two rates of the model
    """
    return n_views / images_per_s if images_per_s else n_views * (macs / rate_macs_per_s + 1.0 / VIEWS_PER_SECOND)


def evaluation_seconds(n_train: int, n_test: int, epochs: int, dims: Sequence[int], n_scorings: int) -> float:
    """Return the seconds to fit and score all folds of a category's levels on one core."""
    fit = sum(fit_seconds(n_train, epochs, dim) for dim in dims)
    n = _fold_size(n_train, epochs)
    projected = N_FOLDS * n_test * sum(dim * min(n, dim) * (1 if n > dim else 2) for dim in dims)
    scored = (len(dims) + 1) * n_scorings  # the sum over levels counts as one more level
    read = feature_bytes(n_train, epochs, dims) + feature_bytes(n_test, 0, dims)
    return (
        START_SECONDS
        + fit
        + projected / PROJECTION_PER_SECOND
        + scored * (N_FOLDS * SCORING_SECONDS + n_test * ROW_SECONDS)
        + read / HASHED_PER_SECOND
    )


def fit_seconds(n_train: int, epochs: int, dim: int) -> float:
    """Return the seconds to fit the spectra of all folds of one level.

    Levels whose smallest components moments do not resolve, such as dead features, take up to 2.3 times as long.
    """
    n = _fold_size(n_train, epochs)
    if not _is_streamed(n_train, epochs, dim):
        return N_FOLDS * n * dim * (min(n, dim) / SVD_PER_SECOND + 1.0 / SVD_VALUES_PER_SECOND)
    views = n_train * max(1, epochs)
    moments = views * dim * (dim / FOLDS_PER_SECOND + 1.0 / FOLDS_VALUES_PER_SECOND)
    return moments + N_FOLDS * dim**3 / EIGEN_PER_SECOND


def places_seconds(n_train: int, n_test: int, epochs: int, places: int, dim: int) -> float:
    """Return the seconds to fit and score all folds of a category's places on both cores; `dim` is D of all levels.

    Every fold gathers the moments of its images, factorises a covariance per place, and scores its images and the test
    set; where there are masks, each fold sorts the test set's pixels.
    """
    n = _fold_size(n_train, epochs)
    work = N_FOLDS * places * ((n + n_test) * dim**2 + dim**3)
    return START_SECONDS + work / PLACES_PER_SECOND + N_FOLDS * n_test * MAP_SECONDS


def _is_streamed(n_train: int, epochs: int, dim: int) -> bool:
    """Whether `fit` uses moments: for augmented or very large features that outnumber the dimensions."""
    return _fold_size(n_train, epochs) > dim and bool(epochs or FLOAT32 * n_train * dim > ON_DISK)


def _fold_size(n_train: int, epochs: int) -> int:
    """Return the number of training features that one fold is fitted to."""
    return n_train * (N_FOLDS - 1) // N_FOLDS * max(1, epochs)
