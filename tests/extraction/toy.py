"""A stand-in for a network that is quick, and a worker that the kill test can kill: extract a folder with it."""

from __future__ import annotations

import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.extraction import pipeline, store
from gaussad_cli.extraction.pipeline import Extractor, Target

RECIPE = store.Recipe("toy", 2, "none", "0" * 64, "native", input_size=16)
PLACES = store.Recipe("toy", 1, "none", "0" * 64, "native", input_size=16, grid=2)
SHARD = 4


class ToyEngine:
    """Level 1: the mean colour; level 2: the mean of each of 4 rows. Counts images, and fails when told to."""

    levels = (1, 2)

    def __init__(self, fail_after=None):
        self.seen, self.fail_after = 0, fail_after

    def run(self, images):
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        values = images.astype(np.float32)
        size = images.shape[1]
        rows = values.reshape(len(images), 4, size // 4, size, 3).mean(axis=(2, 3, 4))
        return {level: {1: values.mean(axis=(1, 2)), 2: rows}[level] for level in self.levels}


class SlowEngine(ToyEngine):
    """Notes the number of every image, which is its colour, before a pause."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def run(self, images):
        with self.log.open("a") as log:
            log.write("".join(f"{r + 256 * g}\n" for r, g, _ in images[:, 0, 0].tolist()))
        time.sleep(0.002 * len(images))
        return super().run(images)


class PlacesEngine(SlowEngine):
    """Level 1: the mean colour at each of 2 x 2 places."""

    levels = (1,)

    def run(self, images):
        super().run(images)
        n, half = len(images), images.shape[1] // 2
        return {1: images.astype(np.float32).reshape(n, 2, half, 2, half, 3).mean(axis=(2, 4)).reshape(n, -1)}


def work(data: Path, cache: Path, log: Path, places: bool = False) -> None:
    pipeline.SHARD = SHARD
    target = Target(PlacesEngine(log), PLACES) if places else Target(SlowEngine(log), RECIPE)
    for category in find_categories(data):
        Extractor([target], cache, "toy", batch_size=2)(category, lambda _: None)


def killable_work(ready: Event, data: Path, cache: Path, log: Path, places: bool = False) -> None:
    """Work, after telling that it begins."""
    ready.set()
    work(data, cache, log, places)
