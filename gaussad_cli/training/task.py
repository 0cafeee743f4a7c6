"""What is trained, on which images, and how; and the key that all of this is kept under."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gaussad_cli.datasets.index import NORMAL, ImageFile
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.augment import CHAIN_VERSION, Augmenter
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import Precision
from gaussad_cli.extraction.remarks import Remarks
from gaussad_cli.extraction.store import Recipe, digest
from gaussad_cli.files import write_json

LOOP_VERSION = 1  # raise it when the same options would give other numbers
RECIPE = "recipe.json"  # lies beside the states; their key is its hash

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. All options but `workers` change the numbers.

    Attributes
    ----------
    seed : of fresh tensors, the order of the images, their augmentation, and dropout
    learning_rate : Adam's (PROTOCOL: 1e-4)
    batch_size : images at a time; None: the network's own (PROTOCOL: 64, EfficientNet 16)
    max_epochs : after which training ends in any case
    patience : epochs without a better one after which training ends (PROTOCOL: 3)
    device, precision : "tf32" only on CUDA; "bf16" autocasts to bfloat16
    workers : threads that augment images ahead of the network
    """

    seed: int = 0
    learning_rate: float = 1e-4
    batch_size: int | None = None
    max_epochs: int = 100
    patience: int = 3
    device: str = "cpu"
    precision: Precision = "fp32"
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ("max_epochs", "patience", "workers", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name.replace('_', ' ')} is {value}: at least 1 is needed.")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning rate is {self.learning_rate}: a positive number is needed.")

    @property
    def identity(self) -> dict[str, Any]:
        """The options that change the numbers, by name."""
        return {name: value for name, value in vars(self).items() if name != "workers"}


@dataclass(frozen=True)
class TrainableNetwork:
    """A network before it is trained.

    Attributes
    ----------
    build : returns the network, with its random tensors drawn from torch's generator, which the caller seeds; its
        argument is a sample of the training part's inputs (n, 3, size, size)
    inputs : (N, size, size, 3) uint8 RGB -> the network's input (N, 3, size, size) float32, on the same device
    identity : everything that changes the network's numbers; hashed into the states' key
    input_size : pixels
    batch_size : images at a time, unless the options say otherwise
    fresh : tensors of the trunk that the weight file lacks and that start at random
    settles : whether batch norm's statistics are computed anew after every epoch, see :func:`.loop.settle_batch_norm`
    """

    build: Callable[[Tensor], nn.Module]
    inputs: Callable[[Tensor], Tensor]
    identity: Mapping[str, Any]
    input_size: int
    batch_size: int
    fresh: tuple[str, ...] = ()
    settles: bool = False


class Objective(Protocol):
    """What a network is trained for, and how it scores images. Its `repr` is hashed into the states' key."""

    @property
    def ranking(self) -> str | None:
        """Name of the score whose AUROC on the validation part picks the best epoch; None: the loss picks it."""
        ...

    def losses(self, outputs: Tensor, inputs: Tensor, anomalous: Tensor) -> Tensor:
        """Return (n,) float32, one loss per image; `anomalous` is (n,) float32 of zeros and ones."""
        ...

    def scores(self, outputs: Tensor, inputs: Tensor) -> dict[str, NDArray[np.float64]]:
        """Return name -> (n,), the larger the more anomalous."""
        ...


@dataclass(frozen=True)
class DecodedImages:
    """Images in memory: names, the files' SHA-256, which are anomalous (N,), pixels (N, size, size, 3) uint8 RGB."""

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    anomalous: NDArray[np.bool_]
    squares: NDArray[np.uint8]


@dataclass(frozen=True)
class FoldSplit:
    """Which images belong to the three parts of a fold, as indices into the decoded images."""

    number: int
    train: Indices
    valid: Indices
    test: Indices


@dataclass(frozen=True)
class CategoryTraining:
    """The training of one category, in all its folds.

    Attributes
    ----------
    states : folder of the states of all trainings like this one; those of this training lie in :attr:`folder`
    """

    category: str
    network: TrainableNetwork
    objective: Objective
    images: DecodedImages
    folds: Sequence[FoldSplit]
    augmenter: Augmenter
    options: TrainingOptions
    states: Path

    @property
    def batch_size(self) -> int:
        """Images at a time."""
        return self.options.batch_size or self.network.batch_size

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that changes the states."""
        images, rules = self.images, vars(self.augmenter.rules)
        return {
            "loop": LOOP_VERSION,
            "category": self.category,
            "network": dict(self.network.identity),
            "input_size": self.network.input_size,
            "fresh": list(self.network.fresh),
            "objective": repr(self.objective),
            "options": self.options.identity | {"batch_size": self.batch_size},
            "preprocessing": Recipe.preprocessing,
            "augmentation": {**rules, "seed": self.augmenter.seed, "version": CHAIN_VERSION},
            "images": [list(image) for image in zip(images.names, images.sha256, strict=True)],
            "folds": [[part.tolist() for part in (fold.train, fold.valid, fold.test)] for fold in self.folds],
        }

    @cached_property
    def key(self) -> str:
        """The recipe's hash."""
        return digest(self.recipe)

    @property
    def folder(self) -> Path:
        """Where the recipe and the state of every fold lie."""
        return self.states / self.key[:16]

    def write_recipe(self) -> None:
        """Write the recipe into the folder of the states."""
        write_json(self.folder / RECIPE, self.recipe)


def read_images(images: Sequence[ImageFile], size: int, workers: int) -> DecodedImages:
    """Decode images into memory; a few hundred of 224 pixels take about 60 MB.

    Raises
    ------
    ImageError
        If an image cannot be used.
    """
    with ThreadPoolExecutor(workers) as pool:
        decoded = list(pool.map(lambda image: read_squares(image.path, [size]), images))
    Remarks().tell([image.path for image in images], decoded)
    squares = np.stack([image.by_size[size] for image in decoded])
    squares.setflags(write=False)  # every epoch starts from them
    return DecodedImages(
        names=tuple(image.name for image in images),
        sha256=tuple(image.sha256 for image in decoded),
        anomalous=np.array([image.label != NORMAL for image in images]),
        squares=squares,
    )
