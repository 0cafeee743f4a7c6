"""Runs the images of a category through one or several engines and writes their features to the cache.

Threads decode a bounded number of batches ahead of the networks; finished shards are committed while the networks run.
Complete work is never done again, so interrupted work continues. Threads are enough: decoders and engines release
Python's lock, and threads start in the same way on every platform.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gaussad_cli.datasets.index import SPLITS, Category, ImageFile, Split
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction import store
from gaussad_cli.extraction.augment import Augmentation, Augmenter
from gaussad_cli.extraction.decode import Squares, read_squares
from gaussad_cli.extraction.engine import Engine
from gaussad_cli.extraction.masks import keep_masks
from gaussad_cli.extraction.remarks import Remarks
from gaussad_cli.files import sha256_of
from gaussad_cli.lookahead import look_ahead

SHARD = 64  # images or augmented views committed together: an interruption loses no more
VIEWS_PER_READING = 8  # augmented views of one image that one thread makes one after the other
LOOKAHEAD = 2  # batches decoded ahead of the one in the network: this bounds memory

Features = dict[int, store.Features]  # level -> (n, D)


@dataclass(frozen=True)
class Target:
    """One backbone's engine, and the recipe of its features."""

    engine: Engine
    recipe: store.Recipe


@dataclass
class Meter:
    """The work and time of an extraction.

    Attributes
    ----------
    images : passes of an image through a network
    network, waiting : seconds that the networks ran, and that they waited for decoded images
    """

    images: int = 0
    network: float = 0.0
    waiting: float = 0.0

    @property
    def bound(self) -> str:
        """Which of the two limits the rate: with enough decoders, the network never waits."""
        return "decode" if self.waiting > 0.1 * (self.waiting + self.network) else "network"

    def add(self, other: Meter) -> None:
        """Add the work and time of another extraction."""
        self.images += other.images
        self.network += other.network
        self.waiting += other.waiting


Advance = Callable[[int], object]  # called with the number of image passes just finished


