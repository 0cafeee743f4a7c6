"""Image files to 8-bit RGB squares.

The rule: the first frame is taken; the EXIF orientation is applied; gray is repeated over the three channels; palettes
are resolved; alpha is dropped; the high 8 of 16 bits are kept (value // 256), or the high 8 of `depth` bits, if that is
given for 16-bit files. Then follows a bilinear resize, without antialiasing, straight to the square (OpenCV
``INTER_LINEAR`` on uint8, PROTOCOL: preprocessing).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from gaussad_cli.datasets.images import problem_with
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction.store import FULL_DEPTH

# Limits on what a file may claim: a few bytes can declare an image too large for memory, or minutes of decoding.
MOST_PIXELS = 8192 * 8192
MOST_PASSES = 64 * MOST_PIXELS  # pixels times scans of a JPEG: each scan covers all pixels


@dataclass(frozen=True)
class Squares:
    """An image at the requested sizes, from one reading of its file.

    Attributes
    ----------
    sha256 : of the file, hexadecimal
    by_size : size in pixels -> (size, size, 3) uint8 RGB
    has_pages : whether the file has more frames than the first, which is taken
    peak : greatest of the high 8 bits, if the file has 16 and no depth was given; None of other files
    shape : height and width of the image itself
    """

    sha256: str
    by_size: Mapping[int, NDArray[np.uint8]]
    has_pages: bool = False
    peak: int | None = None
    shape: tuple[int, int] = (0, 0)


def read_squares(path: Path, sizes: Iterable[int], depth: int = FULL_DEPTH) -> Squares:
    """Read an image file once and resize it to one or several square sizes.

    Parameters
    ----------
    depth : see :func:`decode_pixels`

    Raises
    ------
    ImageError
        If the file is missing, not a regular file, empty, truncated, not an image, too large, or of an unsupported
        pixel format.
    """
    return read_image(path, sizes, depth)[1]


def read_image(path: Path, sizes: Iterable[int], depth: int = FULL_DEPTH) -> tuple[NDArray[np.uint8], Squares]:
    """Read an image file once: its pixels as :func:`read_pixels` gives them, and what :func:`read_squares` gives."""
    return decode_image(_content(path), path, sizes, depth)


def decode_image(
    content: bytes, path: Path, sizes: Iterable[int], depth: int = FULL_DEPTH
) -> tuple[NDArray[np.uint8], Squares]:
    """Return what :func:`read_image` does for the content of a file; `path` is its name in messages."""
    decoded = _decode(content, path, depth)
    peak = int(decoded.pixels.max()) if decoded.is_deep and depth == FULL_DEPTH else None
    by_size = {size: _square(decoded.pixels, size) for size in sizes}
    height, width = decoded.pixels.shape[:2]
    sha256 = hashlib.sha256(content).hexdigest()
    return decoded.pixels, Squares(sha256, by_size, decoded.has_pages, peak, (height, width))


def read_pixels(path: Path, depth: int = FULL_DEPTH) -> NDArray[np.uint8]:
    """Read an image file at its own size, (H, W, 3) RGB or (H, W) gray; all else as in :func:`read_squares`."""
    return decode_pixels(_content(path), path, depth)


def _content(path: Path) -> bytes:
    try:
        if problem := problem_with(path):
            raise ImageError(f"cannot read the image {path}: {problem}.")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the image {path}: {error.strerror}.") from None
    except ValueError:  # it holds NUL, or characters that names here cannot have
        raise ImageError(f"{path}: no file can have this name. A list that find -print0 made needs --null.") from None


def _square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return as_rgb(np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8))


def as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat gray (H, W) over the channels, (H, W, 3); resizing it before costs a third, and gives the same."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def decode_pixels(content: bytes, path: Path, depth: int = FULL_DEPTH) -> NDArray[np.uint8]:
    """Return a file's pixels by this module's rule, (H, W, 3) RGB or (H, W) gray.

    Parameters
    ----------
    depth : bits that the pixels of 16-bit files have, 9 to 16, such as those of a 12-bit camera

    Raises
    ------
    ImageError
        See :func:`read_squares`. Also if a pixel of a 16-bit file has more bits.
    """
    return _decode(content, path, depth).pixels


def read_shape(path: Path) -> tuple[int, int]:
    """Return the (H, W) of an image's pixels by this module's rule; the pixels of a square are not decoded for it.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width != height:  # it may have to be turned
                width, height = _upright(image).size
            return height, width
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        raise ImageError(f"cannot read the image {path} ({error}): {_REMEDY}") from None


