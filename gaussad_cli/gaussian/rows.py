"""Products of which every row is a function of its own row alone, to the bit.

BLAS rounds a row of a product by how many rows there are and by where the row stands among them: kernels take several
at a time, and what is left over takes another path. A distance would then depend on the company its image is scored in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from gaussad_cli.gaussian.moments import Array

# A multiple of the rows that OpenBLAS's kernels take at a time (24, 16, 8, 6 and 4), so that none is left over, and
# every place in a block is treated alike. 64 and 16 were not enough on SkylakeX, by 24 (tests/gaussian/test_rows.py).
BLOCK = 48


def by_blocks(function: Callable[[Array], Array], rows: Array) -> Array:
    """Apply a function that maps rows to rows, always to :data:`BLOCK` of them; zeros fill up the last block.

    Parameters
    ----------
    function : (BLOCK, D) -> (BLOCK, r)
    rows : (m, D) float64

    Returns
    -------
    (m, r)
    """
    results = []
    for start in range(0, max(1, len(rows)), BLOCK):
        block = rows[start : start + BLOCK]
        filled = np.zeros((BLOCK, rows.shape[1]))
        filled[: len(block)] = block
        results.append(function(filled)[: len(block)])
    return np.ascontiguousarray(np.concatenate(results))  # what sums rows up afterwards goes by their layout


def times(rows: Array, matrix: Array) -> Array:
    """Return the product of rows (m, D) and a matrix (D, r), (m, r)."""
    return by_blocks(lambda block: block @ matrix, rows)


def mean_of(columns: Sequence[Array]) -> Array:
    """Return the mean of equally long (m,), element by element, (m,).

    One after the other: NumPy adds up a stack of single numbers, from eight on, in another order than longer ones.
    """
    return reduce(np.add, columns) / len(columns)


def weighted_sums(rows: Array, weights: Array) -> Array:
    """Return the sum of each row (m, r) weighted by (r,), (m,)."""
    return np.asarray(np.einsum("ij,j->i", rows, weights))  # no BLAS: a matrix-vector product would be
