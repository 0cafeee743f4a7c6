"""Image files to 8-bit RGB squares.

The rule: first frame; the EXIF orientation is applied; gray is repeated over the three channels; palettes are resolved;
an alpha channel is dropped; of 16 bits the high 8 are kept (value // 256). Then a bilinear resize without antialiasing
straight to the square (OpenCV ``INTER_LINEAR`` on uint8, PROTOCOL: preprocessing).
"""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gaussad_cli.errors import ImageError


def read_square(path: Path, size: int) -> NDArray[np.uint8]:
    """Return an image as (size, size, 3) uint8 RGB.

    Raises
    ------
    ImageError
        See :func:`read_rgb`.
    """
    image = cv2.resize(read_rgb(path), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(image, dtype=np.uint8)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB by the module's rule.

    Raises
    ------
    ImageError
        If the file is gone, empty, truncated, not an image, absurdly large, or of a pixel format without a rule.
    """
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_FORMATS) as image:
            warnings.simplefilter("ignore")  # about odd metadata; what cannot be decoded raises
            is_png, upright = image.format == "PNG", ImageOps.exif_transpose(image)
            pixels = np.asarray(upright) if upright.mode.startswith(("I", "F")) else np.asarray(upright.convert("RGB"))
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image{' (it is empty)' if _is_empty(path) else ''}: {_REMEDY}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path} claims more pixels than can be meant: {_REMEDY}") from None
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        raise ImageError(f"cannot read the image {path} ({error}): {_REMEDY}") from None
    if pixels.ndim == 3:
        return pixels
    # Pillow before 10.3 reads 16-bit PNG as 32-bit integers; in any other file those are no 16 bits.
    if pixels.dtype.kind not in ("u", "i") or (pixels.dtype.itemsize > 2 and not is_png):
        raise ImageError(f"{path} has {pixels.dtype} pixels, for which there is no rule: save it with 8 or 16 bits.")
    return np.repeat((pixels >> 8).astype(np.uint8)[..., None], 3, axis=2)


_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # whatever the suffix; Pillow's others can start programs
_REMEDY = "replace or remove it, then run again."


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0
