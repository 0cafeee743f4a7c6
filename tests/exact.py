"""References in many digits for `scripts/stress.py`: the scores of the paper by other algorithms than gaussad's.

`by_mpmath` decomposes the covariance matrix in 60 decimal digits, `by_jacobi` the data by one-sided Jacobi rotations in
extended precision, and `Design` is data of any size of which the spectrum is known without computing it. None of them
shares code with `gaussad_cli.gaussian`; what they have in common is `read_out`, the formulas as printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[Any]
Mode = tuple[str, float | None]

MODES: tuple[Mode, ...] = (("all", None), ("pca", 0.99), ("npca", 0.01), ("npca", 0.0001))
DIGITS = 60
LONG = np.longdouble  # 64 bits of mantissa on x86, no more than float64 elsewhere
EXTENDED = bool(np.finfo(LONG).eps < 1e-18)


@dataclass(frozen=True)
class Answer:
    """What one mode makes of a fold: kept dimensions, Ledoit-Wolf intensity, distances (m,)."""

    dim: int
    intensity: float
    distances: Array


@dataclass(frozen=True)
class Eigenbasis:
    """Training and test points in the eigenbasis of the covariance, in many digits.

    Attributes
    ----------
    eigenvalues : (r,), descending, those that are not zero
    train, test : (n, r) and (m, r), squared components
    weights : (n,), how many training points each row of `train` stands for
    residual : (m,), squared distance of the test points from the span of the training points
    dim : D
    """

    eigenvalues: Array
    train: Array
    test: Array
    weights: Array
    residual: Array
    dim: int

    @property
    def condition(self) -> float:
        """Ratio of the largest to the smallest eigenvalue that is not zero."""
        return float(self.eigenvalues[0] / self.eigenvalues[-1])


def read_out(basis: Eigenbasis, mode: Mode) -> Answer:
    """Return the shrinkage and distances of one mode: Table III's components, Ledoit and Wolf (2004), eq. 2."""
    start, stop = _kept(basis.eigenvalues, mode)
    dim = basis.dim if mode[0] == "all" else stop - start
    values, train = basis.eigenvalues[start:stop], basis.train[:, start:stop]
    n, scale = basis.weights.sum(), values.sum() / dim
    distance_to_identity = ((values - scale) ** 2).sum() + (dim - len(values)) * scale**2
    spread = (basis.weights * train.sum(axis=1) ** 2).sum() / n - (values**2).sum()
    rho = min(spread / n, distance_to_identity) / distance_to_identity if dim > 1 else 0
    rho = max(rho, 0)
    squared = (basis.test[:, start:stop] / ((1 - rho) * values + rho * scale)).sum(axis=1)
    if dim > len(values) and rho > 0:
        squared = squared + basis.residual / (rho * scale)
    return Answer(dim, float(rho), np.array([float(d) ** 0.5 for d in squared]))


def _kept(eigenvalues: Array, mode: Mode) -> tuple[int, int]:
    kind, var = mode
    if var is None:
        return 0, len(eigenvalues)
    shares = np.cumsum(eigenvalues) / eigenvalues.sum()
    last = len(eigenvalues) - 1
    k = min(int((shares <= (var if kind == "pca" else 1 - var)).sum()), last)
    return (0, k + 1) if kind == "pca" else (max(k - 1, 0), last + 1)


def by_mpmath(train: Array, test: Array) -> Eigenbasis:
    """Decompose the covariance of (n, D) features in 60 digits; for a dozen dimensions, it is slow."""
    with mpmath.workdps(DIGITS):
        x, y = _centred(_to_mpf(train), _to_mpf(test))
        covariance = mpmath.matrix((x.T @ x / len(x)).tolist())
        values, vectors = mpmath.eigsy(covariance)
        order = [i for i in reversed(range(len(values))) if values[i] > values[len(values) - 1] * mpmath.mpf(10) ** -45]
        v = np.array([[vectors[i, j] for j in order] for i in range(vectors.rows)], dtype=object)
        return _basis(np.array([values[i] for i in order], dtype=object), v, x, y)


def by_jacobi(train: Array, test: Array) -> Eigenbasis:
    """Decompose (n, D) features by one-sided Jacobi rotations in extended precision; for some hundred dimensions."""
    x, y = _centred(train.astype(LONG), test.astype(LONG))
    columns = _jacobi(_householder(x).T if len(x) > x.shape[1] else x.T)
    singular = np.sqrt((columns**2).sum(axis=0))
    order = np.argsort(-singular)
    order = order[singular[order] > singular.max() * 64 * max(x.shape) * np.finfo(LONG).eps]
    return _basis(singular[order] ** 2 / len(x), columns[:, order] / singular[order], x, y)


def _to_mpf(values: Array) -> Array:
    return np.vectorize(lambda value: mpmath.mpf(float(value)), otypes=[object])(values)


def _centred(train: Array, test: Array) -> tuple[Array, Array]:
    mean = train.sum(axis=0) / len(train)
    return train - mean, test - mean


def _basis(eigenvalues: Array, v: Array, x: Array, y: Array) -> Eigenbasis:
    q = y @ v
    residual = ((y - q @ v.T) ** 2).sum(axis=1)
    return Eigenbasis(eigenvalues, (x @ v) ** 2, q**2, np.ones(len(x), dtype=int), residual, x.shape[1])


