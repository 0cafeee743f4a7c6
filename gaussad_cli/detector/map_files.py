"""Files of heat maps beside predictions: an overlay, a mask and the distances of every image; see `heatmaps`."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.detector.heatmaps import Pixels, Scale, mask_of, overlay
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.decode import read_pixels
from gaussad_cli.files import fit_name, write_whole

# Writing a file looks through its temporary file's folder, which must not hold the files of all images.
_UNFINISHED = ".unfinished"
OVERLAY, MASK, DISTANCES = ".overlay.png", ".mask.png", ".npy"
# Half the time of OpenCV's default, for files a tenth larger (448 pixels, screw).
_QUICK = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)


@dataclass(frozen=True)
class MapFolder:
    """A folder for the heat maps of images, under the images' own paths.

    Attributes
    ----------
    folder : for a/b.png, it gets a/b.png.overlay.png, a/b.png.mask.png (0 or 255) and a/b.png.npy, (g, g) float32
    scale : of the colours; its threshold is that of the mask
    depth : bits of the pixels in 16-bit files
    root : folder that names are relative to, if the images lie in one; otherwise the current one, or the whole path
    """

    folder: Path
    scale: Scale
    depth: int
    root: Path | None = None

    def write(self, image: Path, distances: NDArray[Any]) -> None:
        """Write the files of an image, at the size of the image; those of an earlier run are replaced.

        Raises
        ------
        ImageError
            If the image cannot be read.
        UserError
            If the image lies in the folder, or a file cannot be written.
        """
        if image.resolve().is_relative_to(self.folder.resolve()):  # a file here could take the place of an image
            raise UserError(f"{image} lies in --maps {self.folder}, where heat maps go: choose another folder.")
        pixels = read_pixels(image, self.depth)
        for suffix in (OVERLAY, MASK, DISTANCES):
            self._write(image, suffix, draw(suffix, pixels, distances, self.scale))

    def path_of(self, image: Path, suffix: str) -> Path:
        """Return the path of an image's file."""
        name = _below(image, self.root) if self.root and image.is_relative_to(self.root) else _below(image, Path.cwd())
        return self.folder / name.with_name(fit_name(name.name, suffix))

    def _write(self, image: Path, suffix: str, content: bytes) -> None:
        path = self.path_of(image, suffix)
        if path.is_symlink():
            raise UserError(f"cannot write {path}: it is a link. Remove it, or choose another folder for --maps.")
        write_whole(path, lambda file: file.write(content), self.folder / _UNFINISHED)


def draw(suffix: str, pixels: Pixels, distances: NDArray[Any], scale: Scale) -> bytes:
    """Return the content of one of an image's files.

    Parameters
    ----------
    suffix : :data:`OVERLAY`, :data:`MASK` or :data:`DISTANCES`
    pixels : (H, W, 3) RGB or (H, W) gray, of the image
    distances : (g, g)
    """
    if suffix == OVERLAY:
        return _as_png(overlay(pixels, distances, scale))
    if suffix == MASK:
        return _as_png(mask_of(distances, scale.threshold, pixels.shape[:2]).astype(np.uint8) * 255)
    file = io.BytesIO()
    np.save(file, distances.astype(np.float32), allow_pickle=False)
    return file.getvalue()


def remove_unfinished(folder: Path) -> None:
    """Remove the folder of unfinished files in a folder of heat maps, if there are none in it."""
    with suppress(OSError):
        (folder / _UNFINISHED).rmdir()


def _below(image: Path, folder: Path) -> Path:
    """Return a path relative to a folder; the whole path, without its root, if it does not lie in the folder."""
    full, base = Path(os.path.abspath(image)), Path(os.path.abspath(folder))  # noqa: PTH100 (resolve follows links)
    return full.relative_to(base if full.is_relative_to(base) else full.anchor)


def _as_png(pixels: Pixels) -> bytes:
    done, content = cv2.imencode(
        ".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _QUICK
    )
    if not done:
        raise ValueError(f"cannot encode {pixels.shape} as PNG")
    return content.tobytes()
