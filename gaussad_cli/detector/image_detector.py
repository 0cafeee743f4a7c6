"""`ImageDetector`: a trained model in Python, on images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.backbones.resolve import NetworkOptions
from gaussad_cli.datasets.images import find_images, is_folder
from gaussad_cli.datasets.own import OwnImages, find_class_images
from gaussad_cli.detector.container import read_model, write_model
from gaussad_cli.detector.look import open_network_of
from gaussad_cli.detector.model import Model
from gaussad_cli.detector.train import DetectorOptions, choose_network, train_detector
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import AUTO
from gaussad_cli.extraction.store import depth_of
from gaussad_cli.gaussian.moments import Array

Images = Path | str | Iterable[Path | str | NDArray[np.uint8]]
CACHE = Path("cache")  # as on the command line: exported graphs are kept here


class ImageDetector:
    """A trained model on images.

    Examples
    --------
    >>> detector = ImageDetector.load("screw.gaussad")  # doctest: +SKIP
    >>> detector.score(["new.png"])  # doctest: +SKIP
    array([21.3])
    """

    def __init__(self, model: Model, weights: Path | str | None = None) -> None:
        self.model = model
        self._network = open_network_of(model, None if weights is None else Path(weights), AUTO, CACHE, lambda _: None)

    @classmethod
    def load(cls, path: Path | str, weights: Path | str | None = None) -> Self:
        """Load a model file.

        Raises
        ------
        UserError
            See :func:`gaussad_cli.detector.container.read_model` and
            :func:`gaussad_cli.detector.look.open_network_of`.
        """
        return cls(read_model(Path(path)), weights)

    @classmethod
    def train(
        cls,
        normal: Path | str | Sequence[Path | str],
        backbone: str | None = None,
        levels: str | None = None,
        fpr: float = 0.01,
        weights: Path | str | None = None,
        *,
        pooled: bool = False,
        grid: int | None = None,
    ) -> Self:
        """Train on normal images; see :func:`gaussad_cli.detector.train.train_detector` and `gaussad train`.

        Parameters
        ----------
        normal : a folder, of which all images below it are taken, or image files and such folders
        backbone, levels, grid : None: the defaults of `gaussad train`
        pooled : whether features are averaged over the image, as the paper does; otherwise there is a Gaussian per
            place
        """
        images = OwnImages(tuple(_normal_images(normal)))
        options = NetworkOptions("", levels, None if weights is None else Path(weights))
        network = choose_network(options, backbone, pooled, grid)
        return cls(train_detector(images, network, DetectorOptions(fpr=fpr), AUTO, CACHE).model, weights)

    def save(self, path: Path | str) -> None:
        """Write the model file."""
        write_model(Path(path), self.model)

    @property
    def threshold(self) -> float:
        """The threshold: images with a greater score are anomalous."""
        return self.model.calibration.threshold

    def score(self, images: Images) -> Array:
        """Return the scores (m,) of images; the higher, the more anomalous.

        Parameters
        ----------
        images : paths, or (H, W, 3) uint8 RGB arrays; or one path, of an image or of a folder whose images are taken
            sorted
        """
        return np.concatenate([np.zeros(0), *map(self.model.score, self._features(images))])

    def heat_maps(self, images: Images) -> Array:
        """Return the heat maps of images, (m, g, g): the distance at every place of a grid; see :meth:`score`.

        An image's score is the greatest value of its map, or how far it is as a whole on the same scale, if that is
        greater. So a place is anomalous beyond the same threshold.

        Raises
        ------
        ValueError
            If the model is a pooled one, which has no places.
        """
        places = self.model.places
        if places is None:
            raise ValueError("a pooled model has no heat maps: train one of places")
        empty = np.zeros((0, places.grid, places.grid))
        return np.concatenate([empty, *map(places.heat_maps, self._features(images))])

    def _features(self, images: Images) -> Iterator[dict[int, NDArray[np.float32]]]:
        """Yield the features of images, level -> (m, D), a batch at a time."""
        size, n, remaining = self.model.backbone.input_size, AUTO.images_at_once, iter(_each(images))
        depth = depth_of(self.model.backbone.preprocessing)
        while squares := [_square(image, size, depth) for image in islice(remaining, n)]:
            yield self._network.engine.run(np.stack(squares))

    def is_anomalous(self, images: Images) -> NDArray[np.bool_]:
        """Return whether images are anomalous, (m,) bool; see :meth:`score`. A NaN score counts as anomalous."""
        return ~np.asarray(self.score(images) <= self.threshold)

    def predict(self, images: Images) -> NDArray[np.int64]:
        """Return 1 for normal images, -1 for anomalous ones, (m,), as scikit-learn and :class:`GaussianDetector` do."""
        return np.where(self.is_anomalous(images), -1, 1)


def _normal_images(normal: Path | str | Sequence[Path | str]) -> list[Path]:
    if isinstance(normal, Path | str):
        return list(find_class_images(Path(normal)).paths)
    parts = [find_class_images(path).paths if is_folder(path) else [path] for path in map(Path, normal)]
    return [path for part in parts for path in part]


def _each(images: Images) -> Iterable[Path | str | NDArray[np.uint8]]:
    if not isinstance(images, Path | str):
        return images
    path = Path(images)
    return find_images(path).paths if is_folder(path) else [path]


def _square(image: Path | str | NDArray[np.uint8], size: int, depth: int) -> NDArray[np.uint8]:
    if isinstance(image, Path | str):
        return read_squares(Path(image), [size], depth).by_size[size]
    array: NDArray[Any] = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"images are (H, W, 3) uint8 RGB arrays, got {array.dtype} {array.shape}")
    return np.asarray(cv2.resize(array, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
