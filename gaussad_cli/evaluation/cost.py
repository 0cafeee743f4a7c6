"""What an experiment costs: time, memory and disk as functions of images, epochs, backbones and folds."""

from __future__ import annotations

from collections.abc import Sequence

from gaussad_cli.datasets.folds import N_FOLDS

MACS_PER_SECOND = 40e9  # multiply-adds of EfficientNet-B4 by the onnx engine on two CPU cores (README, Speed)
VIEWS_PER_SECOND = 1100.0  # decoded, augmented and resized on two CPU cores (README, Speed)
FLOPS_PER_SECOND = 10e9  # of small matrix products on one core
FLOAT32, FLOAT64 = 4, 8  # bytes


def feature_bytes(n_images: int, epochs: int, dims: Sequence[int]) -> int:
    """Return the bytes of cached features of levels of D features each; epochs 0: of the images as they are."""
    return FLOAT32 * n_images * max(1, epochs) * sum(dims)


def spectra_bytes(n_train_images: int, epochs: int, dims: Sequence[int]) -> int:
    """Return the bytes of the spectra of all folds."""
    n = n_train_images * (N_FOLDS - 1) // N_FOLDS * max(1, epochs)
    return N_FOLDS * FLOAT64 * sum(dim * min(n, dim) + 3 * dim + 3 * min(n, dim) for dim in dims)


def extraction_seconds(
    n_views: int, macs: int, rate_macs_per_s: float = MACS_PER_SECOND, images_per_s: float | None = None
) -> float:
    """Return the seconds that views take through a network of so many multiply-adds each."""
    return n_views / images_per_s if images_per_s else n_views * (macs / rate_macs_per_s + 1.0 / VIEWS_PER_SECOND)


def evaluation_seconds(n_train: int, n_test: int, epochs: int, dims: Sequence[int], n_scorings: int) -> float:
    """Return the seconds that fitting and scoring all folds of a category's levels take."""
    n = n_train * max(1, epochs)
    work = sum(4 * dim * min(n, dim) * (n + n_test) + 2 * n_scorings * n_test * dim for dim in dims)
    return 0.5 + N_FOLDS * work / FLOPS_PER_SECOND
