"""The autoencoder of Tables V and VIII: a ResNet-18 and its mirror image (PROTOCOL: comparators).

It learns to reproduce normal images through a bottleneck of 32 numbers; what it fails to reproduce makes an image
anomalous. Both halves start at random: the paper counts autoencoders among the methods that learn "from scratch"
(section II A), and mentions ImageNet weights for the classifiers only.
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
from gaussad_cli.training.task import CategoryTraining, FoldSplit, TrainableNetwork, TrainingOptions, read_images

MAP_MEAN, CCA = "map_mean", "cca"
SIZE, BOTTLENECK, BATCH_SIZE = 224, 32, 64  # PROTOCOL
TRUNK = BACKBONES["resnet-18"]
STRIDE = 32  # of the whole trunk


@dataclass(frozen=True)
class Reconstruction:
    """The error map: the squared error of each pixel, averaged over the channels.

    Attributes
    ----------
    smallest : size of the category's smallest anomaly as a fraction of the image; None: there is no CCA score
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
    """Return the error maps (n, H, W) float32 of images (n, 3, H, W) in [0, 1]."""
    return (outputs.float() - inputs).square().mean(1)


def autoencoder_training(
    category: Category, network: TrainableNetwork, augmentation: Augmentation, options: TrainingOptions, states: Path
) -> CategoryTraining:
    """Return the training of a category that scores the whole test set in every fold.

    Parameters
    ----------
    network : such as :func:`resnet_autoencoder`
    augmentation : of the training images; its noise is left out (PROTOCOL), and its seed is the options'
    states : folder of the states, see :class:`.task.CategoryTraining`

    Raises
    ------
    UserError
        If some masks are missing, or an image cannot be read.
    """
    return CategoryTraining(
        category=category.name,
        network=network,
        objective=Reconstruction(smallest_anomaly(category)),
        images=read_images([*category.train, *category.test], network.input_size, options.workers),
        folds=autoencoder_folds(len(category.train), len(category.test)),
        augmenter=without_noise(augmentation, options.seed).augmenter(category.name),
        options=options,
        states=states,
    )


def autoencoder_folds(n_train: int, n_test: int) -> list[FoldSplit]:
    """Return the same folds as for every other method: the held-out fifth validates, the whole test set is scored.

    Indices count the training images first, then the test images.
    """
    test = np.arange(n_train, n_train + n_test)
    parts = zip(training_folds(n_train), held_out_parts(n_train), strict=True)
    return [FoldSplit(i, train, valid, test) for i, (train, valid) in enumerate(parts)]


def without_noise(augmentation: Augmentation, seed: int) -> Augmentation:
    """Return the augmentation without noise, which an autoencoder would learn either to reproduce or to remove."""
    rules = {name: dataclasses.replace(rules, noise=0.0) for name, rules in augmentation.rules.items()}
    return Augmentation(rules, seed)


# --- the network ---


def resnet_autoencoder(input_size: int = SIZE, bottleneck: int = BOTTLENECK) -> TrainableNetwork:
    """Return the paper's autoencoder. Inputs and outputs are in [0, 1]; the last layer is a sigmoid.

    Raises
    ------
    UserError
        If the input size is not a multiple of 32.
    """
    if input_size < STRIDE or input_size % STRIDE:
        raise UserError(f"an autoencoder of {input_size} pixels: the size must be a multiple of {STRIDE}.")
    return TrainableNetwork(
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
    """Return images (N, H, W, 3) uint8 as (N, 3, H, W) float32 in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


class Autoencoder(nn.Module):
    """ResNet-18 and its mirror image: images (N, 3, size, size) in, reconstructions of the same shape out.

    At 224 pixels the encoder goes 3x224 - stem 64x112 - pool 64x56 - 64x56 - 128x28 - 256x14 - 512x7 - 7x7 convolution
    - 32x1, and the decoder the same way back.
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
        """Return the reconstructions. The sigmoid is computed in float32, since bfloat16 has only 8 bits near 1."""
        return torch.sigmoid(cast(Tensor, self.decoder(self.encoder(images))).float())


def _mirror(widths: Sequence[int], side: int, bottleneck: int) -> list[nn.Module]:
    """Return the trunk's mirror image: the inverse of every operation of the encoder, the last one first.

    Where the encoder halves the size, a convolution to four times the channels and a pixel shuffle double it. Where the
    encoder goes from `side` pixels to one, a single such step goes back.
    """
    stem = widths[0]
    layers: list[nn.Module] = [_up(bottleneck, widths[-1], 1, side), nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    for wide, narrow in zip(widths[:1:-1], widths[-2:0:-1], strict=True):  # layer4, layer3, layer2
        layers += [MirroredBlock(wide, wide, 1), MirroredBlock(wide, narrow, 2)]
    layers += [MirroredBlock(stem, stem, 1), MirroredBlock(stem, stem, 1)]  # layer1
    layers += [_up(stem, stem, 3, 2), nn.BatchNorm2d(stem), nn.ReLU()]  # the pooling
    return [*layers, _up(stem, 3, 7, 2)]  # the stem's convolution


class MirroredBlock(nn.Module):
    """A basic block of a ResNet backwards, (N, wide, H, W) -> (N, narrow, factor H, factor W).

    The convolution that changes size and width comes last.
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
        """Return the rectified sum of residual and shortcut (N, narrow, factor H, factor W)."""
        return torch.relu(self.residual(maps) + self.shortcut(maps))


def _up(wide: int, narrow: int, kernel: int, factor: int) -> nn.Module:
    """Return a convolution that keeps the size, followed by a pixel shuffle that multiplies it by `factor`."""
    convolution = nn.Conv2d(wide, narrow * factor**2, kernel, padding=kernel // 2, bias=narrow == 3)
    return convolution if factor == 1 else nn.Sequential(convolution, nn.PixelShuffle(factor))
