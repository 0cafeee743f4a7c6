"""The spectra of all folds, from features that need not fit in memory (DESIGN: folds share work).

Every fold leaves out one part, and the parts are disjoint: each feature is read twice, once for the moments of its part
and once for the fourth moments of the folds that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from gaussad_cli.gaussian.moments import Array, Moments, downdate, gather, merge
from gaussad_cli.gaussian.spectrum import Spectrum, fit_spectrum, fourth_moments

Chunks = Callable[[], Iterable[ArrayLike]]  # the (k, D) chunks of a part, the same at every call


def fit_folds(parts: Sequence[Chunks]) -> list[Spectrum]:
    """Fit one spectrum per part, to the features of all other parts.

    With more features than dimensions, from moments: the total minus the part. Their eigenvalues are resolved to about
    ``D * eps`` of the largest, those of :func:`fit_spectrum` to the square of that; augmentation leaves none so small.
    With fewer, that would not do, and they are few enough for :func:`fit_spectrum`.

    Raises
    ------
    ValueError
        If a feature is NaN or infinite, or a fold has fewer than two features.
    """
    shift = _first_feature(parts[0])
    gathered = [gather(part(), shift) for part in parts]
    total = gathered[0]
    for moments in gathered[1:]:
        total = merge(total, moments)
    folds = [downdate(total, moments) for moments in gathered]
    if min(fold.n for fold in folds) <= shift.size:
        return [fit_spectrum(_stack([part for part in parts if part is not held_out])) for held_out in parts]
    bases = [_eigenvectors(fold) for fold in folds]
    squares = [np.zeros((3, basis.shape[1])) for basis in bases]  # z^2, and the leading and trailing fourth moments
    for held_out, part in enumerate(parts):
        for chunk in part():
            x = np.asarray(chunk, dtype=np.float64) - shift
            for number, (fold, basis) in enumerate(zip(folds, bases, strict=True)):
                if number != held_out:
                    z = (x - fold.mean) @ basis
                    squares[number] += (np.square(z).sum(axis=0), *fourth_moments(z))
    return [_spectrum(*fold) for fold in zip(folds, bases, squares, strict=True)]


def _first_feature(part: Chunks) -> Array:
    return np.array(next(iter(part()))[0], dtype=np.float64)  # type: ignore[index]


def _stack(parts: Sequence[Chunks]) -> Array:
    return np.concatenate([np.asarray(chunk, dtype=np.float64) for part in parts for chunk in part()])


def _eigenvectors(fold: Moments) -> Array:
    """Return the (D, r) eigenvectors of the components whose variance is not zero to rounding, largest first."""
    values, vectors = linalg.eigh(fold.second, check_finite=False)
    tolerance = max(values[-1], 0.0) * 10 * fold.shift.size * np.finfo(np.float64).eps
    return np.ascontiguousarray(vectors[:, values > tolerance][:, ::-1])


def _spectrum(fold: Moments, basis: Array, squares: Array) -> Spectrum:
    mean, remainder = fold.two_float_mean()
    return Spectrum(
        n=fold.n,
        mean=mean,
        mean_remainder=remainder,
        variances=fold.second.diagonal() / fold.n,
        eigenvalues=squares[0] / fold.n,  # the variances met along the basis: closer than the decomposition's
        eigenvectors=basis,
        fourth_leading=squares[1],
        fourth_trailing=squares[2],
    )
