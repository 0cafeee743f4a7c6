"""Feature maps of any size on a grid of g x g places: one linear rule for every backbone, level and engine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@lru_cache
def resampling_matrix(length: int, places: int) -> NDArray[np.float32]:
    """Return the weights (places, length) that bring one axis of a feature map to the grid; each row sums to 1.

    Where the axis is longer than the grid, a place is the mean over the part of the axis that it covers, split pixels
    counted by their share. Where it is shorter, a place is interpolated linearly between the two nearest pixel centres;
    beyond the outermost centres, the outermost pixel is taken (torch's ``align_corners=False``).
    """
    weights = _area_weights(length, places) if length >= places else _linear_weights(length, places)
    matrix = weights.astype(np.float32)
    matrix.flags.writeable = False  # the cache gives it to every caller
    return matrix


def _area_weights(length: int, places: int) -> NDArray[np.float64]:
    size = length / places
    starts, pixels = size * np.arange(places)[:, None], np.arange(length)
    overlap = np.minimum(starts + size, pixels + 1) - np.maximum(starts, pixels)
    weights: NDArray[np.float64] = np.clip(overlap, 0, None) / size
    return weights


def _linear_weights(length: int, places: int) -> NDArray[np.float64]:
    centres = np.clip((np.arange(places) + 0.5) * length / places - 0.5, 0, length - 1)
    weights: NDArray[np.float64] = np.clip(1 - np.abs(centres[:, None] - np.arange(length)), 0, None)
    return weights


def to_grid(maps: Tensor, grid: int) -> Tensor:
    """Bring feature maps (N, C, H, W) to a grid, place by place: (N, grid * grid * C) float32.

    ``values.reshape(N, grid * grid, C)`` has the channels of each place, the places row by row. Everything is computed
    in float32, under autocast too; where TF32 is allowed, it holds for these matrix products as well. A traced graph
    has the matrices as constants, since the size of a map follows from that of the input.
    """
    with torch.autocast(maps.device.type, enabled=False):
        columns = _resample_last(maps.float(), grid)  # (N, C, H, grid)
        rows = _resample_last(columns.transpose(2, 3), grid)  # (N, C, grid of columns, grid of rows)
        return rows.permute(0, 3, 2, 1).flatten(1)


def _resample_last(values: Tensor, places: int) -> Tensor:
    length = int(values.shape[-1])
    if length == places:  # the matrix would be the identity
        return values
    return values @ torch.from_numpy(resampling_matrix(length, places).T.copy()).to(values.device)
