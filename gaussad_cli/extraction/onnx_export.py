"""A network as an ONNX graph, with its normalisation inside: 8-bit images in, the features of its levels out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gaussad_cli.backbones.folding import fold_batch_norm
from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.network_graph import MAP

OPSET = 18  # the lowest that torch's exporter writes; ONNX's converter has no way back to 17 for Pad
_TOLERANCE = 1e-4  # relative to a level's root mean square, between features that should be the same


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
    return _try_batched(exported) or _export_single(exported)


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


def _try_batched(exported: _Exported) -> bytes | None:
    """Export for any number of images; None if that cannot be done, or two images then are not each as alone."""
    try:
        graph = _export(exported, batched=True)
        return graph if _runs_batched(graph, exported.backbone.input_size) else None
    except Exception:  # of torch or of ONNX Runtime, which have no type in common
        return None


def _export_single(exported: _Exported) -> bytes:
    try:
        return _export(exported, batched=False)
    except Exception as error:  # an operator without a counterpart in ONNX can be almost any error
        raise UserError(
            f"{exported.backbone.name} cannot be exported to ONNX ({_reason(error)}): only --engine torch can run it."
        ) from None


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


def _runs_batched(graph: bytes, size: int) -> bool:
    """Return whether two images together have the features of each alone."""
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # only fatal: what cannot be run is no fault here
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    alone = zip(*(session.run(None, {"image": image[None]}) for image in images), strict=True)
    together = session.run(None, {"image": images})
    return all(_same(values, np.concatenate(apart)) for values, apart in zip(together, alone, strict=True))


def _same(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    if ours.shape != theirs.shape:
        return False
    scale = np.sqrt(np.square(theirs, dtype=np.float64).mean())
    return bool(np.abs(ours - theirs).max() <= _TOLERANCE * scale)


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
    return str(error).strip().partition("\n")[0] or type(error).__name__


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
                opset_version=17,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_axes=dynamic_axes,
                do_constant_folding=fold_constants,
            )
            return (Path(folder) / "graph.onnx").read_bytes()
    except Exception as error:  # an operator without a counterpart in ONNX can be almost any error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name} cannot be exported to ONNX ({reason}): only --engine torch can run it.") from None
