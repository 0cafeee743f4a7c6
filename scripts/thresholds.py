"""Does a detector's threshold keep its promise? Achieved against wanted false-positive rates over random splits.

Half of a category's training images train a detector, the other half, which are as good, ask it. Printed per category,
level and mode: the mean over the splits of the achieved rates, the share of defects beyond the threshold, and whether
the wanted rate lies in the exact 95 % binomial interval of the achieved one. That interval counts every image once,
although it is asked in half of the splits: asking again adds little.

An extraction with a grid is asked for the detector on places, which joins the levels and has but one mode.

Usage: python scripts/thresholds.py cache/DATASET/BACKBONE/KEY --levels 7 --levels 9 --levels 1-9 [--splits 20]
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from gaussad_cli.backbones.registry import parse_levels
from gaussad_cli.detector.kept_maps import CHUNK, KeptMaps
from gaussad_cli.detector.model import calibrate, combine, fit_levels
from gaussad_cli.detector.places import score_maps, train_places
from gaussad_cli.evaluation.metrics import binomial_interval
from gaussad_cli.extraction.store import Features, read_features, read_manifest
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.places import Maps, join_levels
from gaussad_cli.gaussian.thresholds import conformal_threshold

MODES = (NO_COMPRESSION, Compression("pca", 0.99), Compression("npca", 0.01))
RATES = (0.05, 0.01)


Rows = Mapping[int, Features]  # level -> (n, D)
Detector = Callable[[Rows], tuple[Array, Callable[[Rows], Array]]]  # from images to held-out scores, and what scores


def measure(good: Rows, bad: Rows, train_on: Detector, splits: int) -> tuple[Array, Array]:
    """Return achieved false- and true-positive rates, (splits, 2) each."""
    rng, n = np.random.default_rng(0), len(next(iter(good.values())))
    fpr, tpr = np.empty((splits, len(RATES))), np.empty((splits, len(RATES)))
    for split in range(splits):
        order = rng.permutation(n)
        train, ask = order[: n // 2], order[n // 2 :]
        held_out, score = train_on({level: rows[train] for level, rows in good.items()})
        thresholds = np.append(conformal_threshold(held_out, np.maximum(RATES, 1 / (len(train) + 1))), [])
        normal, anomalous = score({level: rows[ask] for level, rows in good.items()}), score(bad)
        fpr[split] = (normal[:, None] > thresholds).mean(axis=0)
        tpr[split] = (anomalous[:, None] > thresholds).mean(axis=0)
    return fpr, tpr


def train_pooled(compression: Compression, train: Rows) -> tuple[Array, Callable[[Rows], Array]]:
    """Train the paper's detector."""
    levels = fit_levels(train, compression)

    def score(rows: Rows) -> Array:
        return combine({level.level: level.score(rows[level.level]) for level in levels})

    return calibrate(levels, RATES[0]).distances, score


def train_on_places(grid: int, train: Rows) -> tuple[Array, Callable[[Rows], Array]]:
    """Train the detector on places, with features level -> (n, grid * grid * C)."""
    maps, n = KeptMaps(io.BytesIO(), grid**2), len(next(iter(train.values())))
    for i in range(n):
        maps.append({level: rows[i] for level, rows in train.items()})
    fitted = train_places(maps, n, None)
    return fitted.held_out, lambda rows: score_maps(fitted.model, chunks(rows, grid))


def chunks(features: Mapping[int, Features], grid: int) -> Iterator[Maps]:
    """Yield joined maps, some images at a time."""
    n = len(next(iter(features.values())))
    for start in range(0, n, CHUNK):
        yield join_levels({level: rows[start : start + CHUNK] for level, rows in features.items()}, grid**2)


def describe(fpr: Array, tpr: Array, n: int) -> str:
    """Return the wanted and achieved rates in one line."""
    said = []
    for column, rate in enumerate(np.maximum(RATES, 1 / (n // 2 + 1))):
        low, high = binomial_interval(round(fpr[:, column].mean() * n), n)
        mark = "" if low <= rate <= high else " OUTSIDE"
        said.append(
            f"{100 * rate:4.1f}: {100 * fpr[:, column].mean():4.1f} ({100 * low:.1f}-{100 * high:.1f})"
            f"{mark}, {100 * tpr[:, column].mean():5.1f}"
        )
    return ";  ".join(said)


def read(folder: Path, split: str, levels: Sequence[int]) -> tuple[dict[int, Features], list[str]]:
    """Return a split's features, level -> (n, D), and the labels of its images."""
    manifest = read_manifest(folder / split)
    features = {level: read_features(folder / split, manifest, level) for level in levels}
    return features, [image.label for image in manifest.images]


def main() -> None:
    """Print a line per category, levels and mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an extraction, as 'gaussad extract' prints it")
    parser.add_argument("--levels", action="append", required=True)
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    print("category     levels  mode         wanted: achieved FPR, % (interval), TPR, %")
    for folder in sorted(path.parents[1] for path in options.folder.glob("*/train/manifest.json")):
        for text in options.levels:
            levels = parse_levels(text, 9)
            good, _ = read(folder, "train", levels)
            test, labels = read(folder, "test", levels)
            bad = {level: rows[np.array(labels) != "good"] for level, rows in test.items()}
            n, grid = len(next(iter(good.values()))), read_manifest(folder / "train").recipe.grid
            if grid:
                fpr, tpr = measure(good, bad, partial(train_on_places, grid), options.splits)
                print(f"{folder.name:12} {text:7} {'places':12} {describe(fpr, tpr, n)}", flush=True)
                continue
            for mode in MODES:
                with threadpool_limits(1, user_api="blas"):
                    fpr, tpr = measure(good, bad, partial(train_pooled, mode), options.splits)
                print(f"{folder.name:12} {text:7} {mode!s:12} {describe(fpr, tpr, n)}", flush=True)


if __name__ == "__main__":
    main()
