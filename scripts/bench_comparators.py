"""One-class SVM and k-NN against scikit-learn, side by side in one run, on synthetic correlated features.

Training features are drawn like 100 augmented epochs: half of them are exact copies of their image's own. Both
one-class SVMs solve to the same tolerance and must agree to 1e-6 of the scores' spread, both k-NN to 1e-6, or the run
fails. Where scikit-learn's one-class SVM would take longer than `--limit` seconds, by the one before it and n^2 * D, it
is left out, and the table says so. `--landmarks` also measures the approximation for what exceeds memory.

    python scripts/bench_comparators.py [--n 170 3000 17000] [--dims 272 1792] [--limit 300] [--copies 0] [--landmarks]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM
from threadpoolctl import threadpool_limits

from gaussad_cli.comparators.knn import SPADE_K, score_knn
from gaussad_cli.comparators.ocsvm import TOLERANCE, distinct, fit_ocsvm, score_ocsvm
from gaussad_cli.evaluation.metrics import auroc

Array = NDArray[Any]

N_TEST = 115  # MVTec AD's mean
N_IMAGES = 170  # training images of a fold
LIBSVM_RATE = 7e-10  # seconds per n^2 D, measured at n = 3,000: a first guess


def draw(n: int, dim: int, copies: float, rng: np.random.Generator) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Training and test features, float32, with variances that fall as a power law, and which test ones are off it."""
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    scales = np.arange(1, dim + 1) ** -0.8
    images = rng.standard_normal((min(N_IMAGES, n), dim)) * scales
    changed = rng.random((n, 1)) >= copies if n > N_IMAGES else np.zeros((n, 1), dtype=bool)
    train = images[np.arange(n) % len(images)] + 0.7 * changed * rng.standard_normal((n, dim)) * scales
    test = rng.standard_normal((N_TEST, dim)) * scales
    anomalous = np.arange(N_TEST) % 3 > 0
    test[anomalous] += 0.7 * rng.standard_normal((int(anomalous.sum()), dim)) * scales
    offset = 0.3 * rng.gamma(0.5, 1.0, dim)
    return (train @ basis + offset).astype(np.float32), (test @ basis + offset).astype(np.float32), anomalous


def timed(score: Callable[[Array, Array], Array], train: Array, test: Array) -> tuple[float, Array]:
    """Seconds and scores of a way to score."""
    start = time.perf_counter()
    result = score(train, test)
    return time.perf_counter() - start, result


def nearest_neighbours(train: Array, test: Array) -> Array:
    """Root mean squared distances to the nearest features by scikit-learn, in float64."""
    index = NearestNeighbors(n_neighbors=min(SPADE_K, len(train)), algorithm="brute").fit(train.astype(np.float64))
    return np.sqrt(np.square(index.kneighbors(test.astype(np.float64))[0]).mean(axis=1))


def ours(train: Array, test: Array) -> Array:
    """Scores of our one-class SVM."""
    return score_ocsvm(fit_ocsvm(train), test)


def by_landmarks(train: Array, test: Array) -> Array:
    """Scores of our one-class SVM as if the kernel were too large for memory."""
    return score_ocsvm(fit_ocsvm(train, max_exact=1), test)


def libsvm(train: Array, test: Array) -> Array:
    """Scores of scikit-learn's one-class SVM, in float64."""
    return -OneClassSVM(tol=TOLERANCE).fit(train.astype(np.float64)).decision_function(test.astype(np.float64))


def report(name: str, seconds: float, theirs: tuple[float, Array] | None, scores: Array) -> None:
    """Print a line of the table; fail if the results differ."""
    if theirs is None:
        print(f"{name} {seconds:>9.3f}   left out: beyond --limit", flush=True)
        return
    difference = float(np.abs(scores - theirs[1]).max() / np.ptp(theirs[1]))
    print(f"{name} {seconds:>9.3f} {theirs[0]:>14.3f} {theirs[0] / seconds:>7.1f} {difference:>12.1e}", flush=True)
    if difference > 1e-6:
        raise SystemExit(f"{name}: scores differ by {difference:.1e} of their spread > 1e-6")


def report_landmarks(train: Array, test: Array, exact: Array, anomalous: NDArray[np.bool_]) -> None:
    """Print how the approximation by landmarks differs from the exact one-class SVM."""
    seconds, scores = timed(by_landmarks, train, test)
    change = auroc(scores, anomalous) - auroc(exact, anomalous)
    spread = np.abs(scores - exact).max() / np.ptp(exact)
    print(
        f"    landmarks: {seconds:.3f} s, rank correlation {spearmanr(scores, exact)[0]:.6f}, "
        f"AUROC {change:+.5f}, scores within {spread:.3f} of the spread",
        flush=True,
    )


def _load() -> str:
    """Return the load of the last minute; Windows keeps none."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[170, 3000, 8000], help="training features")
    parser.add_argument("--dims", type=int, nargs="+", default=[272, 1792], help="their dimensions")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that scikit-learn's SVM may take")
    parser.add_argument(
        "--copies", type=float, default=0.5, help="share of exact copies (default: 0.5, augmentation's)"
    )
    parser.add_argument("--landmarks", action="store_true", help="measure the approximation too")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{os.cpu_count()} cores, load {_load()}, one thread each, {N_TEST} test features")
    print("          n distinct     D    ours s scikit-learn s   ratio   max diff.")
    for dim in options.dims:
        rate = LIBSVM_RATE
        for n in options.n:
            train, test, anomalous = draw(n, dim, options.copies, rng)
            row = f"{n:>7} {distinct(train)[0].shape[0]:>8} {dim:>5}"
            with threadpool_limits(1):
                seconds, scores = timed(score_knn, train, test)
                report(f"k-NN {row}", seconds, timed(nearest_neighbours, train, test), scores)
                seconds, scores = timed(ours, train, test)
                theirs = None
                if rate * n * n * dim <= options.limit:
                    theirs = timed(libsvm, train, test)
                    rate = theirs[0] / (n * n * dim)
                report(f"SVM  {row}", seconds, theirs, scores)
                if options.landmarks:
                    report_landmarks(train, test, scores, anomalous)


if __name__ == "__main__":
    main()
