"""AUROC against the number of components that PCA and NPCA keep: Table III shows five points of this curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.evaluation.category import OpenCategory, read_test
from gaussad_cli.evaluation.metrics import auroc
from gaussad_cli.evaluation.rows import identify
from gaussad_cli.evaluation.scorings import MAHALANOBIS
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.distances import project, sweep_dims, sweep_leading, sweep_trailing
from gaussad_cli.gaussian.spectrum import Spectrum

POINTS = 40  # the largest number of points per level
_WAYS = {"pca": sweep_leading, "npca": sweep_trailing}


def sweep_level(category: OpenCategory, level: int, spectra: Sequence[Spectrum]) -> pd.DataFrame:
    """Return rows for `sweeps.csv`: the mean AUROC over folds for each mode and number of kept components.

    Raises
    ------
    UserError
        If the cached test features are missing, damaged or not finite.
    """
    test = read_test(category, level, spectra[0].dim)
    key = {**identify(category), "level": str(level), "score": MAHALANOBIS, "var": None}
    return pd.DataFrame([{**key, **row} for row in _sweep(spectra, test, category.anomalous)])


def _sweep(spectra: Sequence[Spectrum], test: store.Features, anomalous: NDArray[np.bool_]) -> list[dict[str, object]]:
    dims = sweep_dims(min(spectrum.rank for spectrum in spectra), POINTS)
    if not dims.size:
        return []
    with threadpool_limits(1, user_api="blas"):
        projections = [project(spectrum, test) for spectrum in spectra]
        distances = {
            mode: [sweep(*pair, dims) for pair in zip(projections, spectra, strict=True)]
            for mode, sweep in _WAYS.items()
        }
    return [
        {"mode": mode, "dim": int(dim), "auroc": np.mean([auroc(fold[i], anomalous) for fold in folds])}
        for mode, folds in distances.items()
        for i, dim in enumerate(dims)
    ]
