"""ONNX Runtime on the CPU. The graph takes 8-bit images and gives the features; batch norm is folded.

Images run singly, several at a time on one thread each: on a CPU that is faster than larger batches, whose activations
leave the caches, and an image's features do not depend on its neighbours, to the bit.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import torch
from numpy.typing import NDArray

from gaussad_cli.backbones.network import build_network
from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.engine import usable_cores
from gaussad_cli.extraction.onnx_export import export_network
from gaussad_cli.extraction.store import digest
from gaussad_cli.files import write_whole

GRAPHS = ".graphs"  # folder of the exported graphs in the cache
EXPORT_VERSION = 4  # raise it when the same network would give another graph
_MOST_AT_ONCE = 16  # images in memory at a time; with more cores, several work on one image


class OnnxEngine:
    """Runs an exported graph."""

    def __init__(self, graph: bytes, levels: tuple[int, ...], threads: int | None = None) -> None:
        self.levels = levels
        cores = threads or usable_cores()
        at_once = min(cores, _MOST_AT_ONCE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores // at_once
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoders need the cores too
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._pool = ThreadPoolExecutor(at_once)

    def run(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """Return level -> (N, D) float32 for images (N, size, size, 3) uint8 RGB."""
        by_image = list(self._pool.map(self._run_one, images))
        by_level = zip(*by_image, strict=True)
        return {level: np.concatenate(features) for level, features in zip(self.levels, by_level, strict=True)}

    def _run_one(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(None, {"image": image[None]})
        return outputs


def load_graph(network: ResolvedNetwork, cache: Path) -> bytes:
    """Return the exported graph from the cache, or export it and keep it there.

    A file's name holds what it was exported from and the head of its own SHA-256: one that was changed is not taken.

    Raises
    ------
    UserError
        If the checkpoint does not fit, or the network cannot be exported.
    """
    backbone = network.backbone
    takes = [network.padding, backbone.input_size, backbone.mean, backbone.std, network.levels]
    made_by = [torch.__version__, timm.__version__, EXPORT_VERSION]
    grid = [network.grid] if network.grid else []  # graphs without one keep their names
    key = digest([backbone.name, network.checkpoint.sha256, *takes, *made_by, *grid])[:16]
    for path in (cache / GRAPHS).glob(f"{key}-*.onnx"):
        with suppress(OSError):
            content = path.read_bytes()
            if path.stem == f"{key}-{_head(content)}":
                return content
    graph = export_network(build_network(network), backbone)
    with suppress(UserError):  # a cache that cannot be written shows where it matters
        write_whole(cache / GRAPHS / f"{key}-{_head(graph)}.onnx", lambda file: file.write(graph))
    return graph


def _head(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
