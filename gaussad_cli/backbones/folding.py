"""Folds batch norm into the convolution before it: in evaluation mode, the same network then takes fewer passes."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@torch.no_grad()
def fold_batch_norm(network: nn.Module) -> None:
    """Fold every batch norm that takes its input straight from a convolution, in place.

    One run finds them: such a batch norm receives the very tensor that a convolution returned. Nothing else may use
    that tensor, in a sum for example: this holds for EfficientNet and ResNet, but not for every network. Of timm's
    batch norms with an activation, the activation stays.

    Parameters
    ----------
    network : in evaluation mode, on the CPU
    """
    for conv, norm in _pairs(network):
        fused = fuse_conv_bn_eval(conv, norm)
        conv.weight, conv.bias = fused.weight, fused.bias
        _replace(network, norm, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())


def _pairs(network: nn.Module) -> list[tuple[nn.Conv2d, Any]]:
    given: list[tuple[Tensor, nn.Conv2d]] = []  # kept, so that no other tensor gets the same identity
    pairs: list[tuple[nn.Conv2d, Any]] = []

    def norm_runs(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pairs.extend((conv, norm) for tensor, conv in given if tensor is inputs[0])

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda conv, _, output: given.append((output, conv))))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(norm_runs))
    network(torch.zeros(1, 3, 64, 64))  # a small image: its tensors are all kept
    for hook in hooks:
        hook.remove()
    return pairs


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
