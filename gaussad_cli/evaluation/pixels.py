"""How well distance maps show where the anomalies are: pixel AUROC, AUPRO, pointing game (PROTOCOL: places).

All pixels of all test images of a category count together. A region is an 8-connected component of one image's mask; a
pixel is beyond a threshold if its distance is at least the threshold. Then, at every threshold,

    FPR = share of the normal pixels beyond it, TPR = share of the anomalous pixels beyond it,
    PRO = mean over all regions of the share of the region beyond it.

PRO is a TPR in which every pixel weighs 1 / (number of regions * size of its region), and so AUPRO is the area under a
weighted ROC curve. The area is the sum of what every anomalous pixel adds to it, and a pixel's part depends only on how
many normal pixels lie beyond it. This makes exact areas cheap: one sort, and two binary searches per anomalous pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.gaussian.moments import Array

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

FPR_LIMIT = 0.3  # PROTOCOL, after Bergmann et al.
_CHUNK = 1 << 20  # anomalous pixels at a time: what is computed for each of them takes no memory worth mentioning
_NEIGHBOURS = 8


@dataclass(frozen=True)
class Pixels:
    """The pixels of all test images of a category.

    Attributes
    ----------
    normal : (n,) float32, the distances of the normal pixels, ascending
    anomalous : (m,) float32, the distances of the anomalous pixels, ascending
    region : (m,) int32, the region that each anomalous pixel belongs to
    size : (r,) int64, the number of pixels of each region
    """

    normal: Map
    anomalous: Map
    region: NDArray[np.int32]
    size: NDArray[np.int64]

    @property
    def is_undefined(self) -> bool:
        """Whether nothing can be measured: no pixel of one class, or a distance that is NaN."""
        classes = (self.normal, self.anomalous)
        return not all(map(len, classes)) or any(np.isnan(values[-1]) for values in classes)  # NaN sorts last

    def weight(self, part: slice = slice(None)) -> Array:
        """Return how much each anomalous pixel adds to PRO; over all pixels, the weights sum to 1."""
        return 1 / (len(self.size) * self.size[self.region[part]].astype(np.float64))


def collect(maps: Iterable[NDArray[Any]], masks: Iterable[Mask]) -> Pixels:
    """Sort the pixels of all test images of a category by class and distance.

    Maps may come from a generator, one at a time. Not much more than two float32 numbers per pixel are held, unless the
    anomalous pixels are many: 28 bytes for each of these.

    Parameters
    ----------
    maps : (H, W) each, any real dtype, compared as float32; sizes may differ between images
    masks : (H, W) bool each, at the same size as the map; True where anomalous, and nowhere for a normal image

    Raises
    ------
    ValueError
        If a map and its mask differ in size, or there are more of one than of the other.
    """
    normal, anomalous = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    region, size = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    n_regions = 0
    for distance, mask in zip(maps, masks, strict=True):
        _check_size(distance, mask)
        values = np.asarray(distance, dtype=np.float32)
        normal.append(values[~mask])
        if mask.any():
            anomalous.append(values[mask])
            label = _label(mask)[mask]
            region.append(label + np.int32(n_regions - 1))
            size.append(np.bincount(label)[1:])
            n_regions += len(size[-1])
    of_normal, of_anomalous = _join(normal), _join(anomalous)
    of_normal.sort()
    order = np.argsort(of_anomalous, kind="stable")  # else the order of ties, and the last bit of AUPRO, is the CPU's
    return Pixels(of_normal, of_anomalous[order], _join(region)[order], _join(size))


def _check_size(distance: NDArray[Any], mask: Mask) -> None:
    if distance.shape != mask.shape:
        raise ValueError(f"a map of {distance.shape} and a mask of {mask.shape} are not of one image")


def _label(mask: Mask) -> NDArray[np.int32]:
    """Return the number of each pixel's region, from 1; 0 outside the mask."""
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=_NEIGHBOURS, ltype=cv2.CV_32S)[1])


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays and let go of them: a category's pixels are too many to be held more often than needed."""
    joined = np.concatenate(parts)
    parts.clear()
    return joined


def pixel_auroc(pixels: Pixels) -> float:
    """Return the area under the ROC curve over pixels, in [0, 1]; ties count half.

    It is counted in whole pixels and rounded once. NaN if there is no anomalous pixel, no normal one, or a NaN.
    """
    if pixels.is_undefined:
        return float("nan")
    pairs = 2 * len(pixels.normal) * len(pixels.anomalous)
    lost = sum(int(beyond.sum() + reached.sum()) for _, beyond, reached in _normal_beyond(pixels))
    return (pairs - lost) / pairs


