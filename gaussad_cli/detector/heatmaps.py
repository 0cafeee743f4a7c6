"""Heat maps: an image's distances on a grid of places as colours over it, as a mask, and as the region around the peak.

A map holds one distance for each of g x g places, row by row over the whole image. The scale of the colours is the same
for all images of a model, and held-out good images fix it: a place about as far out as is typical of them has no
colour, and at the threshold of the mask the opacity makes a step. So good images look good, and the same colour means
the same distance in all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.evaluation.pixels import Mask, bring_to

Pixels = NDArray[np.uint8]

_STEPS, _GRAYS = 256, 256  # of the scale, and of an image
_AT_THRESHOLD = _STEPS // 2
_FAINTEST = 0.4  # of the way to the threshold: up to here, where most of a good image lies, there is no colour
_BELOW, _ABOVE, _FULL = 0.3, 0.5, 0.7  # opacity just below the threshold, at it, and at the end of the scale
_DARKEST = 90  # of the colour map's 256 colours, the first that is used: the darker ones look like shadows on the image
_OUTLINE = (255, 255, 255)
_PER_OUTLINE = 400  # pixels of the shorter side per pixel that the outline is thick


@dataclass(frozen=True)
class Scale:
    """What the colours of heat maps mean: one scale for all images of a model.

    Attributes
    ----------
    typical : distance where the scale begins, that of an ordinary place
    threshold : distance from which on a pixel belongs to the mask; twice as far beyond `typical`, the scale ends
    """

    typical: float
    threshold: float

    @property
    def end(self) -> float:
        """The distance that has the last colour."""
        return self.typical + 2.0 * (self.threshold - self.typical)

    def steps(self, distances: NDArray[Any]) -> Pixels:
        """Return the steps of the scale that distances are at: 0 has no colour, 128 is the threshold, 255 the end."""
        reach = max(self.threshold - self.typical, float(np.finfo(np.float32).tiny))
        return np.clip(_AT_THRESHOLD * (distances - self.typical) / reach, 0, _STEPS - 1).astype(np.uint8)


@dataclass(frozen=True)
class Deviation:
    """Where an image deviates most, in pixels of its file.

    Attributes
    ----------
    x, y : the middle of the place with the greatest distance
    box : (left, top, right, bottom) of the mask's 8-connected region around it, the last two just outside; None if no
        place is beyond the threshold
    """

    x: int
    y: int
    box: tuple[int, int, int, int] | None


def mask_of(distances: NDArray[Any], threshold: float, shape: tuple[int, int]) -> Mask:
    """Return which pixels of an image are beyond a threshold, (H, W) bool.

    The map is enlarged bilinearly. The pixel at its greatest place is True whenever that place is beyond the threshold,
    though the enlarged map may be lower there: so the mask is empty exactly where no place is beyond.

    Parameters
    ----------
    distances : (g, g)
    shape : (H, W) of the image
    """
    if not distances.max() > threshold:  # the enlarged map is rounded to float32
        return np.zeros(shape, bool)
    mask = np.asarray(bring_to(distances, shape) > threshold)
    x, y = _peak(distances, shape)
    mask[y, x] = True
    return mask


def locate(distances: NDArray[Any], threshold: float, shape: tuple[int, int]) -> Deviation:
    """Return where a map (g, g) of an image (H, W) has its greatest distance, and the mask's region around it."""
    x, y = _peak(distances, shape)
    mask = mask_of(distances, threshold, shape)
    if not mask[y, x]:
        return Deviation(x, y, None)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    left, top, width, height = map(int, stats[labels[y, x], :4])
    return Deviation(x, y, (left, top, left + width, top + height))


def _peak(distances: NDArray[Any], shape: tuple[int, int]) -> tuple[int, int]:
    """Return the pixel (x, y) at the middle of the greatest place; the first in reading order if there are several."""
    row, column = np.unravel_index(int(np.argmax(distances)), distances.shape)
    height, width = shape
    return int((column + 0.5) * width / distances.shape[1]), int((row + 0.5) * height / distances.shape[0])


def overlay(pixels: Pixels, distances: NDArray[Any], scale: Scale) -> Pixels:
    """Draw a heat map over an image.

    Parameters
    ----------
    pixels : (H, W, 3) RGB or (H, W) gray
    distances : (g, g)

    Returns
    -------
    (H, W, 3) uint8 RGB: the image in gray, colours over it, and an outline around the mask
    """
    gray: Pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8) if pixels.ndim == 3 else pixels
    result = colour(gray, scale.steps(bring_to(distances, gray.shape)))
    outlines, _ = cv2.findContours(
        mask_of(distances, scale.threshold, gray.shape).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(result, outlines, -1, _OUTLINE, max(1, round(min(gray.shape) / _PER_OUTLINE)))
    return result


def colour(gray: Pixels, steps: Pixels) -> Pixels:
    """Return gray values (...) under the colours of steps (...) of the scale, (..., 3) uint8 RGB."""
    return np.take(_colours(), steps.astype(np.uint16) * _GRAYS + gray, axis=0)


@lru_cache
def _colours() -> Pixels:
    """Return what colour every gray value has at every step, (256 * 256, 3): step by step, then gray by gray.

    The colours are those of "inferno", which is perceptually uniform.
    """
    shades = np.linspace(_DARKEST, 255, _STEPS).round().astype(np.uint8)
    colours = cv2.applyColorMap(shades[:, None], cv2.COLORMAP_INFERNO)[:, None, 0, ::-1]  # (256, 1, 3)
    below = np.interp(np.arange(_AT_THRESHOLD) / _AT_THRESHOLD, [_FAINTEST, 1.0], [0.0, _BELOW])
    opacity = np.concatenate([below, np.linspace(_ABOVE, _FULL, _STEPS - _AT_THRESHOLD)])[:, None, None]
    gray = np.arange(_GRAYS)[:, None]
    return np.asarray(opacity * colours + (1 - opacity) * gray).round().astype(np.uint8).reshape(-1, 3)
