"""Feature maps of images on disk while a model is made of them: memory does not grow with the number of images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.errors import UserError
from gaussad_cli.gaussian.places import Maps, join_levels

CHUNK = 64  # images that are read at a time: their moments then cost more than passing through the sums does


@dataclass
class KeptMaps:
    """The maps of images, one after the other, in a temporary file.

    Attributes
    ----------
    file : holds (n, places, D) float32, levels joined place by place
    places : of the grid
    n : number of images
    dims : level -> channels, ascending; empty before the first image
    """

    file: IO[bytes]
    places: int
    n: int = 0
    dims: dict[int, int] = field(default_factory=dict)

    def append(self, features: Mapping[int, NDArray[np.float32]]) -> None:
        """Keep the features of one image, level -> (places * D_level,).

        Raises
        ------
        UserError
            If the disk is full.
        """
        self.dims = {level: values.size // self.places for level, values in sorted(features.items())}
        joined = join_levels({level: values[None] for level, values in features.items()}, self.places)
        try:
            self.file.write(joined.data)
            self.file.flush()
        except OSError as error:
            raise UserError(
                f"cannot keep the feature maps of images in {tempfile.gettempdir()} ({error.strerror}). Each takes "
                f"{joined.nbytes / 1e6:.1f} MB until the model is made: make room, or set TMPDIR to another folder."
            ) from None
        self.n += 1

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Maps]:
        """Yield the maps of images from `start` up to `stop`, (b, places, D) float32, some at a time."""
        dim, end = sum(self.dims.values()), self.n if stop is None else stop
        for first in range(start, end, CHUNK):
            n = min(CHUNK, end - first)
            size = self.places * dim * np.dtype(np.float32).itemsize
            self.file.seek(first * size)
            yield np.frombuffer(self.file.read(n * size), np.float32).reshape(n, self.places, dim)


@contextmanager
def keep_maps(places: int) -> Iterator[KeptMaps]:
    """Open a temporary file for maps; it is gone when the block, or the process, ends."""
    with tempfile.TemporaryFile() as file:
        yield KeptMaps(file, places)
