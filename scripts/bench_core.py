"""The core against the scikit-learn route, side by side in one run, on EfficientNet-B4's shapes.

Both compute the Mahalanobis distances of a test set for 5 folds, 9 levels and the 6 modes of Table III, from the same
features: the core reads all modes from one spectrum per fold and level, the scikit-learn route fits PCA and LedoitWolf
once per mode. Features are drawn with a power-law spectrum; the distances must agree or the run fails.

Then the moments of all folds of augmented epochs: every part gathered once and merged with the others, as `gaussad fit`
does it, against every fold gathered anew from all of its features; and the whole fit that they are for.

    python scripts/bench_core.py [--repeats 3] [--n 213] [--epochs 20]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from gaussad_cli.gaussian.compression import Compression, Mode
from gaussad_cli.gaussian.distances import mahalanobis, project
from gaussad_cli.gaussian.moments import Moments, gather, merge
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import Spectrum, fit_spectrum
from gaussad_cli.gaussian.streaming import fit_folds

B4_DIMS = (48, 24, 32, 56, 112, 160, 272, 448, 1792)
MODES: tuple[tuple[Mode, float | None], ...] = (
    ("all", None),
    ("pca", 0.99),
    ("pca", 0.95),
    ("npca", 0.01),
    ("npca", 0.001),
    ("npca", 0.0001),
)
Array = NDArray[Any]
Folds = Sequence[tuple[Array, Array]]
Route = Callable[[Folds], list[list[Array]]]

N_TEST = 115  # MVTec AD's mean
CHUNK_ROWS = 512  # features in memory at a time, as in `gaussad fit`


def draw(n: int, dim: int, rng: np.random.Generator) -> Array:
    """Features (n, D) float32 with variances that fall as 1/j^2 in a random basis, around a common offset."""
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return (rng.standard_normal((n, dim)) / np.arange(1, dim + 1) @ basis + 0.3).astype(np.float32)


def core(folds: Folds) -> list[list[Array]]:
    """Distances (m,) per fold and mode from one spectrum per fold; one BLAS thread, as in `gaussad evaluate`."""
    with threadpool_limits(1, user_api="blas"):
        return [_core_fold(train, test) for train, test in folds]


def _core_fold(train: Array, test: Array) -> list[Array]:
    spectrum = fit_spectrum(train)
    projection = project(spectrum, test)
    return [mahalanobis(projection, spectrum, shrink(spectrum, Compression(mode, var))) for mode, var in MODES]


def scikit_learn(folds: Folds) -> list[list[Array]]:
    """Distances (m,) per fold and mode as a user of scikit-learn would compute them, on all threads (its default)."""
    return [
        [_scikit_learn_mode(train.astype(np.float64), test.astype(np.float64), mode, var) for mode, var in MODES]
        for train, test in folds
    ]


def _scikit_learn_mode(train: Array, test: Array, mode: str, var: float | None) -> Array:
    if var is not None:
        pca = PCA(svd_solver="full").fit(train)
        k = int(np.argmax(np.cumsum(pca.explained_variance_ratio_) > (var if mode == "pca" else 1 - var)))
        last = min(len(train) - 1, train.shape[1])  # a PCA of n <= D has one component that is rounding noise
        kept = slice(0, k + 1) if mode == "pca" else slice(max(k - 1, 0), last)
        train, test = pca.transform(train)[:, kept], pca.transform(test)[:, kept]
    return np.sqrt(LedoitWolf().fit(train).mahalanobis(test))


def timed(route: Route, folds: Folds) -> tuple[float, list[list[Array]]]:
    """Seconds and results of a route over the folds of one level."""
    start = time.perf_counter()
    results = route(folds)
    return time.perf_counter() - start, results


def best_times(folds: Folds, repeats: int) -> tuple[float, float, float]:
    """Best seconds of the core and of scikit-learn, interleaved, and their largest relative difference."""
    ours, theirs = [], []
    for _ in range(repeats):
        seconds, distances = timed(core, folds)
        ours.append(seconds)
        seconds, expected = timed(scikit_learn, folds)
        theirs.append(seconds)
    ratios = [a / b for x, y in zip(distances, expected, strict=True) for a, b in zip(x, y, strict=True)]
    return min(ours), min(theirs), max(float(np.abs(ratio - 1).max()) for ratio in ratios)


def merged(parts: Sequence[Array]) -> list[Moments]:
    """Moments of every fold: each part is gathered once, and a fold merges all parts but its own."""
    shift = parts[0][0].astype(np.float64)
    gathered = [gather(_chunks(part), shift) for part in parts]
    return [reduce(merge, gathered[:i] + gathered[i + 1 :]) for i in range(len(parts))]


def regathered(parts: Sequence[Array]) -> list[Moments]:
    """Moments of every fold, each gathered from all of its features."""
    shift = parts[0][0].astype(np.float64)
    return [
        gather((chunk for j, part in enumerate(parts) if j != i for chunk in _chunks(part)), shift)
        for i in range(len(parts))
    ]


def _chunks(part: Array) -> Iterator[Array]:
    return (part[i : i + CHUNK_ROWS] for i in range(0, len(part), CHUNK_ROWS))


def bench_epochs(n: int, epochs: int, repeats: int, rng: np.random.Generator) -> None:
    """Print the seconds of a level's moments both ways, and of the whole fit of its five folds."""
    print(f"\nmoments of 5 folds, {n} images x {epochs} epochs, one BLAS thread")
    print("level     D      merged ms  regathered ms   ratio  max rel. difference   whole fit ms")
    for level, dim in enumerate(B4_DIMS, start=1):
        parts = np.array_split(draw(n * epochs, dim, rng), 5)
        seconds = [float("inf")] * 3
        with threadpool_limits(1, user_api="blas"):
            for _ in range(repeats):
                ours, theirs, _spectra = (
                    _timed_into(seconds, i, route, parts) for i, route in enumerate((merged, regathered, _fit_folds))
                )
        difference = max(
            float(np.abs(a.second - b.second).max() / np.abs(b.second).max()) for a, b in zip(ours, theirs, strict=True)
        )
        times = f"{seconds[0] * 1e3:>14.1f} {seconds[1] * 1e3:>14.1f} {seconds[1] / seconds[0]:>7.1f}"
        print(f"{level:>5} {dim:>5} {times} {difference:>20.1e} {seconds[2] * 1e3:>14.1f}", flush=True)
        if difference > 1e-9:
            raise SystemExit(f"level {level}: moments differ by {difference:.1e} > 1e-9")


