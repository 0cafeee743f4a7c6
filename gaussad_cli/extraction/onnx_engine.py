"""ONNX Runtime on the CPU. The graph takes 8-bit images and gives the features; batch norm is folded.

Images run singly, several at a time on one thread each: on a CPU that is faster than larger batches, whose activations
leave the caches, and an image's features do not depend on its neighbours, to the bit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gaussad_cli.extraction.engine import usable_cores

ERRORS, FATAL = 3, 4  # ONNX Runtime's numbers for kinds of messages
_MOST_AT_ONCE = 16  # images in memory at a time; with more cores, several work on one image


def open_session(
    graph: bytes, options: onnxruntime.SessionOptions | None = None, least: int = ERRORS
) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU.

    Parameters
    ----------
    least : the mildest messages that ONNX Runtime writes on standard error, :data:`ERRORS` or :data:`FATAL`
    """
    options = options or onnxruntime.SessionOptions()
    options.log_severity_level = least
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


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
        self._session = open_session(graph, options)
        self._outputs = [f"level_{level}" for level in levels]
        self._pool = ThreadPoolExecutor(at_once)

    @property
    def input_size(self) -> object:
        """Pixels per side of the images that the graph takes, if it is a graph of images."""
        shapes = {node.name: node.shape for node in self._session.get_inputs()}
        return shapes["image"][1] if len(shapes.get("image", ())) == 4 else None

    @property
    def widths(self) -> tuple[object, ...]:
        """Features per image of every level, as the graph says."""
        shapes = {node.name: node.shape for node in self._session.get_outputs()}
        return tuple(shapes[name][-1] if shapes.get(name) else None for name in self._outputs)

    def run(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """Return level -> (N, D) float32 for images (N, size, size, 3) uint8 RGB."""
        by_image = list(self._pool.map(self._run_one, images))
        by_level = zip(*by_image, strict=True)
        return {level: np.concatenate(features) for level, features in zip(self.levels, by_level, strict=True)}

    def _run_one(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(self._outputs, {"image": image[None]})
        return outputs
