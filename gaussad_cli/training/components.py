"""Connected components: the smallest anomaly of a category, and the CCA score of an error map (PROTOCOL: autoencoder).

A component is a set of pixels connected over edges or corners (8-neighbourhood).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.datasets.index import NORMAL, Category
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.masks import mask_path, read_mask

_NEIGHBOURS = 8


def largest_component(mask: NDArray[np.bool_]) -> int:
    """Return the number of pixels of the largest component of a mask (H, W); 0 if the mask is empty."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=_NEIGHBOURS)
    return int(statistics[1:, cv2.CC_STAT_AREA].max(initial=0))  # row 0 is the background


def smallest_size(masks: Iterable[NDArray[np.bool_]]) -> float:
    """Return the smallest of the masks' largest components, as a fraction of the image.

    Empty masks do not count; without any other, the size is 1.0.
    """
    sizes = (largest_component(mask) / mask.size for mask in masks if mask.any())
    return min(sizes, default=1.0)


def cca_score(error: NDArray[Any], size: float) -> float:
    """Return the highest threshold at which {error >= threshold} has a component of at least `size`.

    That threshold is one of the map's values. A lower one only adds pixels, by which components grow or merge, so the
    area of the largest component never falls as the threshold falls. Bisecting the sorted values therefore finds the
    threshold exactly, with log2(H W) labellings. At the lowest value all pixels are one component, so it always exists.

    Parameters
    ----------
    error : (H, W), finite
    size : fraction of the image, in (0, 1]; rounded up to whole pixels
    """
    wanted = _pixels(size, error.size)
    values = np.unique(error)  # ascending
    enough, too_high = 0, len(values)  # the answer's index is in [enough, too_high)
    while too_high - enough > 1:
        middle = (enough + too_high) // 2
        if largest_component(error >= values[middle]) >= wanted:
            enough = middle
        else:
            too_high = middle
    return float(values[enough])


def _pixels(size: float, of: int) -> int:
    """Return the least number of pixels that is at least a fraction `size` of `of`; rounding errors add no pixel."""
    if not 0 < size <= 1:
        raise ValueError(f"size is {size}: must be a fraction of the image, in (0, 1]")
    return max(1, math.ceil(size * of - 1e-6))


# --- masks of a data set ---


def smallest_anomaly(category: Category) -> float | None:
    """Return the size of the category's smallest anomaly, by the masks of its test images, as a fraction of the image.

    Returns
    -------
    None if the category has no masks at all; there is then no CCA score.

    Raises
    ------
    UserError
        If only some anomalous test images have a mask, a mask cannot be read, or all masks are empty.
    """
    anomalous = [image for image in category.test if image.label != NORMAL]
    paths = [mask_path(image) for image in anomalous]
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        return None
    if missing:
        raise UserError(
            f"category '{category.name}' has {len(paths) - len(missing)} masks for {len(paths)} anomalous test images; "
            f"missing is {missing[0]}. Add the others, or move the ground_truth folder away to do without CCA scores."
        )
    masks = [read_mask(path) for path in paths]
    if not any(mask.any() for mask in masks):
        raise UserError(f"all {len(masks)} masks of category '{category.name}' are empty: check {paths[0]}.")
    return smallest_size(masks)
