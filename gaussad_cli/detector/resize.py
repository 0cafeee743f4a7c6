"""OpenCV's 8-bit bilinear resize, to the bit, in operations that ONNX has.

OpenCV weighs pixels by multiples of 1/2048 and cuts bits off on the way; ONNX's Resize weighs in floating point. That
is one gray level now and then, and scores up to 2 % apart. Here every step is OpenCV's (``resize.cpp``, INTER_LINEAR
on uint8), in float64, which holds all of its integers exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.onnx.operators import shape_as_tensor

_ONE = 2048.0  # a weight of 1: INTER_RESIZE_COEF_SCALE


def resize_like_opencv(images: Tensor, size: int) -> Tensor:
    """Resize (N, H, W, 3) straight to the square, (N, size, size, 3) float64 of whole numbers.

    Parameters
    ----------
    images : uint8, or another type that holds whole numbers from 0 to 255
    """
    shape = shape_as_tensor(images)  # traced, so that the exported graph takes any height and width
    top, bottom, upper, lower = _taps(shape[1:2], size, clamp=False)
    left, right, before, after = _taps(shape[2:3], size, clamp=True)
    rows = (
        (images[:, at][:, :, left].double() * before + images[:, at][:, :, right].double() * after)
        for at in (top, bottom)
    )
    above, below = ((row / 16).floor() for row in rows)
    upper, lower = (weight.reshape(-1, 1, 1) for weight in (upper[:, 0], lower[:, 0]))
    total = (upper * above / 65536).floor() + (lower * below / 65536).floor()
    return ((total + 2) / 4).floor()


def _taps(length: Tensor, size: int, clamp: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the two pixels that each target lies between, (size,), and their weights, (size, 1) float64.

    Parameters
    ----------
    length : (1,), of the side; as a scalar, the exporter would compute with it in float32
    clamp : whether a target beyond the outermost pixel's centre has that pixel's whole weight, as OpenCV has it along
        rows; along columns it weighs the same pixel twice, which rounds otherwise
    """
    places = ((torch.arange(size, dtype=torch.float64) + 0.5) * (length.double() / size) - 0.5).float()
    first = places.floor()
    share = places - first
    if clamp:
        inside = (first >= 0) & (first < length - 1)
        share = torch.where(inside, share, torch.zeros_like(share))
    last = length - 1
    one, other = (torch.minimum(at.long().clamp(min=0), last) for at in (first, first + 1))
    weight, other_weight = ((part * _ONE).round().double().reshape(-1, 1) for part in (1.0 - share, share))
    return one, other, weight, other_weight
