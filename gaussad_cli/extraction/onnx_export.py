"""A network as an ONNX graph, with its normalisation inside: 8-bit images in, the features of its levels out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gaussad_cli.backbones.folding import fold_batch_norm
from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.errors import UserError, first_line
from gaussad_cli.extraction.network_graph import MAP
from gaussad_cli.extraction.onnx_engine import FATAL, open_session

OPSET = 20  # has Gelu: torch's exporter writes 18 to 20 alike otherwise, but GELU in parts that take a tenth longer
_TOLERANCE = 1e-3  # relative to a level's root mean square; rounding makes a hundredth of it


def export_network(network: LevelNetwork, backbone: Backbone) -> bytes:
    """Export a network with its normalisation as an ONNX graph; its batch norm is folded in place.

    Input: "image" (N, size, size, 3) uint8 RGB. Outputs: "level_k", the float32 features of each level k. Inside, the
    level's feature map is called "map_k" (see :func:`gaussad_cli.extraction.network_graph.feature_map_graph`). N is
    free, or 1 if the network cannot be exported otherwise.

    Raises
    ------
    UserError
        If torch cannot export it.
    """
    if backbone.family != "timm":
        fold_batch_norm(network)
    for module in network.modules():
        if getattr(module, "inplace", False):  # an activation: torch.export takes a quarter longer to undo it
            module.inplace = False  # type: ignore[assignment]
    exported = _Exported(network, backbone).eval()
    graph = _try_batched(exported)
    if graph is None and _take_attention_apart(network):
        graph = _try_batched(exported)
    return graph or _export_single(exported)


class _Exported(nn.Module):
    """Maps images (N, size, size, 3) uint8 to the features of all levels, then to their feature maps."""

    def __init__(self, network: LevelNetwork, backbone: Backbone) -> None:
        super().__init__()
        self.network, self.backbone = network, backbone

    @property
    def outputs(self) -> list[str]:
        return [f"{kind}{level}" for kind in ("level_", MAP) for level in self.network.levels]

    def example(self, n: int) -> Tensor:
        return torch.zeros(n, self.backbone.input_size, self.backbone.input_size, 3, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = list(self.network.feature_maps(normalise(images, self.backbone)))
        return (*map(self.network.pool, maps), *maps)


def _take_attention_apart(network: LevelNetwork) -> bool:
    """Let timm's attention be made of matrix products, in place; return whether there is any.

    As one operator, attention to windows of an image cannot be exported: the exporter knows four dimensions, and trips
    over the strides of the result.
    """
    fused = [module for module in network.modules() if getattr(module, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    return bool(fused)


def _try_batched(exported: _Exported) -> bytes | None:
    """Export for any number of images; None if that cannot be done, or two images then have other features."""
    try:
        graph = _export(exported, batched=True)
        return graph if _agrees(graph, exported, 2) else None
    except Exception:  # of torch or of ONNX Runtime, which have no type in common
        return None


def _export_single(exported: _Exported) -> bytes:
    name = exported.backbone.name
    try:
        graph = _export(exported, batched=False)
        agrees = _agrees(graph, exported, 1)
    except Exception as error:  # an operator without a counterpart in ONNX can be almost any error
        raise UserError(
            f"{name} cannot be exported to ONNX ({_reason(error)}): only --engine torch can run it."
        ) from None
    if not agrees:
        raise UserError(f"{name} has other features in ONNX Runtime than in torch: only --engine torch can run it.")
    return graph


def _export(exported: _Exported, batched: bool) -> bytes:
    with _quiet():
        program = torch.onnx.export(
            exported,
            (exported.example(2 if batched else 1),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=exported.outputs,
            dynamic_shapes=({0: "batch"},) if batched else None,
            verbose=False,
        )
    assert program is not None  # it is None only where the exporter writes a file
    model = program.model_proto
    _hide_maps(model.graph)
    _strip(model.graph)
    return model.SerializeToString(deterministic=True)


def _hide_maps(graph: onnx.GraphProto) -> None:
    """Make the maps values inside the graph, whose names and shapes it still has."""
    maps = [output for output in graph.output if output.name.startswith(MAP)]
    for output in maps:
        graph.output.remove(output)
    graph.ClearField("value_info")
    graph.value_info.extend(maps)


def _strip(graph: onnx.GraphProto) -> None:
    """Remove where in torch's and timm's source every node comes from: it takes space and names local folders."""
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _agrees(graph: bytes, exported: _Exported, n: int) -> bool:
    """Return whether n images together have the features that torch gives each of them alone."""
    size = exported.backbone.input_size
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    session = open_session(graph, least=FATAL)  # what cannot be run is no fault here
    together = session.run(None, {"image": images})
    with torch.inference_mode():
        alone = zip(*(exported(torch.from_numpy(image[None])) for image in images), strict=True)
        expected = [torch.cat(features).numpy() for features in alone]
    return all(map(_same, together, expected))  # the maps, which come after the features, are left out


def _same(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """Return whether values are the same but for rounding; NaN equals NaN, as of weights that hold some."""
    scale = float(np.sqrt(np.square(np.nan_to_num(theirs, posinf=0, neginf=0), dtype=np.float64).mean()))
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from warning and logging: what matters is whether it succeeds."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """Return the first line of the error that began it; the exporter's own errors only say at which step it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
