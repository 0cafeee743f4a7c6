"""The feature maps of single images, which explanations of pooled models need: as a graph or a network gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.detector.look import carried_engine, carried_network, find_network
from gaussad_cli.detector.model import Model
from gaussad_cli.extraction.network_graph import MAP, feature_map_graph
from gaussad_cli.extraction.onnx_engine import open_session

FeatureMaps: TypeAlias = Callable[[NDArray[np.uint8]], dict[int, NDArray[np.float32]]]  # (S, S, 3) -> level: (D, H, W)


def open_feature_maps(model: Model, weights: Path | None) -> FeatureMaps:
    """Open the network that a model was trained with, to see its feature maps: the one that it carries, if any.

    Parameters
    ----------
    weights : see :func:`gaussad_cli.detector.look.find_network`; if they are given, the network is built from them

    Raises
    ------
    UserError
        If the network is not the model's.
    """
    if network := carried_network(model, weights):
        carried_engine(model)  # it runs, and is the model's
        return feature_maps_of_graph(feature_map_graph(network))
    return feature_maps_of_network(find_network(model, weights))


def feature_maps_of_graph(graph: bytes) -> FeatureMaps:
    """Return the function that runs a graph, by ONNX Runtime on the CPU.

    Parameters
    ----------
    graph : ONNX, takes "image" (1, S, S, 3) uint8 RGB; gives "map_k" (1, D, H, W) float32 for every level k
    """
    session = open_session(graph)
    levels = [int(output.name.removeprefix(MAP)) for output in session.get_outputs()]

    def feature_maps(square: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        maps: list[NDArray[np.float32]] = session.run(None, {"image": square[None]})
        return {level: values[0] for level, values in zip(levels, maps, strict=True)}

    return feature_maps


def feature_maps_of_network(network: ResolvedNetwork) -> FeatureMaps:
    """Return the function that runs a network, by torch on the CPU.

    Raises
    ------
    UserError
        If the checkpoint does not fit.
    """
    import torch

    from gaussad_cli.backbones.network import build_network, normalise

    built = build_network(network)

    def feature_maps(square: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        with torch.inference_mode():
            maps = built.feature_maps(normalise(torch.from_numpy(square[None]), network.backbone))
            return {level: values[0].float().numpy() for level, values in zip(built.levels, maps, strict=True)}

    return feature_maps