@dataclass(frozen=True)
class _Decoded:
    """Pixels by the rule, and whether their file has 16 bits, and frames besides the first."""

    pixels: NDArray[np.uint8]
    is_deep: bool
    has_pages: bool


def _decode(content: bytes, path: Path, depth: int) -> _Decoded:
    try:
        # Warnings concern odd metadata; an image that cannot be decoded raises an error.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_claims(image, content, path)
            is_png, is_deep, upright = image.format == "PNG", _is_deep(image, content), _upright(image)
            has_pages = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            pixels = np.asarray(upright if upright.mode in _PLAIN else upright.convert("RGB"))
            if is_deep and depth < FULL_DEPTH and pixels.dtype == np.uint8:
                pixels = _read_deep_colour(content, image, path)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image{'' if content else ' (it is empty)'}: {_REMEDY}") from None
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        raise ImageError(f"cannot read the image {path} ({error}): {_REMEDY}") from None
    if pixels.dtype == np.uint8:
        return _Decoded(pixels, is_deep, has_pages)
    # Pillow before 10.3 reads 16-bit PNG as 32-bit integers; other formats' 32-bit integers hold more than 16 bits.
    if pixels.dtype.kind not in ("u", "i") or (pixels.dtype.itemsize > 2 and not is_png):
        raise ImageError(f"{path} has {pixels.dtype} pixels, which are not supported: save it with 8 or 16 bits.")
    if is_deep and pixels.max() >> depth:
        raise ImageError(f"{path} has the value {pixels.max()}, which is more than {depth} bits: change --depth.")
    return _Decoded((pixels >> (depth - 8)).astype(np.uint8), is_deep, has_pages)


def _is_deep(image: Image.Image, content: bytes) -> bool:
    """Whether a file has 16 bits per channel (or, TIFF, a few less): of colours, Pillow keeps only the high 8."""
    if image.format == "PNG":
        return content[24] == 16  # IHDR's bit depth
    return isinstance(image, TiffImagePlugin.TiffImageFile) and 8 < image.tag_v2.get(_BITS, (1,))[0] <= 16


def _read_deep_colour(content: bytes, image: Image.Image, path: Path) -> NDArray[Any]:
    """Return all 16 bits of a colour image, (H, W, 3) RGB; alpha is dropped."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        raise ImageError(f"{path} is a turned 16-bit colour image, which --depth cannot read: save it upright.")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != (image.height, image.width):
        raise ImageError(f"{path} is a kind of 16-bit image that --depth cannot read: save it as a 16-bit PNG.")
    return pixels[..., 2::-1] if pixels.ndim == 3 else pixels


def _check_claims(image: Image.Image, content: bytes, path: Path) -> None:
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise _too_large(path)
    if image.format in ("JPEG", "MPO") and content.count(_SCAN) * pixels > MOST_PASSES:
        raise ImageError(f"{path} is a JPEG with suspiciously many scans: save it again, {_REMEDY}")


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path} claims more than {MOST_PIXELS / 1e6:.0f} million pixels: make it smaller, {_REMEDY}")


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # PNG may store the orientation after the pixels
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # whatever the suffix; Pillow's other decoders may start programs
_PLAIN = ("RGB", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # used unchanged; all other modes become RGB
_BITS = 258  # TIFF's tag BitsPerSample
_SCAN = b"\xff\xda"  # JPEG's marker at the start of a scan
_REMEDY = "replace or remove it, then run again."
