"""`GaussianDetector`: a scikit-learn estimator on features."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from gaussad_cli.detector.model import fit_level
from gaussad_cli.gaussian.compression import Compression, choose_compression
from gaussad_cli.gaussian.leave_one_out import leave_one_out
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.thresholds import conformal_threshold

_FEWEST = 5  # samples of which one at a time can be left out


class GaussianDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Detects outliers by their Mahalanobis distance to one shrunk Gaussian (Rippel et al., ICPR 2020).

    Parameters
    ----------
    mode : "all", "pca" (keep the most-variant components) or "npca" (the least-variant)
    var : share of the variance, for pca (default 0.99) and npca (default 0.01)
    fpr : wanted false-positive rate: the share of normal samples that are called outliers

    Attributes
    ----------
    level_ : the fitted Gaussian
    offset_ : minus the threshold: `decision_function` is `score_samples - offset_`
    n_features_in_ : number of features

    Examples
    --------
    >>> import numpy as np
    >>> from gaussad_cli import GaussianDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> GaussianDetector(fpr=0.05).fit(X).predict([[0, 0, 0], [9, 9, 9]])
    array([ 1, -1])
    """

    def __init__(self, mode: str = "all", var: float | None = None, fpr: float = 0.05) -> None:
        self.mode = mode
        self.var = var
        self.fpr = fpr

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: N803, ARG002 (scikit-learn's names)
        """Fit to normal samples (n, D), and calibrate the threshold on samples held out.

        With fewer samples than `fpr` needs (1/fpr - 1), the threshold is the greatest distance of a held-out sample.
        With fewer than five samples, none is held out, and the distances of the samples themselves are used.

        Raises
        ------
        ValueError
            If a parameter or the samples cannot be used.
        """
        if not 0.0 < self.fpr < 1.0:
            raise ValueError(f"fpr must lie between 0 and 1, got {self.fpr}")
        compression = choose_compression(self.mode, self.var)
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self.level_ = replace(fit_level(0, x, compression), features=None)  # nobody adds samples to it
        if self.level_.spectrum.rank == 0:
            raise ValueError("the samples are all alike: there is no variance to fit to")
        distances = self._held_out(x, compression)
        threshold = float(conformal_threshold(distances, self.fpr))
        self.offset_ = -threshold if np.isfinite(threshold) else -float(distances.max())
        return self

    def _held_out(self, x: Array, compression: Compression) -> Array:
        if len(x) < _FEWEST:
            return self.level_.score(x)
        with threadpool_limits(1, user_api="blas"):
            distances = leave_one_out(x, compression, self.level_.spectrum)
        finite = distances[np.isfinite(distances)]
        return finite if finite.size else self.level_.score(x)

    def score_samples(self, X: ArrayLike) -> Array:  # noqa: N803
        """Return the negated Mahalanobis distances of samples (m, D), (m,): the lower, the more abnormal."""
        check_is_fitted(self)
        return -self.level_.score(validate_data(self, X, dtype=np.float64, reset=False))

    def decision_function(self, X: ArrayLike) -> Array:  # noqa: N803
        """Return the threshold minus the distances of samples (m, D), (m,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:  # noqa: N803
        """Return 1 for normal samples, -1 for outliers, (m,)."""
        return np.where(self.decision_function(X) < 0.0, -1, 1)
