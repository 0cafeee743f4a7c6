"""Images of a category through the engine into the cache, in shards, so that interrupted work continues."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.datasets.index import SPLITS, Category, ImageFile, Split
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction import store
from gaussad_cli.extraction.decode import read_square
from gaussad_cli.files import sha256_of

SHARD = 64  # images committed together: what an interruption can cost
_PARTIAL = "partial"

Advance = Callable[[int], object]  # called with the number of images just finished


class Engine(Protocol):
    """What the pipeline needs of an engine."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels it computes."""
        ...

    def run(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """Return level -> (N, D) for images (N, size, size, 3) RGB."""
        ...


@dataclass(frozen=True)
class Extractor:
    """How to extract: the engine, its recipe, where to, and how much at a time."""

    engine: Engine
    recipe: store.Recipe
    cache: Path
    dataset: str
    batch_size: int = 16
    workers: int = 2

    def __call__(self, category: Category, advance: Advance) -> int:
        """Extract what is missing of both splits; return the number of images that went through the network."""
        return sum(self._extract_split(category, split, advance) for split in SPLITS)

    def _extract_split(self, category: Category, split: Split, advance: Advance) -> int:
        images = category.split(split)
        folder = store.split_folder(self.cache, self.dataset, self.recipe, category.name, split)
        entries = tuple(store.ImageEntry(image.name, image.label, _content_hash(image)) for image in images)
        whole = store.whole_levels(folder, self.recipe, entries)
        if set(self.engine.levels) <= set(whole):
            shutil.rmtree(folder / _PARTIAL, ignore_errors=True)
            advance(len(images))
            return 0
        shards, done = self._extract_shards(images, entries, folder / _PARTIAL, advance)
        features = {
            level: np.concatenate([shard[f"level_{level}"] for shard in shards]) for level in self.engine.levels
        }
        manifest = store.Manifest(self.dataset, category.name, split, self.recipe, entries, whole)
        store.write_features(folder, manifest, features)
        shutil.rmtree(folder / _PARTIAL, ignore_errors=True)
        return done

    def _extract_shards(
        self, images: Sequence[ImageFile], entries: Sequence[store.ImageEntry], folder: Path, advance: Advance
    ) -> tuple[list[dict[str, store.Features]], int]:
        """Return all shards in order, and how many images were computed for it; decoding runs ahead of the network."""
        starts = range(0, len(images), SHARD)
        paths = [self._shard_path(entries, start, folder) for start in starts]
        shards = [store.read_arrays(path) for path in paths]
        missing = [images[start : start + SHARD] for start, shard in zip(starts, shards, strict=True) if shard is None]
        squares = self._decoded([image for shard in missing for image in shard])
        whole = []
        for start, path, shard in zip(starts, paths, shards, strict=True):
            n = len(images[start : start + SHARD])
            if shard is None:
                shard = self._run_shard(n, squares, advance)  # noqa: PLW2901
                store.write_arrays(path, shard)
            else:
                advance(n)
            whole.append(shard)
        return whole, sum(map(len, missing))

    def _run_shard(self, n: int, squares: Iterator[NDArray[np.uint8]], advance: Advance) -> dict[str, store.Features]:
        batches = []
        for start in range(0, n, self.batch_size):
            size = min(self.batch_size, n - start)
            batches.append(self.engine.run(np.stack([next(squares) for _ in range(size)])))
            advance(size)
        return {f"level_{level}": np.concatenate([batch[level] for batch in batches]) for level in self.engine.levels}

    def _shard_path(self, entries: Sequence[store.ImageEntry], start: int, folder: Path) -> Path:
        """Name a shard after its images and levels: one of other images or levels is never taken for it."""
        images = [(entry.name, entry.sha256) for entry in entries[start : start + SHARD]]
        return folder / f"shard_{start:06d}_{store.digest([images, self.engine.levels])[:16]}.npz"

    def _decoded(self, images: Sequence[ImageFile]) -> Iterator[NDArray[np.uint8]]:
        """Yield the images' squares in order, decoded by threads at most two batches ahead."""
        size, pending = self.recipe.input_size, deque[Future[NDArray[np.uint8]]]()
        if self.workers == 0:
            yield from (read_square(image.path, size) for image in images)
            return
        pool = ThreadPoolExecutor(self.workers)
        try:
            for image in images:
                pending.append(pool.submit(read_square, image.path, size))
                if len(pending) > 2 * self.batch_size:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _content_hash(image: ImageFile) -> str:
    try:
        return sha256_of(image.path)
    except OSError as error:
        raise ImageError(f"cannot read the image {image.path}: {error.strerror}.") from None
