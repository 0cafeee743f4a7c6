"""Image files through a network, some at a time: memory does not grow with their number, and none ends the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.errors import ImageError
from gaussad_cli.extraction.decode import Squares, read_squares
from gaussad_cli.extraction.engine import Engine

LOOKAHEAD = 2  # batches that are decoded while one is in the network


@dataclass(frozen=True)
class Seen:
    """One image file.

    Attributes
    ----------
    sha256 : of the file; "" where it could not be read
    error : why not; "" where it could
    features : level -> (D,) float32
    """

    path: Path
    sha256: str
    error: str
    features: dict[int, NDArray[np.float32]] = field(default_factory=dict)


def see(
    engine: Engine, size: int, paths: Iterable[Path], batch_size: int, workers: int, lookahead: int = LOOKAHEAD
) -> Iterator[list[Seen]]:
    """Yield batches of files with their features, in order.

    Parameters
    ----------
    size : pixels of the network's input
    lookahead : batches that are decoded while one is in the network; 0: none is asked for before
    """
    ahead: deque[list[tuple[Path, Future[Squares]]]] = deque()
    remaining = iter(paths)
    batches = iter(lambda: list(islice(remaining, batch_size)), [])
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for batch in batches:
            ahead.append([(path, pool.submit(read_squares, path, [size])) for path in batch])
            if len(ahead) > lookahead:
                yield _run(engine, size, ahead.popleft())
        while ahead:
            yield _run(engine, size, ahead.popleft())


def _run(engine: Engine, size: int, batch: list[tuple[Path, Future[Squares]]]) -> list[Seen]:
    seen, squares, places = [], [], []
    for number, (path, future) in enumerate(batch):
        try:
            read = future.result()
        except ImageError as error:
            seen.append(Seen(path, "", str(error)))
            continue
        seen.append(Seen(path, read.sha256, ""))
        squares.append(read.by_size[size])
        places.append(number)
    if squares:
        features = engine.run(np.stack(squares))
        for row, place in enumerate(places):
            own = {level: values[row] for level, values in features.items()}
            seen[place] = _with_features(seen[place], own)
    return seen


def _with_features(one: Seen, features: dict[int, NDArray[np.float32]]) -> Seen:
    if not all(np.isfinite(values).all() for values in features.values()):
        return Seen(one.path, one.sha256, f"{one.path} has NaN or infinite features: check the image and the weights.")
    return Seen(one.path, one.sha256, "", features)
