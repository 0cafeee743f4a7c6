"""The five folds of the paper's evaluation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_FOLDS = 5
FOLD_SEED = 0


def training_folds(n: int) -> list[NDArray[np.intp]]:
    """Return, per fold, the indices of the images that its model is fitted to (PROTOCOL: evaluation).

    The folds are scikit-learn's ``KFold(5, shuffle=True, random_state=0)`` over the n sorted training images. Every
    fold scores the complete test set; the paper does not use the held-out fifth.
    """
    return [fitted for fitted, _ in _split(n)]


def held_out_parts(n: int) -> list[NDArray[np.intp]]:
    """Return, per fold, the indices of the fifth that its model is not fitted to; every image is in one such fifth."""
    return [held_out for _, held_out in _split(n)]


def _split(n: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    from sklearn.model_selection import KFold

    return list(KFold(N_FOLDS, shuffle=True, random_state=FOLD_SEED).split(np.empty(n)))
