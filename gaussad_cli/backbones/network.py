"""Networks that give one feature vector per level, average-pooled (paper section IV, Fig. 1) or of a grid of places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import timm
import torch
from torch import Tensor, nn

from gaussad_cli.backbones.grid import to_grid
from gaussad_cli.backbones.padding import use_paper_padding
from gaussad_cli.backbones.registry import Backbone, Padding
from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.backbones.weights import load_levels


class LevelNetwork(nn.Module):
    """Averages the feature maps of the chosen levels over space, or brings them to a grid of places.

    Forward: (N, 3, H, W) float -> one (N, D_level) per chosen level, in ascending order of levels; with a grid, one
    (N, grid * grid * D_level), place by place (see `grid.to_grid`).
    """

    levels: tuple[int, ...]
    grid: int = 0

    def feature_maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the (N, D_level, H_level, W_level) feature map of each chosen level."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of each chosen level, float32."""
        return tuple(map(self.pool, self.feature_maps(images)))

    def pool(self, level: Tensor) -> Tensor:
        """Return the features (N, D) float32 of a feature map (N, D_level, H, W)."""
        if self.grid:
            return to_grid(level, self.grid)
        # First the mean of each row, then of all rows: ONNX Runtime adds one by one, and large maps would lose digits.
        return level.mean(3, dtype=torch.float32).mean(2)


class StagedNetwork(LevelNetwork):
    """Runs the modules of one level after the other (`registry.LEVEL_MODULES`), up to the deepest chosen level."""

    def __init__(self, model: nn.Module, backbone: Backbone, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        modules = backbone.level_modules[: max(levels)]
        self.stages = nn.ModuleList(nn.Sequential(*map(model.get_submodule, names)) for names in modules)

    def feature_maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the feature map of each chosen level as soon as it is computed."""
        for level, stage in enumerate(self.stages, start=1):
            images = stage(images)
            if level in self.levels:
                yield images


class IntermediateNetwork(LevelNetwork):
    """Asks a timm model for the outputs of its own stages."""

    def __init__(self, model: nn.Module, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.model = model

    def feature_maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the feature map of each chosen level."""
        indices = [level - 1 for level in self.levels]
        yield from self.model.forward_intermediates(  # type: ignore[operator]
            images, indices=indices, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )


def build_network(network: ResolvedNetwork) -> LevelNetwork:
    """Build a network with its weights, in evaluation mode.

    Raises
    ------
    UserError
        If the checkpoint does not fit, or lacks tensors that the levels need.
    """
    model = create_model(network.backbone)
    load_levels(model, network.backbone, network.checkpoint, network.levels)
    return tap_levels(model, network.backbone, network.padding, network.levels, network.grid)


def create_model(backbone: Backbone) -> nn.Module:
    """Create timm's architecture with random weights, in evaluation mode."""
    model: nn.Module = timm.create_model(backbone.timm_name, pretrained=False)
    return model.eval()


def tap_levels(
    model: nn.Module, backbone: Backbone, padding: Padding, levels: Sequence[int], grid: int = 0
) -> LevelNetwork:
    """Turn a timm model, its weights loaded, into the network of the chosen levels, in place."""
    if padding == "paper":
        use_paper_padding(model, backbone.input_size)
    staged = backbone.family != "timm"
    network = StagedNetwork(model, backbone, levels) if staged else IntermediateNetwork(model, levels)
    network.grid = grid
    return network.eval()


def normalise(images: Tensor, backbone: Backbone) -> Tensor:
    """Turn (N, H, W, 3) uint8 RGB into the network's (N, 3, H, W) float32 input, on the images' device."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
