"""Square roots of second moments: the triangle R of X = QR, computed in parts and without X'X.

Forming X'X squares the condition number: components below ``sqrt(eps)`` of the largest standard deviation are lost in
its rounding. R'R equals X'X, but R has the singular values of X to the precision of X.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from gaussad_cli.gaussian.moments import Array, Moments


def triangle(chunks: Iterable[ArrayLike], moments: Moments) -> Array:
    """Return R (min(n, D), D) such that R'R are the second moments of the features in chunks of (k, D).

    `moments` are those of the same features. About D features at a time join the triangle: (2D, D) are in memory.
    """
    dim = moments.shift.size
    root = np.zeros((0, dim))
    for block in _regrouped(chunks, dim):
        # The shift is subtracted first, as for the moments: that difference is exact.
        root = _reduce(np.concatenate([root, block - moments.shift - moments.mean]))
    return root


def merge_triangles(roots: Sequence[Array], parts: Sequence[Moments], together: Moments) -> Array:
    """Return R of all parts together, from the parts' R and the distances of their means from the total mean."""
    apart = [np.sqrt(part.n) * (part.mean - together.mean) for part in parts]
    return _reduce(np.concatenate([*roots, np.stack(apart)]))


def _regrouped(chunks: Iterable[ArrayLike], rows: int) -> Iterator[Array]:
    """Group chunks into blocks of at least `rows` features: fewer, larger decompositions are faster."""
    held: list[Array] = []
    for chunk in chunks:
        held.append(np.asarray(chunk, dtype=np.float64))
        if sum(map(len, held)) >= rows:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _reduce(rows: Array) -> Array:
    """Return the triangle (min(k, D), D) of rows (k, D)."""
    return linalg.qr(rows, mode="r", overwrite_a=True, check_finite=False)[0][: rows.shape[1]]
