"""Matrix products whose rows depend only on their own row of the input, to the bit.

How BLAS rounds a row of a product depends on the number of rows and on the row's position: kernels take several rows
at a time, and those left over take another path. An image's distance would then depend on the images scored with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from gaussad_cli.gaussian.moments import Array

# A multiple of the numbers of rows that OpenBLAS's kernels take at a time (24, 16, 8, 6 and 4): no row is left over,
# and every position in a block is treated alike. 64 and 16 failed on SkylakeX, which takes 24 (test_rows.py).
BLOCK = 48


def by_blocks(function: Callable[[Array], Array], rows: Array) -> Array:
    """Apply a function that maps rows to rows, always to :data:`BLOCK` rows at once; zeros fill the last block.

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
    return np.ascontiguousarray(np.concatenate(results))  # sums over rows depend on the memory layout


def times(rows: Array, matrix: Array) -> Array:
    """Return the product of rows (m, D) and a matrix (D, r), (m, r)."""
    return by_blocks(lambda block: block @ matrix, rows)


def mean_of(columns: Sequence[Array]) -> Array:
    """Return the elementwise mean, (m,), of columns (m,).

    Columns are added one by one: NumPy's sum over a stack of eight or more orders additions differently for m = 1.
    """
    return reduce(np.add, columns) / len(columns)


def weighted_sums(rows: Array, weights: Array) -> Array:
    """Return the sum of each row (m, r) weighted by (r,), (m,)."""
    return np.asarray(np.einsum("ij,j->i", rows, weights))  # a matrix-vector product would use BLAS
