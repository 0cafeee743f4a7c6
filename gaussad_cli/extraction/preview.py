"""A contact sheet of augmented images: what `gaussad augment-preview` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gaussad_cli.datasets.index import Category
from gaussad_cli.extraction.augment import Augmentation
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.files import fit_name, write_whole

_GAP = 4  # pixels


def write_preview(
    category: Category, augmentation: Augmentation, folder: Path, images: int, epochs: int, size: int
) -> Path:
    """Write ``<folder>/<category>.png``: a row per training image, first the original, then its epochs.

    These are the images that an extraction at this size, with this seed, sends through the network.

    Raises
    ------
    UserError
        If an image cannot be read, or the folder cannot be written.
    """
    augment = augmentation.augmenter(category.name)
    step = max(1, len(category.train) // images)
    rows = []
    for image in category.train[::step][:images]:
        square = read_squares(image.path, [size]).by_size[size]
        rows.append([square, *(augment(square, image.name, epoch) for epoch in range(epochs))])
    cell = size + _GAP
    sheet = np.full((len(rows) * cell - _GAP, len(rows[0]) * cell - _GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, square in enumerate(row):
            sheet[y * cell : y * cell + size, x * cell : x * cell + size] = square
    path = folder / fit_name(category.name, ".png")
    write_whole(path, lambda file: Image.fromarray(sheet).save(file, "PNG"))
    return path
