"""Engines turn batches of 8-bit squares into level features; here, engine, device and precision are chosen."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from gaussad_cli.backbones.resolve import ResolvedNetwork

EngineName = Literal["onnx", "torch"]
Precision = Literal["fp32", "tf32", "bf16"]


class Engine(Protocol):
    """A network on a device."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that the engine computes."""
        ...

    def run(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """Return level -> (N, D) float32 for images (N, size, size, 3) uint8 RGB; see `LevelNetwork` for D."""
        ...


@dataclass(frozen=True)
class Compute:
    """How features are computed: the options of every command that runs a network; see their help."""

    engine: str = "auto"
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int | None = None
    workers: int | None = None

    def choose(self) -> EngineChoice:
        """Resolve engine, device and precision; see :func:`choose_engine`."""
        return choose_engine(self.engine, self.device, self.precision)

    @property
    def images_at_once(self) -> int:
        """Number of images that are decoded and run together."""
        return self.batch_size or self.choose().batch_size

    @property
    def threads(self) -> int:
        """Number of threads that decode; 0 means that images are decoded between batches."""
        return usable_cores() if self.workers is None else self.workers


AUTO = Compute()  # all defaults


@dataclass(frozen=True)
class EngineChoice:
    """An engine by name, the device it runs on, and its precision."""

    engine: EngineName
    device: Literal["cpu", "cuda"]
    precision: Precision

    @property
    def batch_size(self) -> int:
        """The default number of images at a time: it keeps the cores or the GPU busy without much memory."""
        return 64 if self.device == "cuda" else 32 if self.engine == "onnx" else 8


def choose_engine(engine: str, device: str, precision: str) -> EngineChoice:
    """Resolve the options; ``auto`` takes the fastest engine: torch on CUDA, ONNX Runtime on a CPU.

    Raises
    ------
    UserError
        If a value is unknown, the options do not go together, or CUDA is requested but missing.
    """
    for option, value, known in (
        ("engine", engine, ("auto", "onnx", "torch")),
        ("device", device, ("auto", "cpu", "cuda")),
        ("precision", precision, ("fp32", "tf32", "bf16")),
    ):
        if value not in known:
            raise UserError(f"unknown --{option} '{value}'. Known: {', '.join(known)}.")
    has_cuda = device != "cpu" and engine != "onnx" and _finds_cuda(ask_torch=device == "cuda")
    if engine == "onnx" and device == "cuda":
        raise UserError("--engine onnx runs on the CPU: use --engine torch for CUDA.")
    if device == "cuda" and not has_cuda:
        raise UserError("--device cuda: torch finds no CUDA device. Use --device cpu or auto.")
    if engine == "onnx" and precision != "fp32":
        raise UserError(f"--engine onnx computes in fp32: use --engine torch for {precision}.")
    if precision == "tf32" and not has_cuda:
        raise UserError("--precision tf32 needs CUDA: use fp32 or bf16.")
    chosen: EngineName = "torch" if engine == "torch" or has_cuda or precision == "bf16" else "onnx"
    return EngineChoice(chosen, "cuda" if has_cuda else "cpu", _precision(precision))


def build_engine(choice: EngineChoice, network: ResolvedNetwork, cache: Path) -> Engine:
    """Build the chosen engine for a network.

    Parameters
    ----------
    cache : the feature cache, which also keeps exported graphs

    Raises
    ------
    UserError
        If the checkpoint does not fit, or the network cannot be exported.
    """
    if choice.engine == "onnx":
        from gaussad_cli.extraction import graphs
        from gaussad_cli.extraction.onnx_engine import OnnxEngine

        return OnnxEngine(graphs.load_graph(network, cache), network.levels)
    from gaussad_cli.backbones.folding import fold_batch_norm
    from gaussad_cli.backbones.network import build_network
    from gaussad_cli.extraction.torch_engine import TorchEngine

    module = build_network(network)
    if network.backbone.family != "timm":
        fold_batch_norm(module)
    return TorchEngine(module, network.backbone, choice.device, choice.precision)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finds_cuda(ask_torch: bool) -> bool:
    """Return whether torch finds a CUDA device.

    Parameters
    ----------
    ask_torch : whether to ask torch, whose import takes seconds, even where no driver of such a device can be loaded
    """
    if not (ask_torch or _has_driver()):
        return False
    import torch

    return torch.cuda.is_available()


def _has_driver() -> bool:
    for library in ("libcuda.so.1", "nvcuda.dll", "libamdhip64.so"):  # the last one is what torch for AMD calls CUDA
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


def _precision(name: str) -> Precision:
    return "tf32" if name == "tf32" else "bf16" if name == "bf16" else "fp32"
