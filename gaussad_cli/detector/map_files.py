"""Files of heat maps beside predictions: an overlay, a mask and the distances of every image; see `heatmaps`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
        self._write(image, OVERLAY, _as_png(overlay(pixels, distances, self.scale)))
        mask = mask_of(distances, self.scale.threshold, pixels.shape[:2])
        self._write(image, MASK, _as_png(mask.astype(np.uint8) * 255))
        self._write(image, DISTANCES, lambda file: np.save(file, distances.astype(np.float32), allow_pickle=False))

    def path_of(self, image: Path, suffix: str) -> Path:
        """Return the path of an image's file."""
        name = _below(image, self.root) if self.root and image.is_relative_to(self.root) else _below(image, Path.cwd())
        return self.folder / name.with_name(fit_name(name.name, suffix))

    def _write(self, image: Path, suffix: str, write: Callable[[IO[bytes]], object]) -> None:
        path = self.path_of(image, suffix)
        if path.is_symlink():
            raise UserError(f"cannot write {path}: it is a link. Remove it, or choose another folder for --maps.")
        write_whole(path, write, self.folder / _UNFINISHED)

    def close(self) -> None:
        """Remove the folder of unfinished files, if there are none in it."""
        with suppress(OSError):
            (self.folder / _UNFINISHED).rmdir()


def _below(image: Path, folder: Path) -> Path:
    """Return a path relative to a folder; the whole path, without its root, if it does not lie in the folder."""
    full, base = Path(os.path.abspath(image)), Path(os.path.abspath(folder))  # noqa: PTH100 (resolve follows links)
    return full.relative_to(base if full.is_relative_to(base) else full.anchor)


def _as_png(pixels: Pixels) -> Callable[[IO[bytes]], object]:
    done, content = cv2.imencode(
        ".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _QUICK
    )
    if not done:
        raise ValueError(f"cannot encode {pixels.shape} as PNG")
    return lambda file: file.write(content.tobytes())
