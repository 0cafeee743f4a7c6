"""Every number of kept components, between the paper's five points (Fig. 3 and Table III in one curve).

One spectrum and one projection serve them all: keeping d components costs a sum over d columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.gaussian.distances import Projection, mahalanobis
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.shrinkage import shrink_range
from gaussad_cli.gaussian.spectrum import Spectrum


def sweep_dims(rank: int, points: int) -> NDArray[np.intp]:
    """Return numbers of components from 1 to `rank`, ascending, evenly spread on a logarithmic scale; none for rank 0.

    Parameters
    ----------
    points : how many at most; where `rank` is small, whole numbers fall together
    """
    if rank == 0:
        return np.zeros(0, dtype=np.intp)
    return np.unique(np.round(np.geomspace(1, rank, points)).astype(np.intp))


def sweep_leading(projection: Projection, spectrum: Spectrum, dims: NDArray[np.intp]) -> Array:
    """Return the Mahalanobis distances with the d most-variant components kept (PCA), (len(dims), m)."""
    return np.stack([mahalanobis(projection, spectrum, shrink_range(spectrum, 0, int(d), int(d))) for d in dims])


def sweep_trailing(projection: Projection, spectrum: Spectrum, dims: NDArray[np.intp]) -> Array:
    """Return the Mahalanobis distances with the d least-variant components kept (NPCA), (len(dims), m)."""
    r = spectrum.rank
    return np.stack([mahalanobis(projection, spectrum, shrink_range(spectrum, r - int(d), r, int(d))) for d in dims])