def _fit_folds(parts: Sequence[Array]) -> list[Spectrum]:
    return fit_folds([partial(_chunks, part) for part in parts])


def _timed_into(
    seconds: list[float], place: int, route: Callable[[Sequence[Array]], Any], parts: Sequence[Array]
) -> Any:
    start = time.perf_counter()
    result = route(parts)
    seconds[place] = min(seconds[place], time.perf_counter() - start)
    return result


def _load() -> str:
    """Return the load of the last minute; Windows keeps none."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n", type=int, default=213, help="training images; a fold fits on 4/5 (default: 213, so 170)")
    parser.add_argument("--epochs", type=int, default=20, help="augmented epochs of the moments (default: 20)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{os.cpu_count()} cores, load {_load()}, best of {options.repeats}")
    print(f"n = {options.n * 4 // 5} per fold, 5 folds, 6 modes, {N_TEST} test images")
    print("level     D   core ms  scikit-learn ms   ratio  max rel. difference")
    totals = np.zeros(2)
    for level, dim in enumerate(B4_DIMS, start=1):
        features = draw(options.n + N_TEST, dim, rng)
        splits = KFold(5, shuffle=True, random_state=0).split(features[: options.n])
        folds = [(features[fitted], features[options.n :]) for fitted, _ in splits]
        core_s, sklearn_s, difference = best_times(folds, options.repeats)
        totals += core_s, sklearn_s
        times = f"{core_s * 1e3:>9.1f} {sklearn_s * 1e3:>16.1f} {sklearn_s / core_s:>7.1f}"
        print(f"{level:>5} {dim:>5} {times} {difference:>20.1e}", flush=True)
        if difference > 1e-8:
            raise SystemExit(f"level {level}: distances differ by {difference:.1e} > 1e-8")
    print(f"{'total':>11} {totals[0] * 1e3:>9.1f} {totals[1] * 1e3:>16.1f} {totals[1] / totals[0]:>7.1f}")
    bench_epochs(options.n, options.epochs, options.repeats, rng)


if __name__ == "__main__":
    main()
