"""What a person should know about image files that are read without an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from gaussad_cli.errors import escaped
from gaussad_cli.extraction.decode import Squares

_DIM = 16  # of 256 levels: what is left of 12 bits in a file of 16


class Remarks:
    """Tells of each kind of oddity once, naming the first file."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, paths: Sequence[Path], squares: Sequence[Squares]) -> None:
        """Tell, on stderr, of pages that are not read, and of 16-bit files of which hardly any levels are left.

        Parameters
        ----------
        squares : of these paths, a batch. If all its 16-bit files are dim, their pixels seem to have fewer bits
        """
        peaks = {path: square.peak for path, square in zip(paths, squares, strict=True) if square.peak is not None}
        if peaks and max(peaks.values()) < _DIM:
            self._once(
                "bits",
                f"{next(iter(peaks))} is a 16-bit file without a value above {256 * _DIM - 1}: at most {_DIM} of 256 "
                "levels are left of it. If its pixels have 12 bits (or 10), train or extract with --depth 12 (or 10).",
            )
        pages = [path for path, square in zip(paths, squares, strict=True) if square.has_pages]
        if pages:
            self._once("pages", f"{pages[0]} has several pages: only the first page of such a file is used.")

    def _once(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            with suppress(OSError):  # a message that nobody can read does not end the work
                tqdm.write(escaped(text), file=sys.stderr)