@dataclass(frozen=True)
class Extractor:
    """How to extract: by which engines, to which folder, and how many images at a time.

    With an augmentation, only training images are extracted, once per epoch of the recipe. A view is an image in one
    epoch; the views of an image follow one another, so that one reading of its file serves several views.
    """

    targets: Sequence[Target]
    cache: Path
    dataset: str
    batch_size: int = 16
    workers: int = 2
    meter: Meter = field(default_factory=Meter)
    augmentation: Augmentation | None = None
    remarks: Remarks = field(default_factory=Remarks)

    def __call__(self, category: Category, advance: Advance) -> int:
        """Extract the missing features of both splits; return the number of images that went through a network."""
        splits = SPLITS if self.augmentation is None else ("train",)
        return sum(self._extract_split(category, split, advance) for split in splits)

    def passes(self, category: Category) -> int:
        """Return the number of passes of the category's images through the networks."""
        if self.augmentation is None:
            return (len(category.train) + len(category.test)) * len(self.targets)
        return sum(len(category.train) * target.recipe.epochs for target in self.targets)

    def _extract_split(self, category: Category, split: Split, advance: Advance) -> int:
        images = category.split(split)
        augmenter = self.augmentation.augmenter(category.name) if self.augmentation else None
        rules = vars(augmenter.rules) if augmenter else None
        views = _views(images, self.targets[0].recipe.epochs)
        names = [f"{category.name}/{view}" for view in views]
        hashes: dict[int, str] = {}  # of the images read so far, by number
        plans = []
        for target in self.targets:
            folder = store.split_folder(self.cache, self.dataset, target.recipe, category.name, split)
            if (folder / store.MANIFEST).exists():
                self._hash(images, range(len(images)), hashes)
                whole = store.whole_levels(folder, target.recipe, _entries(images, hashes))
            else:
                whole = {}
            if set(target.engine.levels) <= set(whole):
                store.remove_shards(folder)
                advance(len(views))
            else:
                plans.append(_plan(target, folder, whole, names))
        for plan in plans:
            self._keep_whole_shards(plan, images, views, hashes, advance)
        done = self._run(_work(plans, views, self.batch_size), augmenter, hashes, advance)
        if split == "test":  # before the manifests: a split that has one is complete
            self._keep_masks(category, _entries(images, hashes))
        for plan in plans:
            recipe, entries = plan.target.recipe, _entries(images, hashes)
            manifest = store.Manifest(self.dataset, category.name, split, recipe, entries, plan.whole, rules)
            store.join_shards(plan.folder, manifest, list(plan.shards.values()))
        return done

    def _keep_masks(self, category: Category, entries: Sequence[store.ImageEntry]) -> None:
        """Keep the test images' masks beside their features of places; averaged features show no place."""
        for target in self.targets:
            if target.recipe.grid:
                folder = store.split_folder(self.cache, self.dataset, target.recipe, category.name, "test")
                keep_masks(folder, category.test, entries)

    def _keep_whole_shards(
        self,
        plan: _Plan,
        images: Sequence[ImageFile],
        views: Sequence[_View],
        hashes: dict[int, str],
        advance: Advance,
    ) -> None:
        """Remove shards that were made of exactly these images from the plan's work."""
        for start, shard in plan.shards.items():
            if (kept := shard.read_hashes()) is not None:
                numbers = [view.number for view in views[start : start + len(shard.images)]]
                self._hash(images, numbers, hashes)
                if kept == [hashes[number] for number in numbers]:
                    plan.missing.discard(start)
                    advance(len(numbers))

    def _hash(self, images: Sequence[ImageFile], numbers: Sequence[int], hashes: dict[int, str]) -> None:
        unknown = sorted({number for number in numbers if number not in hashes})
        with _pool(self.workers or 1) as pool:
            jobs = [pool.submit(_content_hash, images[number]) for number in unknown]
            hashes |= zip(unknown, (job.result() for job in jobs), strict=True)

    def _run(
        self, work: Sequence[_Batch], augmenter: Augmenter | None, hashes: dict[int, str], advance: Advance
    ) -> int:
        """Run batches through the networks, and commit each shard after its last batch."""
        parts: dict[int, list[tuple[list[str], list[Features]]]] = {}
        done = 0
        with _pool(self.workers) as decoders, _pool(min(self.workers, 1)) as network:
            start = partial(self._start, augmenter=augmenter, decoders=decoders, network=network)
            for batch, result in look_ahead(work, start, LOOKAHEAD):
                parts.setdefault(batch.start, []).append(result)
                _note(hashes, batch.views, result[0])
                done += len(batch.views) * len(batch.plans)
                advance(len(batch.views) * len(batch.plans))
                if batch.is_last:
                    shard_hashes, features = _joined(parts.pop(batch.start))
                    for plan, levels in zip(batch.plans, features, strict=True):
                        plan.shards[batch.start].write(shard_hashes, levels)
        return done

    def _start(self, batch: _Batch, augmenter: Augmenter | None, decoders: _Submits, network: _Submits) -> _Job:
        """Start decoding a batch, and queue the networks' run on the decoded images."""
        recipes = [plan.target.recipe for plan in batch.plans]
        sizes, depth = {recipe.input_size for recipe in recipes}, store.depth_of(recipes[0].preprocessing)
        squares = [decoders.submit(_read, views, sizes, depth, augmenter) for views in _readings(batch.views)]
        return network.submit(self._run_batch, batch, squares)

    def _run_batch(self, batch: _Batch, jobs: Sequence[_Job]) -> tuple[list[str], list[Features]]:
        """Run every plan's engine on a batch; return the images' hashes and the features by plan."""
        begin = time.perf_counter()
        squares: list[Squares] = [square for job in jobs for square in job.result()]
        decoded = time.perf_counter()
        self.remarks.tell([view.image.path for view in batch.views], squares)
        features = []
        for plan in batch.plans:
            size = plan.target.recipe.input_size
            features.append(plan.target.engine.run(np.stack([square.by_size[size] for square in squares])))
        self.meter.images += len(squares) * len(batch.plans)
        self.meter.waiting += decoded - begin
        self.meter.network += time.perf_counter() - decoded
        return [square.sha256 for square in squares], features


@dataclass(frozen=True, slots=True)
class _View:
    """An image, either the original (epoch None) or in an augmented epoch."""

    image: ImageFile
    number: int  # of the image in its split
    epoch: int | None

    def __str__(self) -> str:
        return self.image.name if self.epoch is None else f"{self.image.name}, epoch {self.epoch}"


def _views(images: Sequence[ImageFile], epochs: int) -> list[_View]:
    numbers = range(epochs) if epochs else (None,)
    return [_View(image, i, epoch) for i, image in enumerate(images) for epoch in numbers]


