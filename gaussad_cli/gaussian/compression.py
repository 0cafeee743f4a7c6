"""Which principal components are kept: all features, PCA, negated PCA (paper section IV-A)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gaussad_cli.gaussian.moments import Array

Mode = Literal["all", "pca", "npca"]


@dataclass(frozen=True)
class Compression:
    """A compression mode and the share of variance that the paper's column names.

    ``("all", None)`` keeps the full feature space, ``("pca", 0.99)`` what explains 99 % of the variance,
    ``("npca", 0.01)`` the least-variant 1 % ("NPCA 1%").
    """

    mode: Mode = "all"
    var: float | None = None

    def __post_init__(self) -> None:
        if (self.mode == "all") != (self.var is None):
            raise ValueError("var goes with pca and npca, and only with them")
        if self.var is not None and not 0.0 < self.var < 1.0:
            raise ValueError(f"var is a share of the variance between 0 and 1, got {self.var}")

    def __str__(self) -> str:
        return self.mode if self.var is None else f"{self.mode} {self.var:g}"


NO_COMPRESSION = Compression()
DEFAULT_VAR = {"pca": 0.99, "npca": 0.01}  # the columns PCA 99 % and NPCA 1 % of Table III


def choose_compression(mode: str, var: float | None = None) -> Compression:
    """Return the compression of a mode by name; `var` None: the mode's default.

    Raises
    ------
    ValueError
        If the mode is unknown, or `var` is no share of the variance, or goes with no mode.
    """
    if mode == "all":
        if var is not None:
            raise ValueError("a share of the variance goes with the modes pca and npca only")
        return NO_COMPRESSION
    if mode not in ("pca", "npca"):
        raise ValueError(f"unknown mode '{mode}', known are all, pca, npca")
    share = DEFAULT_VAR[mode] if var is None else var
    if not 0.0 < share < 1.0:
        raise ValueError(f"var is {share:g}, but a share of the variance lies between 0 and 1")
    return Compression("pca" if mode == "pca" else "npca", share)


def component_range(eigenvalues: Array, compression: Compression) -> tuple[int, int]:
    """Return the range [a, b) of kept components (Table III).

    With k the first index whose cumulative share of the variance exceeds v, PCA v keeps 0..k and NPCA 1-v keeps
    max(k-1, 0)..last: both include the component that straddles v.

    Parameters
    ----------
    eigenvalues : (r,) descending, positive
    """
    rank = eigenvalues.shape[0]
    if compression.var is None or rank == 0:
        return 0, rank
    threshold = compression.var if compression.mode == "pca" else 1.0 - compression.var
    cumulative = np.cumsum(eigenvalues) / eigenvalues.sum()
    # The last cumulative share is 1 up to rounding, hence the bound.
    straddling = min(int(np.searchsorted(cumulative, threshold, side="right")), rank - 1)
    if compression.mode == "pca":
        return 0, straddling + 1
    return max(straddling - 1, 0), rank
