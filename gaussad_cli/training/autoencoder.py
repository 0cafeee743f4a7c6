"""The autoencoder of Tables V and VIII: a ResNet-18 and its mirror image (PROTOCOL: comparators).

It learns to reproduce normal images through a bottleneck of 32 numbers, and scores by what it fails to reproduce. Both
halves start at random: the paper counts autoencoders among the methods that learn "from scratch" (section II A), and
names ImageNet weights for the classifiers only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gaussad_cli.backbones.registry import BACKBONES
from gaussad_cli.datasets.folds import held_out_parts, training_folds
from gaussad_cli.datasets.index import Category
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.augment import Augmentation
from gaussad_cli.training.components import cca_score, smallest_anomaly
from gaussad_cli.training.loop import (
    Fold,
    FoldScores,
    Network,
    TrainingOptions,
    plan_training,
    read_images,
    resumable,
    train_folds,
)

MAP_MEAN, CCA = "map_mean", "cca"
SIZE, BOTTLENECK, BATCH_SIZE = 224, 32, 64  # PROTOCOL
TRUNK = BACKBONES["resnet-18"]
STRIDE = 32  # of the whole trunk


@dataclass(frozen=True)
class Reconstruction:
    """Squared error per pixel, averaged over the channels: the error map.

    Attributes
    ----------
    smallest : size of the category's smallest anomaly, a fraction of the image; None: no CCA score
    """

    smallest: float | None

    ranking: str | None = None

    def losses(self, outputs: Tensor, inputs: Tensor, anomalous: Tensor) -> Tensor:  # noqa: ARG002
        """Return the means (n,) of the error maps."""
        return error_maps(outputs, inputs).mean((1, 2))

    def scores(self, outputs: Tensor, inputs: Tensor) -> dict[str, NDArray[np.float64]]:
        """Return Map-Mean and, where there are masks, CCA of the error maps."""
        maps = error_maps(outputs, inputs).cpu().numpy()
        scores = {MAP_MEAN: maps.mean((1, 2), dtype=np.float64)}
        if self.smallest is not None:
            scores[CCA] = np.array([cca_score(error, self.smallest) for error in maps])
        return scores


def error_maps(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return (n, H, W) float32 of images (n, 3, H, W) in [0, 1]."""
    return (outputs.float() - inputs).square().mean(1)


def train_autoencoder(
    category: Category,
    augmentation: Augmentation,
    options: TrainingOptions,
    folder: Path,
    network: Network | None = None,
) -> list[FoldScores]:
    """Train the five folds of a category and score its whole test set with each, going on from what is finished.

    Parameters
    ----------
    augmentation : of the training images; its noise is left out (PROTOCOL), its seed is the options'
    folder : of the states, which lie in ``<folder>/<key>``
    network : :func:`resnet_autoencoder`, unless another is given

    Raises
    ------
    UserError
        If only some of the masks are there, and see :func:`.training.train_folds`.
    Interrupted
        On Ctrl-C.
    """
    network = network or resnet_autoencoder()
    with resumable(category.name, folder):
        objective = Reconstruction(smallest_anomaly(category))
        images = read_images([*category.train, *category.test], network.input_size, options.workers)
        folds = autoencoder_folds(len(category.train), len(category.test))
        augmenter = without_noise(augmentation, options.seed).augmenter(category.name)
        training = plan_training(category.name, network, objective, images, folds, augmenter, options, folder)
        return train_folds(training)


def autoencoder_folds(n_train: int, n_test: int) -> list[Fold]:
    """Return the folds of every other method: the held-out fifth validates, and the whole test set is scored.

    Numbers are those of train images, then test images.
    """
    test = np.arange(n_train, n_train + n_test)
    parts = zip(training_folds(n_train), held_out_parts(n_train), strict=True)
    return [Fold(i, train, valid, test) for i, (train, valid) in enumerate(parts)]


def without_noise(augmentation: Augmentation, seed: int) -> Augmentation:
    """Return the augmentation without its noise, which an autoencoder would learn to reproduce, or to remove."""
    rules = {name: dataclasses.replace(rules, noise=0.0) for name, rules in augmentation.rules.items()}
    return Augmentation(rules, seed)


