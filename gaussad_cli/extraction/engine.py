"""The engine: batches of 8-bit squares in, pooled level features out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.backends import cudnn

from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.errors import UserError


class TorchEngine:
    """Runs a :class:`LevelNetwork` in float32, channels last, on one device."""

    def __init__(self, network: LevelNetwork, backbone: Backbone, device: str) -> None:
        self.device = choose_device(device)
        self.backbone = backbone
        self.levels = network.levels
        self._network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """Return level -> (N, D) float32 for images (N, size, size, 3) uint8 RGB."""
        batch = normalise(torch.from_numpy(images).to(self.device), self.backbone)
        # TF32, cuDNN's default on CUDA, would keep 10 bits of mantissa: float32 means float32 here.
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features = self._network(batch.contiguous(memory_format=torch.channels_last))
        return {level: values.cpu().numpy() for level, values in zip(self.levels, features, strict=True)}


def choose_device(device: str) -> torch.device:
    """Return the torch device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    UserError
        If there is no such device, or CUDA is asked for and there is none here.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device '{device}'. Known: auto, cpu, cuda.")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("--device cuda: torch finds no CUDA device here. Use --device cpu, or auto.")
    return torch.device("cuda" if available and device != "cpu" else "cpu")
