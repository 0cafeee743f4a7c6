"""What an experiment costs: time, memory and disk as functions of images, epochs, backbones and folds.

The speeds are of one machine, two shared x86-64 cores with AVX2, and were fitted to `scripts/cost.py`, which measures
again; docs/cost.md has the ratios of prediction to measurement. On other machines the model is right in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence

from gaussad_cli.datasets.folds import N_FOLDS
from gaussad_cli.extraction.store import ON_DISK

FLOAT32, FLOAT64 = 4, 8  # bytes

# Extraction, by the onnx engine on both cores (docs/speed.md).
MACS_PER_SECOND = 40e9  # multiply-adds, of EfficientNet-B4 as of Lite0 within a third
VIEWS_PER_SECOND = 1100.0  # decoded, augmented, resized

# The fit, on one core. A decomposition of (n, D) costs n * D * min(n, D) and, where that is small, n * D.
SVD_PER_SECOND, SVD_VALUES_PER_SECOND = 2.5e9, 10e6
FOLDS_PER_SECOND, FOLDS_VALUES_PER_SECOND = 4.5e9, 12e6  # of all folds from moments: n * D^2, n * D
EIGEN_PER_SECOND = 3.3e9  # D^3
PROJECTION_PER_SECOND = 5e9  # multiply-adds

# The rest of an evaluation: Python, pandas and the files.
START_SECONDS = 0.1
SCORING_SECONDS = 1.2e-3  # of one fold, level and scoring
ROW_SECONDS = 25e-6  # of an image's distances by one level and scoring, five folds, written as text
HASHED_PER_SECOND = 0.5e9  # bytes of features read, checked and hashed


def feature_bytes(n_images: int, epochs: int, dims: Sequence[int]) -> int:
    """Return the bytes of cached features of levels of D features each; epochs 0: of the images as they are."""
    return FLOAT32 * n_images * max(1, epochs) * sum(dims)


def spectra_bytes(n_train_images: int, epochs: int, dims: Sequence[int]) -> int:
    """Return the bytes of the spectra of all folds: eigenvectors (D, r), 3 vectors of D and 3 of r, in float64."""
    n = _fold_size(n_train_images, epochs)
    return N_FOLDS * FLOAT64 * sum(dim * min(n, dim) + 3 * dim + 3 * min(n, dim) for dim in dims)


def extraction_seconds(
    n_views: int, macs: int, rate_macs_per_s: float = MACS_PER_SECOND, images_per_s: float | None = None
) -> float:
    """Return the seconds that views take to decode and to pass a network of so many multiply-adds.

    Parameters
    ----------
    n_views : images, or images times epochs
    images_per_s : a measured rate, taken instead of the two of the model
    """
    return n_views / images_per_s if images_per_s else n_views * (macs / rate_macs_per_s + 1.0 / VIEWS_PER_SECOND)


def evaluation_seconds(n_train: int, n_test: int, epochs: int, dims: Sequence[int], n_scorings: int) -> float:
    """Return the seconds that fitting and scoring all folds of a category's levels take, on one core."""
    fit = sum(fit_seconds(n_train, epochs, dim) for dim in dims)
    n = _fold_size(n_train, epochs)
    projected = N_FOLDS * n_test * sum(dim * min(n, dim) * (1 if n > dim else 2) for dim in dims)
    scored = (len(dims) + 1) * n_scorings  # the sum over the levels is one more
    read = feature_bytes(n_train, epochs, dims) + feature_bytes(n_test, 0, dims)
    return (
        START_SECONDS
        + fit
        + projected / PROJECTION_PER_SECOND
        + scored * (N_FOLDS * SCORING_SECONDS + n_test * ROW_SECONDS)
        + read / HASHED_PER_SECOND
    )


def fit_seconds(n_train: int, epochs: int, dim: int) -> float:
    """Return the seconds that the spectra of all folds of one level take.

    Levels where moments do not resolve the smallest components, dead features among them, take up to 2.3 times as long.
    """
    n = _fold_size(n_train, epochs)
    if not _is_streamed(n_train, epochs, dim):
        return N_FOLDS * n * dim * (min(n, dim) / SVD_PER_SECOND + 1.0 / SVD_VALUES_PER_SECOND)
    views = n_train * max(1, epochs)
    moments = views * dim * (dim / FOLDS_PER_SECOND + 1.0 / FOLDS_VALUES_PER_SECOND)
    return moments + N_FOLDS * dim**3 / EIGEN_PER_SECOND


def _is_streamed(n_train: int, epochs: int, dim: int) -> bool:
    """Whether a level is fitted from moments, as `fit` does: augmented or many, and more features than dimensions."""
    return _fold_size(n_train, epochs) > dim and bool(epochs or FLOAT32 * n_train * dim > ON_DISK)


def _fold_size(n_train: int, epochs: int) -> int:
    """Return the training features that one fold is fitted to."""
    return n_train * (N_FOLDS - 1) // N_FOLDS * max(1, epochs)
