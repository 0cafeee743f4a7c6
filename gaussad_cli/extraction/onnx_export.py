"""A torch module as an ONNX graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from gaussad_cli.backbones.folding import fold_batch_norm
from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.errors import UserError

OPSET = 17


def export_module(
    module: nn.Module,
    image: Tensor,
    outputs: Sequence[str],
    name: str,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    fold_constants: bool = True,
) -> bytes:
    """Export a module with one input, "image", as an ONNX graph.

    Parameters
    ----------
    image : an example of the input, which the module is traced with
    outputs : names of the outputs
    name : of the network, for the error message
    dynamic_axes : for inputs and outputs, the axes whose length is free, and what they are called
    fold_constants : whether what follows from constants alone is computed now, even where the graph gets larger

    Raises
    ------
    UserError
        If torch cannot export the module.
    """
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(),
                (image,),
                Path(folder) / "graph.onnx",
                dynamo=False,  # the newer exporter needs another package, and takes ten times as long
                opset_version=OPSET,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_axes=dynamic_axes,
                do_constant_folding=fold_constants,
            )
            return (Path(folder) / "graph.onnx").read_bytes()
    except Exception as error:  # an operator without a counterpart in ONNX can be almost any error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name} cannot be exported to ONNX ({reason}): only --engine torch can run it.") from None


def export_network(network: LevelNetwork, backbone: Backbone) -> bytes:
    """Export a network with its normalisation as an ONNX graph for one image: "image" (1, size, size, 3) uint8.

    Raises
    ------
    UserError
        If torch cannot export it.
    """
    if backbone.family != "timm":
        fold_batch_norm(network)
    image = torch.zeros(1, backbone.input_size, backbone.input_size, 3, dtype=torch.uint8)
    outputs = [f"level_{level}" for level in network.levels]
    return export_module(_Normalised(network, backbone), image, outputs, backbone.name)


class _Normalised(nn.Module):
    def __init__(self, network: LevelNetwork, backbone: Backbone) -> None:
        super().__init__()
        self.network, self.backbone = network, backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features: tuple[Tensor, ...] = self.network(normalise(images, self.backbone))
        return features
