"""Small pictures in the page: of images, heat maps over them, and masks."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.errors import ImageError
from gaussad_cli.evaluation.pixels import Mask
from gaussad_cli.extraction.decode import read_squares

PIXELS = 144
_QUALITY = 80


@dataclass(frozen=True)
class Example:
    """A test image with its distance; `picture` is a `data:` URL, or empty."""

    name: str
    distance: float
    picture: str


def thumbnail(data: Path, name: Path) -> str:
    """Return a small square JPEG of an image file as a `data:` URL; empty if :func:`read_small` gives none."""
    pixels = read_small(data, name)
    return "" if pixels is None else as_jpeg(pixels)


def read_small(data: Path, name: Path) -> NDArray[np.uint8] | None:
    """Read an image file as a small square (PIXELS, PIXELS, 3), RGB.

    None if the file cannot be read, or if its name leads out of the folder.
    """
    if not is_inside(name):
        return None
    try:
        return read_squares(data / name, [PIXELS]).by_size[PIXELS]
    except ImageError:
        return None


def is_inside(name: Path) -> bool:
    """Whether a name, which a results file may have got from anywhere, stays in the folder that it is relative to."""
    return not (name.is_absolute() or name.drive or ".." in name.parts)


def as_jpeg(pixels: NDArray[np.uint8]) -> str:
    """Return RGB pixels as a JPEG in a `data:` URL."""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return _url("jpeg", jpeg)


def mask_thumbnail(mask: Mask) -> str:
    """Return a mask (H, W) as a small square PNG in a `data:` URL; no anomalous pixel vanishes by becoming small."""
    share = cv2.resize(mask.astype(np.float32), (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
    _, png = cv2.imencode(".png", 255 * (share > 0).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    return _url("png", png)


def _url(kind: str, content: NDArray[np.uint8]) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode()}"
