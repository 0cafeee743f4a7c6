"""Time what a person waits for: help, the first answer of a model, a thousand answers, a training on 40 images.

Every command is a process of its own, start-up included. With --against, the commands of another source tree of gaussad
(run by the same Python) take turns with this one's, and the ratio is printed.

    python scripts/bench_start.py --normal mvtec3/screw/train/good --images mvtec3/screw/test --against ../before
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from gaussad_cli.datasets.images import find_images

ROOT = Path(__file__).resolve().parents[1]
MANY = 1000  # images, some of them several times


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds, processor seconds, and the most memory in MB of a process."""

    wall: float
    processor: float
    memory: float

    def __str__(self) -> str:
        return f"{self.wall:7.2f} s  {self.processor:7.2f} s of processors  {self.memory:6.0f} MB"


def run(tree: Path, folder: Path, arguments: Sequence[object], listed: str = "") -> Cost:
    """Run a command of a source tree in a folder; `listed` goes to its standard input."""
    command = [sys.executable, "-m", "gaussad_cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    with (folder / "listed").open("w") as file:
        file.write(listed)
    begin = perf_counter()
    with (folder / "listed").open() as stdin, (folder / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=stdin, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    wall = perf_counter() - begin
    if status:
        raise SystemExit(f"{' '.join(command)}: {(folder / 'said').read_text()}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each part."""
    return Cost(*(statistics.median(values) for values in zip(*(vars(cost).values() for cost in costs), strict=True)))


def measure(name: str, trees: dict[Path, Path], arguments: Sequence[object], repeats: int, listed: str = "") -> None:
    """Run a command of every tree in turns, and print medians and the ratio of the last to the first."""
    costs: dict[Path, list[Cost]] = {tree: [] for tree in trees}
    for _ in range(repeats):
        for tree, folder in trees.items():
            costs[tree].append(run(tree, folder, arguments, listed))
    medians = [median(values) for values in costs.values()]
    for tree, cost in zip(trees, medians, strict=True):
        print(f"{name:34} {cost}   {tree.name}")
    if len(medians) > 1:
        print(f"{name:34} {medians[-1].wall / medians[0].wall:7.1f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normal", type=Path, required=True, help="folder of normal images; 40 of them are taken")
    parser.add_argument("--images", type=Path, required=True, help="folder of images to score")
    parser.add_argument("--against", type=Path, help="another source tree of gaussad")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    images = [str(path.resolve()) for path in find_images(options.images).paths]
    with tempfile.TemporaryDirectory() as work:
        trees = {}
        for number, tree in enumerate(filter(None, [ROOT, options.against])):
            folder = trees[tree.resolve()] = Path(work) / str(number)
            (folder / "forty").mkdir(parents=True)
            for path in find_images(options.normal).paths[:40]:
                (folder / "forty" / path.name).symlink_to(path.resolve())
        train = ("train", "--normal", "forty", "--out", "m.gaussad", "--fpr", "0.05")
        measure("train on 40 images, the first time", trees, train, 1)
        measure("train on 40 images", trees, train, min(3, options.repeats))
        measure("predict one image", trees, ("predict", "m.gaussad", images[0]), options.repeats)
        many = "\n".join((images * (MANY // len(images) + 1))[:MANY])
        measure(f"predict {MANY} images", trees, ("predict", "m.gaussad", "-"), min(3, options.repeats), many)
        measure("--help", trees, ("--help",), 2 * options.repeats)
        measure("train --help", trees, ("train", "--help"), 2 * options.repeats)


if __name__ == "__main__":
    main()
