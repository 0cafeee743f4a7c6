"""Ledoit-Wolf shrinkage towards the scaled identity (paper eq. 6, Ledoit and Wolf 2004) from a spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression, component_range
from gaussad_cli.gaussian.spectrum import Spectrum

_ROUNDING = 1e-14  # relative to the two sums whose difference is beta


@dataclass(frozen=True)
class Shrinkage:
    """The shrunk covariance of a component range, in the eigenbasis: (1 - rho) diag(lambda[start:stop]) + rho m I.

    Attributes
    ----------
    start, stop : the kept components
    dim : d, the dimension of the Gaussian's space (D for "all", else stop - start)
    intensity : rho in [0, 1]
    scale : m, the mean variance tr(Sigma)/d
    """

    start: int
    stop: int
    dim: int
    intensity: float
    scale: float


def shrink(spectrum: Spectrum, compression: Compression = NO_COMPRESSION) -> Shrinkage:
    """Compute the shrinkage that scikit-learn's ``LedoitWolf`` finds on the kept components, without the data.

    The estimator needs only rotation-invariant numbers: the trace, the squared Frobenius norm (both sums over
    eigenvalues) and the sum of the fourth powers of the samples' norms. Every compression keeps leading or trailing
    components.
    """
    start, stop = component_range(spectrum.eigenvalues, compression)
    return shrink_range(spectrum, start, stop, spectrum.dim if compression.mode == "all" else stop - start)


def shrink_range(spectrum: Spectrum, start: int, stop: int, dim: int) -> Shrinkage:
    """Shrink the leading (start 0) or trailing (stop r) components, in a space of `dim` dimensions; see :func:`shrink`.

    Raises
    ------
    ValueError
        If the range is neither leading nor trailing, since the spectrum does not hold its fourth moments.
    """
    if start > 0 and stop < spectrum.rank:
        raise ValueError(f"components {start} to {stop} of {spectrum.rank} are neither leading nor trailing")
    kept = spectrum.eigenvalues[start:stop]
    scale = float(kept.sum()) / dim if dim else 0.0
    if dim <= 1 or kept.size == 0:
        return Shrinkage(start, stop, dim, 0.0, scale)  # in one dimension, shrinkage does not change the estimate
    frobenius, fourth = float(np.square(kept).sum()), _fourth(spectrum, start, stop) / spectrum.n
    return Shrinkage(start, stop, dim, ledoit_wolf(frobenius, float(kept.sum()), fourth, spectrum.n, dim), scale)


def _fourth(spectrum: Spectrum, start: int, stop: int) -> float:
    if start == stop:
        return 0.0
    return float(spectrum.fourth_leading[stop - 1] if start == 0 else spectrum.fourth_trailing[start])


def ledoit_wolf(frobenius: float, trace: float, fourth: float, n: float, dim: int) -> float:
    """Return rho = min(beta, delta) / delta (Ledoit and Wolf 2004, as in scikit-learn's ``ledoit_wolf_shrinkage``).

    The sums are rotation invariant, so that any basis serves; samples may be weighted.

    Parameters
    ----------
    frobenius, trace : squared Frobenius norm and trace of the empirical covariance
    fourth : mean over samples of the fourth power of the sample's norm
    n : number of samples, or their effective number if they are weighted
    dim : D
    """
    beta = (fourth - frobenius) / n
    delta = frobenius - trace * trace / dim
    beta = min(beta, delta)
    # For two samples, or copies of two, beta is zero: its rounding must not become a shrinkage.
    return 0.0 if dim <= 1 or beta * n <= _ROUNDING * fourth else beta / delta
