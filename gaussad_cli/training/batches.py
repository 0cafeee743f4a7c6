"""The images of a fold in batches, as they are or augmented, and the seeds that everything random follows from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.lookahead import Together, look_ahead
from gaussad_cli.training.task import CategoryTraining, FoldSplit, Indices

LOOKAHEAD = 2  # batches that are augmented while one is in the network

Batch = tuple[Indices, NDArray[np.uint8]]  # indices (n,) of the images, and their pixels (n, size, size, 3)


@dataclass(frozen=True)
class FoldBatches:
    """The batches of one fold; `pool` augments."""

    training: CategoryTraining
    fold: FoldSplit
    pool: ThreadPoolExecutor

    def plain(self, part: Indices) -> Iterator[Batch]:
        """Yield a part of the fold in its own order, without augmentation."""
        for numbers in cut(part, self.training.batch_size):
            yield numbers, self.training.images.squares[numbers]

    def augmented(self, epoch: int) -> Iterator[Batch]:
        """Yield the training part in the epoch's order; later batches are augmented meanwhile in threads."""
        batches = cut(self._order(epoch), self.training.batch_size)
        for numbers, views in look_ahead(batches, partial(self._augment, epoch), LOOKAHEAD):
            yield numbers, np.stack(views)

    def sample(self) -> NDArray[np.uint8]:
        """Return one batch of the training part, drawn at random, without augmentation."""
        return self.training.images.squares[self._order("sample")[: self.training.network.batch_size]]

    def seed(self, *what: int | str) -> int:
        """Return the seed of what is drawn for this fold."""
        return seed_of(self.training.options.seed, self.training.category, self.fold.number, *what)

    def _order(self, epoch: int | str) -> Indices:
        return np.random.default_rng(self.seed("order", epoch)).permutation(self.fold.train)

    def _augment(self, epoch: int, numbers: Indices) -> Together[NDArray[np.uint8]]:
        images, augmenter = self.training.images, self.training.augmenter
        return Together([self.pool.submit(augmenter, images.squares[i], images.names[i], epoch) for i in numbers])


def cut(numbers: Indices, batch_size: int) -> list[Indices]:
    """Cut into batches; a single image left over joins the last batch, since batch norm cannot train on one image."""
    starts = list(range(0, len(numbers), batch_size))
    if len(starts) > 1 and len(numbers) - starts[-1] == 1:
        starts.pop()
    return np.split(numbers, starts[1:])


def seed_of(*parts: int | str) -> int:
    """Return a seed of 63 bits that follows from the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1
