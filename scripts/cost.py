"""The model of cost against measurements at three sizes: the tables of docs/cost.md.

Evaluations of synthetic features in EfficientNet-Lite0's and B4's dimensions, each in a process of its own for its peak
of memory; and extractions by EfficientNet-Lite0 of noise images, without and with epochs. Seconds of the processor tell
the same on a busy machine.

    python -m scripts.cost [--only evaluate|extract]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gaussad_cli.backbones.info import measure_shape
from gaussad_cli.backbones.registry import choose_padding, find_backbone
from gaussad_cli.experiments import cost
from gaussad_cli.extraction.engine import usable_cores

IMAGES = ((100, 0), (200, 0), (400, 0), (50, 4))  # and epochs of an extraction


@dataclass(frozen=True)
class Size:
    """One evaluation: a backbone's dimensions, training and test images, epochs."""

    backbone: str
    n_train: int
    n_test: int
    epochs: int


SIZES = (
    Size("efficientnet-lite0", 100, 50, 0),
    Size("efficientnet-lite0", 1000, 500, 0),
    Size("efficientnet-lite0", 4000, 2000, 0),
    Size("efficientnet-lite0", 100, 50, 20),
    Size("efficientnet-lite0", 300, 150, 20),
    Size("efficientnet-lite0", 600, 300, 20),
    Size("efficientnet-b4", 100, 50, 0),
    Size("efficientnet-b4", 300, 150, 0),
    Size("efficientnet-b4", 1000, 500, 0),
)

# Prints: processor seconds, bytes at the peak over those after the imports, bytes of features and of spectra.
EVALUATE = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.evaluation.evaluate import evaluate_dataset
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
from gaussad_cli.extraction.store import ImageEntry, Manifest, Recipe, split_folder, write_features

root, name, n_train, n_test, epochs = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
dims, rng = find_backbone(name).dims, np.random.default_rng(0)
recipe = Recipe(name, len(dims), "none", "", "tf", 224, epochs=epochs)
for split, n, how in (("train", n_train, recipe), ("test", n_test, recipe.plain())):
    rows = (n, epochs) if how.epochs else (n,)
    labels = ["anomalous" if split == "test" and i % 2 else "good" for i in range(n)]
    images = tuple(ImageEntry(f"{split}/{label}/{i}.png", label, "") for i, label in enumerate(labels))
    folder = split_folder(root, "synthetic", how, "noise", split)
    features = {level: rng.standard_normal((*rows, dim), dtype=np.float32) for level, dim in enumerate(dims, start=1)}
    write_features(folder, Manifest("synthetic", "noise", split, how, images, {}), features)
del features
if sys.platform == "linux":
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
status = lambda key: next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))
idle, start = status("VmRSS"), time.process_time()
evaluate_dataset(Selection(name, root, epochs=epochs), PAPER_SCORINGS, root / "results")
seconds = time.process_time() - start
size = lambda pattern: sum(path.stat().st_size for path in root.rglob(pattern))
print(json.dumps([seconds, status("VmHWM") - idle, size("level_*.npy"), size("level_*.npz")]))
"""


def measure_evaluations() -> None:
    """Print seconds, memory and disk of every size, and the model's prediction over them; memory has no model."""
    measures = [f"{name} | predicted / it" for name in ("seconds", "features", "spectra")]
    sizes = "backbone | training images | test images | epochs"
    print(f"| {sizes} | memory | {' | '.join(measures)} |\n|---|" + "--:|" * 10)
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [folder, size.backbone, *map(str, (size.n_train, size.n_test, size.epochs))]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            output = subprocess.check_output([sys.executable, "-c", EVALUATE, *arguments], env=environment)
        _print_evaluation(size, json.loads(output.splitlines()[-1]))


def _print_evaluation(size: Size, measured: list[float]) -> None:
    dims = find_backbone(size.backbone).dims
    predicted = (
        cost.evaluation_seconds(size.n_train, size.n_test, size.epochs, dims, 8),
        cost.feature_bytes(size.n_train, size.epochs, dims) + cost.feature_bytes(size.n_test, 0, dims),
        cost.spectra_bytes(size.n_train, size.epochs, dims),
    )
    seconds, memory, *disk = measured
    shown = [f"{seconds:.1f}", *(f"{value / 1e6:.0f} MB" for value in disk)]
    ratios = [model / value for model, value in zip(predicted, (seconds, *disk), strict=True)]
    cells = " | ".join(f"{text} | {ratio:.2f}" for text, ratio in zip(shown, ratios, strict=True))
    sizes = f"{size.backbone} | {size.n_train:,} | {size.n_test:,} | {size.epochs}"
    print(f"| {sizes} | {memory / 1e6:.0f} MB | {cells} |", flush=True)


def measure_extractions() -> None:
    """Print predicted over measured seconds of Lite0 on noise images of 448 x 448; start-up is not counted."""
    backbone = find_backbone("efficientnet-lite0")
    macs = measure_shape(backbone, choose_padding(backbone, None)).multiply_adds[-1]
    measures = [f"{name} | predicted / it" for name in ("seconds on the clock", "of the processor")]
    print(f"\n| images | epochs | views | {' | '.join(measures)} |\n|" + "--:|" * 7)
    with tempfile.TemporaryDirectory() as folder:
        for n, epochs in IMAGES:
            where = Path(folder) / f"{n}-{epochs}"
            seconds = _extract(where, _write_noise(where / "data", n), epochs)
            views = n + (n - 1) * epochs  # the one test image is never augmented
            predicted = cost.extraction_seconds(views, macs)
            cells = " | ".join(f"{value:.1f} | {predicted / value:.2f}" for value in seconds)
            print(f"| {n} | {epochs} | {views} | {cells} |", flush=True)


def _write_noise(root: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train/good", "test/good"):
        (root / "noise" / split).mkdir(parents=True)
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
        image = coarse.resize((448, 448), Image.Resampling.BILINEAR)
        image.save(root / "noise" / ("test/good" if i == 0 else "train/good") / f"{i:05d}.png")
    return root


def _extract(folder: Path, data: Path, epochs: int) -> tuple[float, float]:
    """Return the seconds of `gaussad extract`, on the clock and of the processor over its cores.

    Less those of the same command with nothing left to do.
    """
    command = [sys.executable, "-m", "gaussad_cli", "extract", "--data", str(data), "--cache", str(folder / "cache")]
    command += ["--backbone", "efficientnet-lite0", *(["--epochs", str(epochs)] if epochs else [])]
    (clock, used), (idle_clock, idle_used) = _timed(command), _timed(command)
    return clock - idle_clock, (used - idle_used) / usable_cores()


def _timed(command: list[str]) -> tuple[float, float]:
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - start, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("evaluate", "extract"), help="one of the two tables")
    only = parser.parse_args().only
    if only in (None, "evaluate"):
        measure_evaluations()
    if only in (None, "extract"):
        measure_extractions()


if __name__ == "__main__":
    main()
