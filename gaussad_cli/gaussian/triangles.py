"""Square roots of second moments: the triangle R of X = QR, in parts and without X'X.

Forming X'X squares the condition number: components below ``sqrt(eps)`` of the largest standard deviation drown in its
rounding. R'R is X'X too, and R has the singular values of X to the precision of X.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from gaussad_cli.gaussian.moments import Array, Moments


def triangle(chunks: Iterable[ArrayLike], moments: Moments) -> Array:
    """Return R (min(n, D), D) with R'R the second moments of features in chunks of (k, D), which `moments` are of.

    D features at a time are turned into the triangle of all before them, (2D, D) in memory.
    """
    dim = moments.shift.size
    root = np.zeros((0, dim))
    for block in _regrouped(chunks, dim):
        # As the moments were gathered: the shift first, whose difference is exact.
        root = _reduce(np.concatenate([root, block - moments.shift - moments.mean]))
    return root


def merge_triangles(roots: Sequence[Array], parts: Sequence[Moments], together: Moments) -> Array:
    """Return R of all parts together, from theirs and from how far their means lie from that of all."""
    apart = [np.sqrt(part.n) * (part.mean - together.mean) for part in parts]
    return _reduce(np.concatenate([*roots, np.stack(apart)]))


def _regrouped(chunks: Iterable[ArrayLike], rows: int) -> Iterator[Array]:
    """Group chunks to blocks of `rows` features or little more: fewer, larger decompositions."""
    held: list[Array] = []
    for chunk in chunks:
        held.append(np.asarray(chunk, dtype=np.float64))
        if sum(map(len, held)) >= rows:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _reduce(rows: Array) -> Array:
    """Return the triangle of rows (k, D), k or D rows whichever are fewer."""
    return linalg.qr(rows, mode="r", overwrite_a=True, check_finite=False)[0][: rows.shape[1]]