def _readings(views: Sequence[_View]) -> Iterator[list[_View]]:
    """Group the views that share one reading of a file."""
    for _, of_image in groupby(views, key=lambda view: view.number):
        together = list(of_image)
        for i in range(0, len(together), VIEWS_PER_READING):
            yield together[i : i + VIEWS_PER_READING]


def _read(views: Sequence[_View], sizes: Iterable[int], depth: int, augmenter: Augmenter | None) -> list[Squares]:
    """Read the file of an image, and make its views."""
    image = views[0].image
    read = read_squares(image.path, sizes, depth)
    if augmenter is None:
        return [read]
    augmented = (
        {size: augmenter(s, image.name, view.epoch or 0) for size, s in read.by_size.items()} for view in views
    )
    return [replace(read, by_size=by_size) for by_size in augmented]


@dataclass
class _Plan:
    """The work on one split for one target."""

    target: Target
    folder: Path
    whole: dict[int, store.LevelEntry]  # other levels, which were complete before
    shards: dict[int, store.Shard]  # by the number of their first view
    missing: set[int]  # shards to extract


def _plan(target: Target, folder: Path, whole: dict[int, store.LevelEntry], names: Sequence[str]) -> _Plan:
    shards = {
        start: store.Shard.of(folder, start, names[start : start + SHARD], target.engine.levels)
        for start in range(0, len(names), SHARD)
    }
    return _Plan(target, folder, whole, shards, set(shards))


@dataclass(frozen=True)
class _Batch:
    """Views of one shard that go through the networks together, for the plans that lack the shard."""

    start: int  # the shard's first view
    views: Sequence[_View]
    plans: Sequence[_Plan]
    is_last: bool  # of the shard


def _work(plans: Sequence[_Plan], views: Sequence[_View], batch_size: int) -> list[_Batch]:
    """Cut shards into batches, always from a shard's start, so that an interruption does not change the batches."""
    work = []
    for start in sorted(set().union(*(plan.missing for plan in plans))):
        shard = views[start : start + SHARD]
        lacking = [plan for plan in plans if start in plan.missing]
        for i in range(0, len(shard), batch_size):
            work.append(_Batch(start, shard[i : i + batch_size], lacking, i + batch_size >= len(shard)))
    return work


def _joined(parts: Sequence[tuple[list[str], list[Features]]]) -> tuple[list[str], list[Features]]:
    """Join the batches of a shard: hashes, and features by plan."""
    hashes = [sha256 for part, _ in parts for sha256 in part]
    by_plan = zip(*(features for _, features in parts), strict=True)
    return hashes, [{k: np.concatenate([batch[k] for batch in batches]) for k in batches[0]} for batches in by_plan]


def _entries(images: Sequence[ImageFile], hashes: dict[int, str]) -> tuple[store.ImageEntry, ...]:
    return tuple(store.ImageEntry(image.name, image.label, hashes[i]) for i, image in enumerate(images))


def _note(hashes: dict[int, str], views: Sequence[_View], read: Sequence[str]) -> None:
    """Note the hashes of images just read; every reading of an image must have the same hash."""
    for view, sha256 in zip(views, read, strict=True):
        if hashes.setdefault(view.number, sha256) != sha256:
            raise ImageError(f"the image {view.image.path} changed during the extraction: run again when it is final.")


def _content_hash(image: ImageFile) -> str:
    try:
        return sha256_of(image.path)
    except OSError as error:
        raise ImageError(f"cannot read the image {image.path}: {error.strerror}.") from None


# --- jobs that run in threads, or, without workers, when their result is requested ---


class _Job(Protocol):
    def result(self) -> Any: ...


class _Submits(Protocol):
    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> _Job: ...


@dataclass(frozen=True)
class _Deferred:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def result(self) -> Any:
        return self.function(*self.arguments)


class _Inline:
    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> _Job:
        return _Deferred(function, arguments)


@contextmanager
def _pool(threads: int) -> Iterator[_Submits]:
    """Yield a pool of threads; when the block ends, jobs that have not begun are dropped.

    Jobs that have begun are waited for, so that two categories never share an engine at the same time. After Ctrl-C
    they are not: no work follows, and a person is waiting.
    """
    if not threads:
        yield _Inline()
        return
    pool, wait = ThreadPoolExecutor(threads), True
    try:
        yield pool
    except KeyboardInterrupt:
        wait = False
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)
