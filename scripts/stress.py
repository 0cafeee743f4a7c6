"""The Gaussian under numerical stress, against references in many digits: the table of docs/numerics.md.

Covariances at condition numbers up to 1e16, 2 to 102,400 features of 1 to 2,560 dimensions, float64 and float32, with
offsets, duplicated and constant features, no more features than dimensions; by `fit_spectrum` and by `fit_folds`,
whose held-out part varies far more than what the fold is fitted to. Errors are relative, the largest of six test
points, half of them far off the training distribution. The run fails where one is larger than docs/numerics.md allows.

    python -m scripts.stress [--large]      --large: 102,400 x 2,560 and n = D = 2,560 too, minutes and 3 GB
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.gaussian.compression import Compression, Mode
from gaussad_cli.gaussian.distances import mahalanobis, project
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import Spectrum, fit_spectrum
from gaussad_cli.gaussian.streaming import Chunks, fit_folds
from tests.exact import EXTENDED, MODES, Answer, Design, Eigenbasis, by_jacobi, by_mpmath, read_out

Array = NDArray[Any]
CHUNK_ROWS = 512  # as in `gaussad fit`
HEADER = ("case", "n", "D", "condition", "path", "rank", "all", "PCA 99 %", "NPCA 1 %", "NPCA 0.01 %", "shrinkage")


@dataclass(frozen=True)
class Case:
    """Training features, whole or in chunks, test points, and the reference of what they should give.

    Attributes
    ----------
    train : (n, D); None where they are only ever seen in chunks
    parts : the same in parts, and a last one which the fold leaves out; empty where folds are not from moments
    """

    name: str
    n: int
    train: Array | None
    parts: Sequence[Chunks]
    test: Array
    reference: Callable[[], Eigenbasis]


@dataclass(frozen=True)
class Outcome:
    """What a path made of a case: ranks of both, errors of the distances per mode, and of the shrinkage."""

    case: Case
    path: str
    condition: float
    ranks: tuple[int, int]
    errors: tuple[float, ...]
    shrinkage: float

    @property
    def allowed(self) -> float:
        """The error that docs/numerics.md states: half the digits of the condition number are lost."""
        return 1e-10 + float(np.finfo(np.float64).eps * np.sqrt(self.condition))

    def row(self) -> str:
        """Lay out as a row of the table."""
        rank = f"{self.ranks[0]}" if self.ranks[0] == self.ranks[1] else f"{self.ranks[0]} of {self.ranks[1]}"
        cells = [self.case.name, f"{self.case.n:,}", f"{self.case.test.shape[1]:,}", f"{self.condition:.0e}", self.path]
        return "| " + " | ".join([*cells, rank, *(f"{e:.0e}" for e in (*self.errors, self.shrinkage))]) + " |"


def random_case(
    name: str,
    n: int,
    dim: int,
    condition: float = 1.0,
    offset: float = 0.0,
    dtype: str = "float64",
    rotated: bool = True,
    duplicated: int = 0,
    constant: int = 0,
) -> Case:
    """Draw a Gaussian with eigenvalues in geometric sequence, and round it to `dtype`: those are the features."""
    rng = np.random.default_rng(n + dim)
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0] if rotated else np.eye(dim)
    drawn = rng.standard_normal((n + 6, dim)) * np.geomspace(1.0, condition**-0.5, dim) @ basis
    drawn[-3:] += rng.standard_normal((3, dim))
    drawn = np.concatenate([drawn, drawn[:, :duplicated], np.full((n + 6, constant), 0.1)], axis=1) + offset
    features = drawn.astype(dtype)
    train, test = features[:n].astype(np.float64), features[n:].astype(np.float64)
    reference = partial(by_mpmath if train.shape[1] <= 12 else by_jacobi, train, test)
    left_out = 1e4 * (train - offset) + offset
    parts = [*np.array_split(train, 4), left_out] if n > train.shape[1] else []
    return Case(name, n, train, [partial(_rows, part) for part in parts], test, reference)


def designed_case(
    name: str, n: int, dim: int, rank: int, condition: float, offset: float = 0.0, whole: bool = True
) -> Case:
    """Lay out integers of which the eigenvectors are known; too long for float32 but for small conditions."""
    rows = next(order for order in (20 * 2**k for k in range(20)) if order > rank)
    scales = np.round(np.geomspace(condition**0.5, 1.0, rank))
    for i in reversed(range(rank - 1)):  # all different: a cut between equal eigenvalues would be at rounding's mercy
        scales[i] = max(scales[i], scales[i + 1] + 1)
    design = Design(scales, dim, rows, np.resize([1.0, 2.0, 3.0], n // rows), offset)
    test = np.random.default_rng(n).integers(-(2**20), 2**20, (6, dim)).astype(np.float64)
    test[:3] = np.round(test[:3] * scales[-1] / 2**10)
    block, weights = design.block(), design.weights.tolist()
    train = np.concatenate(list(design.chunks(block, rows, weights))) if whole else None
    parts = [partial(design.chunks, block, CHUNK_ROWS, some) for some in (weights, [1e4])]
    reference = partial(design.answer, test + offset, weights)
    return Case(name, design.n, train, parts if min(design.n, rows) > dim else [], test + offset, reference)


def cases(large: bool) -> Iterator[Case]:
    """Yield the cases of docs/numerics.md."""
    for n, dim in ((2, 8), (3, 8), (8, 8), (9, 8), (40, 1)):
        yield random_case("few features", n, dim, 1e2)
    for condition in (1.0, 1e4, 1e8, 1e12, 1e16):
        yield random_case("rotated", 40, 8, condition)
    yield random_case("per feature, float32", 40, 8, 1e16, dtype="float32", rotated=False)
    for offset in (1.0, 1e3, 1e6):
        yield random_case(f"offset {offset:g}, float32", 40, 8, 1e4, offset, "float32")
    yield random_case("offset 1e6", 40, 8, 1e4, 1e6)
    yield random_case("2 duplicated, 1 constant", 40, 6, 1e4, duplicated=2, constant=1)
    yield random_case("the same, offset 1e3, float32", 40, 6, 1e4, 1e3, "float32", duplicated=2, constant=1)
    if EXTENDED:
        for n in (100, 128, 129, 400):
            yield random_case("float32", n, 128, 1e6, 1.0, "float32")
        for condition in (1e8, 1e12, 1e16):
            yield random_case("rotated", 400, 128, condition)
    yield designed_case("known spectrum", 10_240, 256, 256, 1e7)
    yield designed_case("known spectrum", 10_240, 256, 256, 1e16)
    yield designed_case("known spectrum, offset 1e6", 10_240, 256, 200, 1e12, 1e6)
    yield designed_case("known spectrum", 102_400, 64, 64, 1e16)
    yield designed_case("known spectrum, n < D", 640, 1280, 639, 1e16)
    if large:
        yield designed_case("known spectrum, n = D", 2560, 2560, 2559, 1e16)
        yield designed_case("known spectrum", 102_400, 2560, 2560, 1e7, whole=False)
        yield designed_case("known spectrum", 102_400, 2560, 2560, 1e16, whole=False)


def _rows(part: Array) -> Iterator[Array]:
    return (part[i : i + CHUNK_ROWS] for i in range(0, len(part), CHUNK_ROWS))


def outcomes(case: Case) -> Iterator[Outcome]:
    """Yield what each path makes of a case."""
    basis = case.reference()
    answers = [read_out(basis, mode) for mode in MODES]
    if case.train is not None:
        yield _compare(case, "SVD", fit_spectrum(case.train), basis, answers)
    if case.parts:
        yield _compare(case, "folds", fit_folds(case.parts)[-1], basis, answers)


def _compare(case: Case, path: str, spectrum: Spectrum, basis: Eigenbasis, answers: Sequence[Answer]) -> Outcome:
    projection = project(spectrum, case.test)
    errors, shrinkage = [], [0.0]
    for (mode, var), answer in zip(MODES, answers, strict=True):
        ours = shrink(spectrum, Compression(cast(Mode, mode), var))
        distances = mahalanobis(projection, spectrum, ours)
        # Other components kept: no digit is right.
        errors.append(float(np.abs(distances / answer.distances - 1).max()) if ours.dim == answer.dim else np.inf)
        shrinkage.append(abs(ours.intensity - answer.intensity) / (answer.intensity or 1.0))
    ranks = spectrum.rank, len(basis.eigenvalues)
    return Outcome(case, path, basis.condition, ranks, tuple(errors), max(shrinkage))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="102,400 x 2,560 and n = D = 2,560 too")
    options = parser.parse_args()
    start = time.perf_counter()
    print("| " + " | ".join(HEADER) + " |\n|---|" + "--:|" * (len(HEADER) - 1))
    wrong = 0
    with threadpool_limits(1, user_api="blas"):
        for case in cases(options.large):
            for outcome in outcomes(case):
                print(outcome.row(), flush=True)
                wrong += not max(*outcome.errors, outcome.shrinkage) <= outcome.allowed
    print(f"\n{time.perf_counter() - start:.0f} s" + ("" if EXTENDED else "; no extended precision: no Jacobi cases"))
    if wrong:
        raise SystemExit(f"{wrong} rows have larger errors than docs/numerics.md allows")


if __name__ == "__main__":
    main()
