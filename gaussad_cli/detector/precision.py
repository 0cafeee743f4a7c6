"""The inverse of a level's shrunk covariance, in the eigenbasis: what `distances.squared_mahalanobis` weighs with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.shrinkage import Shrinkage
from gaussad_cli.gaussian.spectrum import Spectrum


@dataclass(frozen=True)
class Precision:
    """The inverse covariance P = V diag(inside) V' + outside (I - V V').

    Attributes
    ----------
    vectors : V (D, k), the kept components
    inside : (k,), 1 / ((1 - rho) lambda_j + rho m)
    outside : 1 / (rho m) for the directions in which the training data does not vary; 0 where they do not count
    """

    vectors: Array
    inside: Array
    outside: float

    def times(self, deviations: Array) -> Array:
        """Return P (x - mu) of deviations (m, D)."""
        components = deviations @ self.vectors
        residual = deviations - components @ self.vectors.T
        return (components * self.inside) @ self.vectors.T + self.outside * residual


def precision(spectrum: Spectrum, shrinkage: Shrinkage) -> Precision:
    """Return the inverse covariance; of no component, and so without any weight, where the data does not vary."""
    kept = slice(shrinkage.start, shrinkage.stop)
    eigenvalues, floor = spectrum.eigenvalues[kept], shrinkage.intensity * shrinkage.scale
    counts = shrinkage.dim > eigenvalues.size and floor > 0.0
    inside = 1.0 / ((1.0 - shrinkage.intensity) * eigenvalues + floor)
    return Precision(spectrum.eigenvectors[:, kept], inside, 1.0 / floor if counts else 0.0)


def deviate(spectrum: Spectrum, features: Array) -> Array:
    """Return features (m, D) less the mean, float64."""
    return np.asarray(features, dtype=np.float64) - spectrum.mean - spectrum.mean_remainder
