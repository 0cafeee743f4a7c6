"""A network of two levels that is built and exported in no time, and models on it."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import nn

from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import IMAGENET_MEAN, IMAGENET_STD, Backbone, find_backbone
from gaussad_cli.detector.kept_maps import KeptMaps
from gaussad_cli.detector.look import OpenNetwork
from gaussad_cli.detector.model import BackboneIdentity, Calibration, Model, PooledModel, calibration_of, fit_level
from gaussad_cli.detector.places import train_places
from gaussad_cli.extraction.engine import Compute
from gaussad_cli.extraction.torch_engine import TorchEngine
from gaussad_cli.gaussian.compression import NO_COMPRESSION

SIZE = 32
LEVELS = (1, 2)
GRID = 4
BACKBONE = Backbone(
    "tiny", "efficientnet", "tiny", None, SIZE, IMAGENET_MEAN, IMAGENET_STD, ("native",), dims=(6, 10)
)  # fmt: skip
IDENTITY = BackboneIdentity(
    "tiny", "tiny@0", "0" * 64, "native", SIZE, IMAGENET_MEAN, IMAGENET_STD, "pil-rgb8/cv2-linear/1", "torch", "fp32"
)


class TinyNetwork(LevelNetwork):
    """Two convolutions with batch norm, the same ones every time."""

    def __init__(self, levels=LEVELS, grid=0):
        super().__init__()
        self.levels = levels
        self.grid = grid
        generator = torch.Generator().manual_seed(0)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in ((3, 6), (6, 10))
        )
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
        self.eval()

    def feature_maps(self, images):
        for level, stage in enumerate(self.stages, start=1):
            images = stage(images)
            if level in self.levels:
                yield images


def pictures(n, seed=0, height=SIZE, width=SIZE):
    """Smooth noise (n, height, width, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in coarse])


def features(images, levels=LEVELS, grid=0):
    with torch.inference_mode():
        pooled = TinyNetwork(levels, grid)(normalise(torch.from_numpy(images), BACKBONE))
    return {level: values.numpy() for level, values in zip(levels, pooled, strict=True)}


def feature_maps(square, levels=LEVELS):
    """Level -> (D, H, W) float32 of one image (SIZE, SIZE, 3) uint8."""
    with torch.inference_mode():
        maps = TinyNetwork(levels).feature_maps(normalise(torch.from_numpy(square[None]), BACKBONE))
        return {level: values[0].numpy() for level, values in zip(levels, maps, strict=True)}


def tiny_model(n=40, compression=NO_COMPRESSION, levels=LEVELS, threshold=None):
    """A model of n images, calibrated on 19 others; the threshold is their median unless it is given."""
    trained = features(pictures(n), levels)
    fitted = PooledModel(tuple(fit_level(level, trained[level], compression) for level in levels))
    model = Model(IDENTITY, fitted, Calibration(np.zeros(0), 0.5, 0.0), {})
    held_out = np.sort(model.score(features(pictures(19, seed=1), levels)))
    cut = float(np.median(held_out)) if threshold is None else threshold
    return Model(IDENTITY, fitted, Calibration(held_out, 0.5, cut), {})


def kept(images, grid=GRID):
    """The maps of images as training keeps them, in memory."""
    maps = KeptMaps(io.BytesIO(), grid**2)
    by_level = features(images, grid=grid)
    for row in range(len(images)):
        maps.append({level: values[row] for level, values in by_level.items()})
    return maps


def tiny_places_model(n=40, fpr=0.1, compression=NO_COMPRESSION):
    """A model of places made of n images."""
    fitted = train_places(kept(pictures(n)), n, compression)
    hashes = tuple(f"{i:016x}" for i in range(n))
    calibration = calibration_of(fitted.held_out, fpr)
    return Model(replace(IDENTITY, grid=GRID), fitted.model, calibration, {"updates": 0, "images": n}, hashes)


def lite0_model(level=1, **changes):
    """A model that claims to be of EfficientNet-Lite0, with random features and other weights."""
    backbone, model = find_backbone("efficientnet-lite0"), tiny_model()
    identity = replace(
        model.backbone, name=backbone.name, input_size=backbone.input_size, mean=backbone.mean, std=backbone.std,
        padding="tf",
    )  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(9, backbone.dims[0]))
    return replace(model, backbone=replace(identity, **changes), gaussians=PooledModel((fit_level(level, rows),)))


def open_tiny_network(batch_size=3, levels=LEVELS, grid=0):
    """The network, opened as commands open theirs, on the CPU."""
    compute = Compute("torch", "cpu", "fp32", batch_size, 1)
    identity = replace(IDENTITY, grid=grid)
    return OpenNetwork(TorchEngine(TinyNetwork(levels, grid), BACKBONE, "cpu"), identity, compute)


def write_pictures(folder, images):
    """Write images (H, W, 3) uint8 RGB as PNG files, and return their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image[..., ::-1])
    return paths
