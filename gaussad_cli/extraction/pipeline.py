"""Images of a category through one or several engines into the cache.

Decoding runs ahead of the networks in threads, a bounded number of batches; finished shards are committed while the
networks go on. What is whole is never done again, so interrupted work continues. Threads, not processes: decoders and
engines release Python's lock, and nothing depends on how a platform starts processes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gaussad_cli.datasets.index import SPLITS, Category, ImageFile, Split
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction import store
from gaussad_cli.extraction.decode import Squares, read_squares
from gaussad_cli.extraction.engine import Engine
from gaussad_cli.files import sha256_of

SHARD = 64  # images committed together: what an interruption can cost
LOOKAHEAD = 2  # batches decoded, or on their way, beyond the one in the network: what memory is bounded by

Features = dict[int, store.Features]  # level -> (n, D)


@dataclass(frozen=True)
class Target:
    """One backbone's engine, and the recipe its features are kept under."""

    engine: Engine
    recipe: store.Recipe


@dataclass
class Meter:
    """What an extraction took.

    Attributes
    ----------
    images : passes of an image through a network
    network, waiting : seconds that the networks ran, and waited for decoded images
    """

    images: int = 0
    network: float = 0.0
    waiting: float = 0.0

    @property
    def bound(self) -> str:
        """What limits the rate: with enough decoders, the network never waits."""
        return "decode" if self.waiting > 0.1 * (self.waiting + self.network) else "network"

    def add(self, other: Meter) -> None:
        """Add what another extraction took."""
        self.images += other.images
        self.network += other.network
        self.waiting += other.waiting


Advance = Callable[[int], object]  # called with the number of image passes just finished


@dataclass(frozen=True)
class Extractor:
    """How to extract: with what, where to, and how much at a time."""

    targets: Sequence[Target]
    cache: Path
    dataset: str
    batch_size: int = 16
    workers: int = 2
    meter: Meter = field(default_factory=Meter)

    def __call__(self, category: Category, advance: Advance) -> int:
        """Extract what is missing of both splits; return the number of images that went through a network."""
        return sum(self._extract_split(category, split, advance) for split in SPLITS)

    def _extract_split(self, category: Category, split: Split, advance: Advance) -> int:
        images = category.split(split)
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
                advance(len(images))
            else:
                plans.append(_plan(target, folder, whole, [f"{category.name}/{image.name}" for image in images]))
        for plan in plans:
            self._keep_whole_shards(plan, images, hashes, advance)
        done = self._run(_work(plans, images, self.batch_size), hashes, advance)
        for plan in plans:
            recipe, entries = plan.target.recipe, _entries(images, hashes)
            manifest = store.Manifest(self.dataset, category.name, split, recipe, entries, plan.whole)
            store.join_shards(plan.folder, manifest, list(plan.shards.values()))
        return done

    def _keep_whole_shards(
        self, plan: _Plan, images: Sequence[ImageFile], hashes: dict[int, str], advance: Advance
    ) -> None:
        """Take the shards of these very images off the plan's work."""
        for start, shard in plan.shards.items():
            numbers = range(start, start + len(shard.images))
            if (kept := shard.read_hashes()) is not None:
                self._hash(images, numbers, hashes)
                if kept == [hashes[number] for number in numbers]:
                    plan.missing.discard(start)
                    advance(len(numbers))

    def _hash(self, images: Sequence[ImageFile], numbers: Sequence[int], hashes: dict[int, str]) -> None:
        wanted = [number for number in numbers if number not in hashes]
        with ThreadPoolExecutor(self.workers or 1) as pool:
            hashes |= zip(wanted, pool.map(_content_hash, (images[number] for number in wanted)), strict=True)

    def _run(self, work: Sequence[_Batch], hashes: dict[int, str], advance: Advance) -> int:
        """Send batches through the networks, and commit each shard with its last batch."""
        parts: dict[int, list[tuple[list[str], list[Features]]]] = {}
        done = 0
        for batch, result in self._flow(work):
            parts.setdefault(batch.start, []).append(result)
            done += len(batch.images) * len(batch.plans)
            advance(len(batch.images) * len(batch.plans))
            if batch.is_last:
                shard_hashes, features = _joined(parts.pop(batch.start))
                hashes |= enumerate(shard_hashes, start=batch.start)
                for plan, levels in zip(batch.plans, features, strict=True):
                    plan.shards[batch.start].write(shard_hashes, levels)
        return done

    def _flow(self, work: Sequence[_Batch]) -> Iterator[tuple[_Batch, tuple[list[str], list[Features]]]]:
        """Yield batches with their results, in order; decoders and networks are ahead by a bounded number."""
        ahead: deque[tuple[_Batch, _Job]] = deque()
        with ExitStack() as stack:
            decoders, network = (
                (_pool(stack, self.workers), _pool(stack, 1)) if self.workers else (_Inline(), _Inline())
            )
            for batch in work:
                sizes = {plan.target.recipe.input_size for plan in batch.plans}
                squares = [decoders.submit(read_squares, image.path, sizes) for image in batch.images]
                ahead.append((batch, network.submit(self._run_batch, batch, squares)))
                if len(ahead) > LOOKAHEAD:
                    first, job = ahead.popleft()
                    yield first, job.result()
            while ahead:
                first, job = ahead.popleft()
                yield first, job.result()

    def _run_batch(self, batch: _Batch, jobs: Sequence[_Job]) -> tuple[list[str], list[Features]]:
        """Run every plan's engine on a batch; return the images' hashes, and features by plan."""
        begin = time.perf_counter()
        squares: list[Squares] = [job.result() for job in jobs]
        decoded = time.perf_counter()
        features = []
        for plan in batch.plans:
            size = plan.target.recipe.input_size
            features.append(plan.target.engine.run(np.stack([square.by_size[size] for square in squares])))
        self.meter.images += len(squares) * len(batch.plans)
        self.meter.waiting += decoded - begin
        self.meter.network += time.perf_counter() - decoded
        return [square.sha256 for square in squares], features


