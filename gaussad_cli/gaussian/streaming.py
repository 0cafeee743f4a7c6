"""The spectra of all folds, from features that need not fit in memory (DESIGN: folds share work).

Every fold leaves out one part, and the parts are disjoint. Each feature is read twice: for the moments of its part, and
for the fourth moments of the folds that it belongs to; and a third time if moments do not resolve the spectrum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from gaussad_cli.gaussian.moments import Array, Moments, gather, merge
from gaussad_cli.gaussian.spectrum import Spectrum, fit_spectrum, fourth_moments, numerical_rank, thin_svd
from gaussad_cli.gaussian.triangles import merge_triangles, triangle

Chunks = Callable[[], Iterable[ArrayLike]]  # the (k, D) chunks of a part, the same at every call
T = TypeVar("T")

# Triangles take over if the smallest eigenvalue is less than this many times the moments' rounding (docs/numerics.md).
_RESOLVED = 1e6


def fit_folds(parts: Sequence[Chunks]) -> list[Spectrum]:
    """Fit one spectrum per part, to the features of all other parts.

    If there are more features than dimensions, moments are used, or triangles if moments do not resolve the smallest
    eigenvalue. Otherwise the features are few enough for :func:`fit_spectrum`.

    Raises
    ------
    ValueError
        If a feature is NaN or infinite, or a fold has fewer than two features.
    """
    shift = _first_feature(parts[0])
    gathered, extremes = zip(*[_gather(part(), shift) for part in parts], strict=True)
    # Merging loses no digits. Subtracting a part from the total would, if that part varies far more than the others.
    folds = [reduce(merge, others) for others in _leave_one_out(gathered)]
    if min(fold.n for fold in folds) <= shift.size:
        return [fit_spectrum(_stack(others)) for others in _leave_one_out(parts)]
    bases = _eigenvectors(folds) or _eigenvectors_by_triangles(parts, gathered, folds)
    squares = _sum_squares(parts, folds, bases)
    constant = [np.ptp(np.concatenate(others), axis=0) == 0 for others in _leave_one_out(extremes)]
    return [_spectrum(*fold) for fold in zip(folds, bases, squares, constant, strict=True)]


def _first_feature(part: Chunks) -> Array:
    return np.array(next(iter(part()))[0], dtype=np.float64)  # type: ignore[index]


def _leave_one_out(items: Sequence[T]) -> list[list[T]]:
    return [[item for number, item in enumerate(items) if number != left_out] for left_out in range(len(items))]


def _stack(parts: Sequence[Chunks]) -> Array:
    return np.concatenate([np.asarray(chunk, dtype=np.float64) for part in parts for chunk in part()])


def _gather(chunks: Iterable[ArrayLike], shift: Array) -> tuple[Moments, Array]:
    """Return the moments of a part, and the lowest and highest value of each feature, (2, D)."""
    extremes = np.stack([np.full(shift.size, np.inf), np.full(shift.size, -np.inf)])

    def watched() -> Iterator[ArrayLike]:
        for chunk in chunks:
            x = np.asarray(chunk)
            extremes[:] = np.minimum(extremes[0], x.min(axis=0)), np.maximum(extremes[1], x.max(axis=0))
            yield x

    return gather(watched(), shift), extremes


def _eigenvectors(folds: Sequence[Moments]) -> list[Array]:
    """Return the (D, D) eigenvectors of every fold, largest first; an empty list if any smallest is not resolved."""
    bases = []
    for fold in folds:
        values, vectors = linalg.eigh(fold.second, check_finite=False)
        if values[0] <= values[-1] * _RESOLVED * fold.shift.size * np.finfo(np.float64).eps:
            return []
        bases.append(np.ascontiguousarray(vectors[:, ::-1]))
    return bases


def _eigenvectors_by_triangles(
    parts: Sequence[Chunks], gathered: Sequence[Moments], folds: Sequence[Moments]
) -> list[Array]:
    """Return the (D, r) eigenvectors of every fold's components whose variance is not zero up to rounding."""
    roots = [triangle(part(), moments) for part, moments in zip(parts, gathered, strict=True)]
    bases = []
    for others, moments, fold in zip(_leave_one_out(roots), _leave_one_out(gathered), folds, strict=True):
        _, singular, right = thin_svd(merge_triangles(others, moments, fold))
        bases.append(np.ascontiguousarray(right[: numerical_rank(singular, fold.n, fold.shift.size)].T))
    return bases


def _sum_squares(parts: Sequence[Chunks], folds: Sequence[Moments], bases: Sequence[Array]) -> list[Array]:
    """Return per fold the sums of z^2 over its features, and the leading and trailing fourth moments, (3, r)."""
    sums = [np.zeros((3, basis.shape[1])) for basis in bases]
    for held_out, part in enumerate(parts):
        for chunk in part():
            x = np.asarray(chunk, dtype=np.float64) - folds[held_out].shift
            for number, (fold, basis) in enumerate(zip(folds, bases, strict=True)):
                if number != held_out:
                    z = (x - fold.mean) @ basis
                    sums[number] += (np.square(z).sum(axis=0), *fourth_moments(z))
    return sums


def _spectrum(fold: Moments, basis: Array, squares: Array, constant: NDArray[np.bool_]) -> Spectrum:
    mean, remainder = fold.two_float_mean()
    return Spectrum(
        n=fold.n,
        mean=mean,
        mean_remainder=remainder,
        # Exactly 0: rounding must not give a constant feature a variance.
        variances=np.where(constant, 0.0, fold.second.diagonal() / fold.n),
        eigenvalues=squares[0] / fold.n,  # variances measured along the basis, more exact than the decomposition's
        eigenvectors=basis,
        fourth_leading=squares[1],
        fourth_trailing=squares[2],
    )