# --- the network ---


def resnet_autoencoder(input_size: int = SIZE, bottleneck: int = BOTTLENECK) -> Network:
    """Return the paper's autoencoder, in and out in [0, 1] (its last layer is a sigmoid).

    Raises
    ------
    UserError
        If the input size is no multiple of 32.
    """
    if input_size < STRIDE or input_size % STRIDE:
        raise UserError(f"an autoencoder of {input_size} pixels: the size must be a multiple of {STRIDE}.")
    return Network(
        build=lambda _: Autoencoder(input_size, bottleneck),
        inputs=unit_range,
        identity={
            "autoencoder": "resnet18/pixel-shuffle/1",
            "bottleneck": bottleneck,
            "init": "random",
            "settles": True,
        },
        input_size=input_size,
        batch_size=BATCH_SIZE,
        settles=True,
    )


def unit_range(images: Tensor) -> Tensor:
    """Turn (N, H, W, 3) uint8 into (N, 3, H, W) float32 in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


class Autoencoder(nn.Module):
    """ResNet-18 and its mirror image: (N, 3, size, size) in, the same out.

    At 224 pixels, in: 3x224 - stem 64x112 - pool 64x56 - 64x56 - 128x28 - 256x14 - 512x7 - 7x7 convolution - 32x1, and
    the same way back.
    """

    def __init__(self, input_size: int = SIZE, bottleneck: int = BOTTLENECK) -> None:
        super().__init__()
        side = input_size // STRIDE
        trunk = timm.create_model(TRUNK.timm_name, pretrained=False)
        names = [name for level in TRUNK.level_modules for name in level]
        widths = TRUNK.dims
        self.encoder = nn.Sequential(
            *(trunk.get_submodule(name) for name in names), nn.Conv2d(widths[-1], bottleneck, side)
        )
        self.decoder = nn.Sequential(*_mirror(widths, side, bottleneck))

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstructions; the sigmoid in float32, since bfloat16 has no more than 8 bits near 1."""
        return torch.sigmoid(cast(Tensor, self.decoder(self.encoder(images))).float())


def _mirror(widths: Sequence[int], side: int, bottleneck: int) -> list[nn.Module]:
    """Return the trunk's mirror image: every operation of the encoder inverted, last first.

    Where the encoder halves the size, a convolution to four times the channels and a pixel shuffle double it; where it
    goes from `side` to one pixel, they go back at once.
    """
    stem = widths[0]
    layers: list[nn.Module] = [_up(bottleneck, widths[-1], 1, side), nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    for wide, narrow in zip(widths[:1:-1], widths[-2:0:-1], strict=True):  # layer4, layer3, layer2
        layers += [MirroredBlock(wide, wide, 1), MirroredBlock(wide, narrow, 2)]
    layers += [MirroredBlock(stem, stem, 1), MirroredBlock(stem, stem, 1)]  # layer1
    layers += [_up(stem, stem, 3, 2), nn.BatchNorm2d(stem), nn.ReLU()]  # the pooling
    return [*layers, _up(stem, 3, 7, 2)]  # the stem's convolution


class MirroredBlock(nn.Module):
    """A basic block of a ResNet backwards: the convolution that changes size and width comes last.

    (N, wide, H, W) -> (N, narrow, factor H, factor W).
    """

    def __init__(self, wide: int, narrow: int, factor: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            _up(wide, narrow, 3, factor),
            nn.BatchNorm2d(narrow),
        )
        same = wide == narrow and factor == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(_up(wide, narrow, 1, factor), nn.BatchNorm2d(narrow))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the rectified sum of residual and shortcut."""
        return torch.relu(self.residual(maps) + self.shortcut(maps))


def _up(wide: int, narrow: int, kernel: int, factor: int) -> nn.Module:
    """Return a convolution that keeps the size, and a pixel shuffle that multiplies it."""
    convolution = nn.Conv2d(wide, narrow * factor**2, kernel, padding=kernel // 2, bias=narrow == 3)
    return convolution if factor == 1 else nn.Sequential(convolution, nn.PixelShuffle(factor))
