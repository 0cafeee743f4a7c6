"""AUROC against the number of kept components, PCA and NPCA: the curve that Table III has five points of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.datasets.index import NORMAL
from gaussad_cli.evaluation.evaluate import identify, read_spectra, read_test_features
from gaussad_cli.evaluation.metrics import auroc
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.distances import project, sweep_dims, sweep_leading, sweep_trailing
from gaussad_cli.gaussian.spectrum import Spectrum

POINTS = 40  # numbers of components per level, at most
_WAYS = {"pca": sweep_leading, "npca": sweep_trailing}


def sweep_category(extraction: store.Extraction, category: str, levels: Sequence[int]) -> pd.DataFrame:
    """Return rows for `sweeps.csv`: per level, mode and number of kept components, the mean AUROC over folds.

    Raises
    ------
    UserError
        If cached features are missing, damaged or not finite.
    """
    images = store.read_manifest(extraction.split(category, "test")).images
    anomalous = np.array([image.label != NORMAL for image in images])
    rows = []
    for level in levels:
        spectra = read_spectra(extraction.folder / category, level)
        test = read_test_features(extraction.split(category, "test"), spectra, level)
        key = {**identify(extraction, category), "level": str(level), "score": "mahalanobis", "var": None}
        rows += [{**key, **row} for row in _sweep_level(spectra, test, anomalous)]
    return pd.DataFrame(rows)


def _sweep_level(
    spectra: Sequence[Spectrum], test: store.Features, anomalous: NDArray[np.bool_]
) -> list[dict[str, object]]:
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