@dataclass
class _Plan:
    """What is to be done for one target and split."""

    target: Target
    folder: Path
    whole: dict[int, store.LevelEntry]  # other levels, done before
    shards: dict[int, store.Shard]  # by number of their first image
    missing: set[int]  # shards to be done


def _plan(target: Target, folder: Path, whole: dict[int, store.LevelEntry], names: Sequence[str]) -> _Plan:
    shards = {
        start: store.Shard.of(folder, start, names[start : start + SHARD], target.engine.levels)
        for start in range(0, len(names), SHARD)
    }
    return _Plan(target, folder, whole, shards, set(shards))


@dataclass(frozen=True)
class _Batch:
    """Images of one shard that go through the networks together, for the plans that lack the shard."""

    start: int  # the shard's first image
    images: Sequence[ImageFile]
    plans: Sequence[_Plan]
    is_last: bool  # of the shard


def _work(plans: Sequence[_Plan], images: Sequence[ImageFile], batch_size: int) -> list[_Batch]:
    """Cut shards into batches, always from a shard's start: the same images meet in a batch after an interruption."""
    work = []
    for start in sorted(set().union(*(plan.missing for plan in plans))):
        shard = images[start : start + SHARD]
        lacking = [plan for plan in plans if start in plan.missing]
        for i in range(0, len(shard), batch_size):
            work.append(_Batch(start, shard[i : i + batch_size], lacking, i + batch_size >= len(shard)))
    return work


def _joined(parts: Sequence[tuple[list[str], list[Features]]]) -> tuple[list[str], list[Features]]:
    """Join the batches of a shard: hashes, and features by plan."""
    hashes = [one for part, _ in parts for one in part]
    by_plan = zip(*(features for _, features in parts), strict=True)
    return hashes, [{k: np.concatenate([batch[k] for batch in batches]) for k in batches[0]} for batches in by_plan]


def _entries(images: Sequence[ImageFile], hashes: dict[int, str]) -> tuple[store.ImageEntry, ...]:
    return tuple(store.ImageEntry(image.name, image.label, hashes[i]) for i, image in enumerate(images))


def _content_hash(image: ImageFile) -> str:
    try:
        return sha256_of(image.path)
    except OSError as error:
        raise ImageError(f"cannot read the image {image.path}: {error.strerror}.") from None


# --- jobs in threads, or, without workers, when their result is asked for ---


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


def _pool(stack: ExitStack, threads: int) -> _Submits:
    """Return a pool of threads that drops what has not begun when the stack ends."""
    pool = ThreadPoolExecutor(threads)
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool
