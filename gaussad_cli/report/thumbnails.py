"""Test images as small JPEGs inside the page."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2

from gaussad_cli.errors import ImageError
from gaussad_cli.extraction.decode import read_squares

PIXELS = 144
_QUALITY = 80


def thumbnail(path: Path) -> str:
    """Return a small square JPEG of an image file as a `data:` URL, or an empty string if the file cannot be read."""
    try:
        pixels = read_squares(path, [PIXELS]).by_size[PIXELS]
    except ImageError:
        return ""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