def aupro(pixels: Pixels, limit: float = FPR_LIMIT) -> float:
    """Return the area under PRO over FPR from 0 to a limit, divided by the limit: in [0, 1].

    The curve is straight between the points of neighbouring distinct distances, also where the limit cuts it. NaN as in
    :func:`pixel_auroc`.

    Parameters
    ----------
    limit : FPR in (0, 1]

    References
    ----------
    P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"a limit of the FPR is in (0, 1], not {limit}")
    if pixels.is_undefined:
        return float("nan")
    end = limit * len(pixels.normal)
    area = sum(
        float((pixels.weight(part) * _area(beyond, reached, end)).sum())
        for part, beyond, reached in _normal_beyond(pixels)
    )
    return min(area / end, 1.0)  # the weights sum to 1 up to rounding


def _normal_beyond(pixels: Pixels) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.int64]]]:
    """Count, for each anomalous pixel, the normal pixels with a greater distance, and those with a no smaller one."""
    total = len(pixels.normal)
    for start in range(0, len(pixels.anomalous), _CHUNK):
        part = slice(start, start + _CHUNK)
        values = pixels.anomalous[part]
        smaller, not_greater = (np.searchsorted(pixels.normal, values, side) for side in ("left", "right"))
        yield part, total - not_greater, total - smaller


def _area(beyond: NDArray[np.int64], reached: NDArray[np.int64], end: float) -> Array:
    """Return the area under each pixel's own curve, from 0 to `end` normal pixels.

    The curve is 0 up to `beyond` normal pixels, rises straight to 1 at `reached`, and stays there.
    """
    rise = np.clip(end - beyond, 0, reached - beyond)  # how far along its rise each pixel is at the end
    triangle = rise**2 / (2 * np.maximum(reached - beyond, 1))  # without a tie, there is no rise
    return triangle + np.maximum(end - reached, 0)


def roc_curve(pixels: Pixels, points: int) -> tuple[Array, Array]:
    """Return the ROC curve over pixels, thinned for a plot.

    Every point lies on the curve. In both directions, neighbours are some 1 / points apart; ties, and a pixel that
    weighs more, leave greater gaps. If the area is undefined (:func:`pixel_auroc`), the only point is NaN.

    Parameters
    ----------
    points : thresholds along each of the two axes, at least 2

    Returns
    -------
    fpr, tpr : (k,) ascending from 0 to 1, k <= 2 points + 1
    """
    return _thinned(pixels, np.full(len(pixels.anomalous), 1 / max(len(pixels.anomalous), 1)), points)


def pro_curve(pixels: Pixels, points: int) -> tuple[Array, Array]:
    """Return PRO over FPR, thinned for a plot, up to an FPR of 1; all else as in :func:`roc_curve`.

    Returns
    -------
    fpr, pro : (k,) ascending from 0 to 1, k <= 2 points + 1
    """
    return _thinned(pixels, pixels.weight(), points)


def _thinned(pixels: Pixels, weight: Array, points: int) -> tuple[Array, Array]:
    if pixels.is_undefined:
        return np.array([np.nan]), np.array([np.nan])
    below = np.concatenate([[0.0], np.cumsum(weight)])  # weight of the anomalous pixels before each one
    of_normal = np.linspace(0, len(pixels.normal) - 1, points).astype(np.int64)
    of_anomalous = np.searchsorted(below[1:-1], np.linspace(0, below[-1], points), side="right")
    thresholds = np.unique(np.concatenate([pixels.normal[of_normal], pixels.anomalous[of_anomalous]]))[::-1]
    fpr = 1 - np.searchsorted(pixels.normal, thresholds) / len(pixels.normal)
    share = 1 - below[np.searchsorted(pixels.anomalous, thresholds)] / below[-1]
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], share])


def bring_to(distance: NDArray[Any], shape: tuple[int, int]) -> Map:
    """Bring a map (h, w) to a size (H, W), bilinearly, as float32.

    Pixel centres are aligned as in OpenCV's ``INTER_LINEAR``: between the outermost places and the border, the map is
    constant. A NaN spreads to its neighbours.
    """
    height, width = shape
    values = np.asarray(distance, dtype=np.float32)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR))


def points_into(distance: NDArray[Any], mask: Mask) -> bool:
    """Play the pointing game: whether the pixel of the greatest distance is anomalous.

    If several are the greatest, the first in reading order counts. A map with a NaN points nowhere.

    Parameters
    ----------
    distance : (H, W)
    mask : (H, W) bool

    References
    ----------
    J. Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.

    Raises
    ------
    ValueError
        If they differ in size.
    """
    _check_size(distance, mask)
    place = int(np.argmax(distance))  # of a NaN, if there is one
    return bool(mask.flat[place] and not np.isnan(distance.flat[place]))