def _householder(x: Array) -> Array:
    """Return the triangle R (D, D) of (n, D), n > D, by Householder reflections in the precision of x."""
    x = x.copy()
    for j in range(x.shape[1]):
        v = x[j:, j].copy()
        norm = np.sqrt((v**2).sum())
        if norm > 0:
            v[0] += np.copysign(norm, v[0])
            x[j:, j:] -= v[:, None] * ((v @ x[j:, j:]) * (2 / (v @ v)))
    return np.triu(x[: x.shape[1]])


def _jacobi(a: Array) -> Array:
    """Rotate the columns of (D, k) until they are orthogonal: singular vectors times singular values."""
    a = np.concatenate([a, np.zeros((len(a), a.shape[1] % 2), dtype=a.dtype)], axis=1)
    seats = np.arange(a.shape[1])
    for _ in range(40):
        worst = 0.0
        for _ in range(max(len(seats) - 1, 1)):
            worst = max(worst, _rotate(a, seats[: len(seats) // 2], seats[len(seats) // 2 :][::-1]))
            seats = np.concatenate([seats[:1], np.roll(seats[1:], 1)])  # a round robin: every pair once a sweep
        if worst <= 8 * np.finfo(a.dtype).eps:
            return a
    raise ArithmeticError("Jacobi rotations did not converge")


def _rotate(a: Array, p: Array, q: Array) -> float:
    """Make columns p orthogonal to columns q, pair by pair; return the largest cosine there was."""
    left, right = a[:, p], a[:, q]
    alpha, beta, gamma = (left**2).sum(axis=0), (right**2).sum(axis=0), (left * right).sum(axis=0)
    product = np.sqrt(alpha) * np.sqrt(beta)
    cosine = np.divide(abs(gamma), product, out=np.zeros_like(gamma), where=product > 0)
    some = cosine > np.finfo(a.dtype).eps
    zeta = (beta - alpha)[some] / (2 * gamma[some])
    tangent = np.where(zeta < 0, -1, 1) / (abs(zeta) + np.sqrt(1 + zeta**2))
    c = 1 / np.sqrt(1 + tangent**2)
    s = c * tangent
    left, right = left[:, some], right[:, some]
    a[:, p[some]], a[:, q[some]] = c * left - s * right, s * left + c * right
    # A column that is nothing but rounding beside the largest keeps turning for ever; it is dropped later.
    large = product > np.square(a).sum(axis=0).max() * np.finfo(a.dtype).eps * 64
    return float(cosine[large].max(initial=0.0))


@dataclass(frozen=True)
class Design:
    """Integer features of which the covariance is known exactly: blocks of Hadamard rows, scaled, in a Hadamard basis.

    Block b is ``weights[b] * H[:, 1:r+1] * scales @ V'`` with H and V of orthogonal columns of -1 and 1. So every
    feature has the mean `offset`, and the eigenvectors are the columns of V.

    Attributes
    ----------
    scales : (r,) integers, descending, r <= D; their squares are in the ratio of the eigenvalues
    dim : D, 1, 2, 12 or 20 times a power of two
    rows : of a block, more than r, of such an order too
    weights : (blocks,) integers
    offset : an integer, added to every feature
    """

    scales: Array
    dim: int
    rows: int
    weights: Array
    offset: float

    @property
    def n(self) -> int:
        """Number of training features."""
        return self.rows * len(self.weights)

    def block(self) -> Array:
        """Return the features of weight 1 without the offset, (rows, D) float64: integers, so nothing is rounded."""
        r = len(self.scales)
        return (hadamard(self.rows)[:, 1 : r + 1] * self.scales) @ hadamard(self.dim)[:, :r].T

    def chunks(self, block: Array, size: int, weights: Sequence[float]) -> Iterator[Array]:
        """Yield the features of blocks of these weights, (k, D), k <= size."""
        for weight in weights:
            for i in range(0, len(block), size):
                yield weight * block[i : i + size] + self.offset

    def answer(self, test: Array, weights: Sequence[float]) -> Eigenbasis:
        """Return the eigenbasis of the blocks of these weights and integer test points (m, D)."""
        squares = np.square(np.asarray(weights, dtype=LONG))
        of_scales = np.square(self.scales.astype(LONG)) * self.dim
        v = hadamard(self.dim)[:, : len(self.scales)]
        deviations = test - self.offset
        q = deviations @ v  # of integers, exact
        outside = deviations - (q / self.dim).astype(LONG) @ v.T.astype(LONG) if v.shape[1] < self.dim else 0 * test
        return Eigenbasis(
            of_scales * squares.mean(),
            squares[:, None] * of_scales,
            np.square(q.astype(LONG)) / self.dim,
            np.full(len(squares), self.rows),
            np.square(outside).sum(axis=1),
            self.dim,
        )


def hadamard(order: int) -> Array:
    """Return a matrix of -1 and 1 with orthogonal columns, the first all ones, of order 2^k, 12 * 2^k or 20 * 2^k."""
    powers = order & -order  # the largest power of two
    odd = order // powers
    if odd == 1:
        return linalg.hadamard(order).astype(np.float64)
    return np.kron(_paley(odd * 4 - 1), linalg.hadamard(powers // 4)).astype(np.float64)


def _paley(q: int) -> Array:
    """Return the Hadamard matrix of order q + 1 by Paley's construction, q a prime of the form 4k + 3."""
    squares = {i * i % q for i in range(1, q)}
    character = np.array([0 if i == 0 else 1 if i in squares else -1 for i in range(q)])
    skew = np.zeros((q + 1, q + 1))
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = character[np.subtract.outer(np.arange(q), np.arange(q)) % q]
    matrix = np.eye(q + 1) + skew
    return matrix * matrix[:, :1]
