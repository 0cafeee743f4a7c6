"""Do calibrated thresholds keep their promise where images are alike? Training images as test images.

    python -m scripts.exchangeability cache/DATASET/BACKBONE/KEY [--level 7] [--repeats 20]

A fifth of a category's training images, drawn at random, is put aside and stands for the normal test images; the other
four fifths are fitted and calibrated in five folds as always. Whatever drift there is between a data set's training and
test images cannot play a part. Prints the mean achieved false-positive rates, in percent, by category and method.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.datasets.folds import held_out_parts, training_folds
from gaussad_cli.evaluation.calibration import METHODS, ThresholdsWanted, calibrate
from gaussad_cli.evaluation.scorings import Fold, Scored, Scoring, score_all
from gaussad_cli.extraction.store import read_features, read_manifest
from gaussad_cli.gaussian.spectrum import fit_spectrum

TARGETS = (0.3173, 0.2, 0.1, 0.05)
SCORING = [Scoring("mahalanobis")]


def achieved(features: NDArray[Any], repeats: int) -> dict[tuple[str, float], float]:
    """Return the mean achieved rate by method and wanted rate, of training features (n, D)."""
    rng = np.random.default_rng(0)
    rates: dict[tuple[str, float], list[float]] = {}
    for _ in range(repeats):
        order = rng.permutation(len(features))
        aside, rest = features[order[: len(order) // 5]], features[order[len(order) // 5 :]]
        test, held_out = [], []
        for fitted, part in zip(training_folds(len(rest)), held_out_parts(len(rest)), strict=True):
            scored = _score(rest[fitted], np.concatenate([aside, rest[part]]))
            test.append(Scored(scored.distance[: len(aside)], scored.dim, None))
            held_out.append(Scored(scored.distance[len(aside) :], scored.dim, None))
        wanted, none = ThresholdsWanted(METHODS, TARGETS), np.zeros(len(aside), dtype=bool)
        for row in calibrate(wanted, test, held_out, none, is_gaussian=True):
            rates.setdefault((str(row["method"]), float(str(row["target"]))), []).append(float(str(row["fpr"])))
    return {key: float(np.mean(values)) for key, values in rates.items()}


def _score(train: NDArray[Any], points: NDArray[Any]) -> Scored:
    return score_all(Fold(fit_spectrum(train), lambda: train), points, SCORING)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an extraction's folder in the cache, of images as they are")
    parser.add_argument("--level", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    print(f"{'category':<12} {'method':<16}" + "".join(f"{100 * target:>8.4g}" for target in TARGETS))
    for folder in sorted(path.parent for path in options.folder.glob("*/train/manifest.json")):
        features = read_features(folder, read_manifest(folder), options.level)
        with threadpool_limits(1, user_api="blas"):
            rates = achieved(features, options.repeats)
        for method in METHODS:
            shown = "".join(f"{100 * rates[method, target]:>8.1f}" for target in TARGETS)
            print(f"{folder.parent.name:<12} {method:<16}{shown}", flush=True)


if __name__ == "__main__":
    main()
