"""Networks that give one average-pooled feature vector per level (paper section IV, Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from torch import Tensor, nn

from gaussad_cli.backbones.padding import use_paper_padding
from gaussad_cli.backbones.registry import Backbone, Padding
from gaussad_cli.backbones.weights import Checkpoint, load_levels


class LevelNetwork(nn.Module):
    """Runs stages one after the other and averages the output of the wanted ones over space.

    Forward: (N, 3, H, W) float -> one (N, D_level) per wanted level, in ascending order of levels.
    """

    def __init__(self, stages: Sequence[nn.Module], levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.stages = nn.ModuleList(stages[: max(levels)])  # deeper stages are never run

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the pooled features of each wanted level."""
        features = []
        for level, stage in enumerate(self.stages, start=1):
            images = stage(images)
            if level in self.levels:
                features.append(images.mean(dim=(2, 3)))
        return tuple(features)


def build_network(backbone: Backbone, padding: Padding, levels: Sequence[int], checkpoint: Checkpoint) -> LevelNetwork:
    """Build the network with the checkpoint's weights, in evaluation mode.

    Raises
    ------
    UserError
        If the checkpoint does not fit, or lacks tensors that the levels need.
    """
    model = create_model(backbone)
    load_levels(model, backbone, checkpoint, levels)
    if padding == "paper":
        use_paper_padding(model, backbone.input_size)
    return LevelNetwork(split_stages(model, backbone), levels).eval()


def create_model(backbone: Backbone) -> nn.Module:
    """Create timm's architecture with random weights, in evaluation mode."""
    model: nn.Module = timm.create_model(backbone.timm_name, pretrained=False)
    return model.eval()


def split_stages(model: nn.Module, backbone: Backbone) -> list[nn.Module]:
    """Cut a timm model into one module per level (`LEVEL_MODULES`)."""
    return [nn.Sequential(*map(model.get_submodule, names)) for names in backbone.level_modules]


def normalise(images: Tensor, backbone: Backbone) -> Tensor:
    """Turn (N, H, W, 3) uint8 RGB into the network's (N, 3, H, W) float32 input, on the images' device."""
    mean = torch.tensor(backbone.mean, device=images.device)
    std = torch.tensor(backbone.std, device=images.device)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
