"""Score the same images alone, in other batches, orders and positions; fail where a byte differs. Run as a program.

A process of its own, since OpenBLAS chooses its kernel when it is loaded: see test_rows.py.
"""

from collections.abc import Callable, Iterator

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from gaussad_cli.comparators.gmm import fit_gmm, score_gmm
from gaussad_cli.comparators.knn import score_knn
from gaussad_cli.comparators.ocsvm import fit_ocsvm, score_ocsvm
from gaussad_cli.detector.model import combine, fit_level
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS, Fold, Scoring, combine_levels, score_all
from gaussad_cli.gaussian.spectrum import fit_spectrum

Score = Callable[[np.ndarray], np.ndarray]
N_IMAGES = 101
# (training features, dimensions): as many, more, fewer; 500 of 1,280 is where blocks of 64 rows were not enough.
SHAPES = [(24, 24), (120, 24), (170, 272), (501, 1280)]


def scores(train: np.ndarray, comparators: bool) -> Iterator[tuple[str, Score]]:
    """Every score that the command line knows, of one level, and the mean over nine; comparators are slow to fit."""
    spectrum = fit_spectrum(train)
    fold = Fold(spectrum, lambda: train)
    for scoring in PAPER_SCORINGS:
        yield f"{scoring}", lambda y, scoring=scoring: score_all(fold, y, [scoring])[0].distance
    model = fit_level(1, train)
    yield "detector", model.score
    yield "detector, nine levels", lambda y: combine({k: model.score(y) * 1.1**k for k in range(9)})
    yield "sum", lambda y: combine_levels(Scoring("l2"), 2 * score_all(fold, y, PAPER_SCORINGS), None).distance
    if not comparators:
        return
    yield "knn", lambda y: score_knn(train, y, 5)
    for max_exact in (10_000, 0):
        svm = fit_ocsvm(train, max_exact=max_exact, landmarks=20)
        yield f"ocsvm {svm.way}", lambda y, svm=svm: score_ocsvm(svm, y)
    for covariance in ("shared", "own"):
        mixture = fit_gmm(train, spectrum, 9, covariance)
        yield f"gmm {covariance}", lambda y, mixture=mixture: score_gmm(mixture, y)


def check(name: str, score: Score, images: np.ndarray, rng: np.random.Generator) -> None:
    """Compare with the scores of all images at once."""
    together = score(images)
    for size in (1, 2, 3, 7, 47, 48, 49):
        some = images[: 6 * size]
        parts = [score(some[start : start + size]) for start in range(0, len(some), size)]
        assert np.concatenate(parts).tobytes() == together[: len(some)].tobytes(), f"{name}: batches of {size}"
    order = rng.permutation(len(images))
    assert score(images[order]).tobytes() == together[order].tobytes(), f"{name}: another order"
    longer = np.concatenate([images[:5], images])
    assert score(longer)[5:].tobytes() == together.tobytes(), f"{name}: other positions"


def main() -> None:
    """Check every score on every shape with this process's kernel."""
    rng = np.random.default_rng(0)
    with threadpool_limits(1, user_api="blas"):  # as in evaluations and predictions
        for n, dim in SHAPES:
            features = (rng.standard_normal((n + N_IMAGES, dim)) * np.geomspace(1, 0.01, dim) + 1).astype(np.float32)
            for name, score in scores(features[:n], comparators=dim < 100):
                check(f"{name}, {n} x {dim}", score, features[n:], rng)
    print(", ".join(sorted({str(one.get("architecture")) for one in threadpool_info() if one["user_api"] == "blas"})))


if __name__ == "__main__":
    main()
