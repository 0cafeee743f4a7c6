"""Masks of a data set's test images: where they lie, how they are read, and their copy in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.datasets.images import MASKS, problem_with
from gaussad_cli.datasets.index import NORMAL, ImageFile
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction import store
from gaussad_cli.extraction.decode import decode_pixels, read_shape
from gaussad_cli.files import sha256_of, writing

_MASKED = 128  # a mask's pixels from this value on are anomalous; MVTec's are 0 or 255


def masks_folder(image: ImageFile) -> Path:
    """Return the folder of the masks of a test image's category."""
    _, *folders, _ = PurePosixPath(image.name).parts
    return image.path.parents[len(folders) + 1] / MASKS


def mask_path(image: ImageFile) -> Path:
    """Return the path of a test image's mask: ``<category>/ground_truth/<defect>/<stem>_mask.png``.

    The masks of images in nested folders lie in nested folders of the same names.
    """
    _, *folders, _ = PurePosixPath(image.name).parts
    return masks_folder(image).joinpath(*folders, f"{image.path.stem}_mask.png")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask (H, W) at its own size.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    try:
        if problem := problem_with(path):
            raise ImageError(f"cannot read the mask {path}: {problem}.")
        pixels = decode_pixels(path.read_bytes(), path)
    except OSError as error:
        raise ImageError(f"cannot read the mask {path}: {error.strerror}.") from None
    return (pixels if pixels.ndim == 2 else pixels.max(axis=2)) >= _MASKED


def keep_masks(folder: Path, images: Sequence[ImageFile], entries: Sequence[store.ImageEntry]) -> None:
    """Keep the masks of a category's test images in the cache, unless they are there; evaluations need no images then.

    A data set without a folder of masks has none in the cache.

    Parameters
    ----------
    folder : the test split's folder in the cache
    entries : the images, in the same order, with their hashes

    Raises
    ------
    ImageError
        If a mask cannot be read, or has another size than its image.
    UserError
        If the cache cannot be written.
    """
    if not masks_folder(images[0]).is_dir():
        with writing(folder / store.MASKS):
            (folder / store.MASKS).unlink(missing_ok=True)
        return
    origins = [_hash(mask_path(image)) for image in images]
    if not store.has_masks(folder, entries, origins):
        masks = [_mask_of(image, bool(origin)) for image, origin in zip(images, origins, strict=True)]
        store.write_masks(folder, entries, masks, origins)


def _hash(path: Path) -> str:
    """Return a mask file's SHA-256, "" if there is none."""
    try:
        return sha256_of(path) if path.is_file() else ""
    except OSError as error:
        raise ImageError(f"cannot read the mask {path}: {error.strerror}.") from None


def _mask_of(image: ImageFile, is_there: bool) -> store.Mask | None:
    """Return an image's mask (H, W); without a file, a normal image's is all False, an anomalous image has none."""
    if not is_there:
        return np.zeros(read_shape(image.path), bool) if image.label == NORMAL else None
    mask, shape = read_mask(mask_path(image)), read_shape(image.path)
    if mask.shape != shape:
        raise ImageError(
            f"the mask {mask_path(image)} has {_pixels(mask.shape)} pixels and its image {image.path} has "
            f"{_pixels(shape)}: replace the mask by one of the image's size, or remove it."
        )
    return mask


def _pixels(shape: tuple[int, ...]) -> str:
    height, width = shape
    return f"{width} x {height}"
