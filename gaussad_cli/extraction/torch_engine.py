"""The torch engine, on CUDA or a CPU, with channels last and batch norm folded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch.backends import cudnn

from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.errors import UserError


class TorchEngine:
    """Runs a :class:`LevelNetwork` on one device.

    ``fp32`` means float32 throughout: TF32, cuDNN's default on CUDA, would keep only 10 bits of the mantissa. ``tf32``
    allows it in convolutions and matrix products; ``bf16`` autocasts to bfloat16. Features are always float32, averaged
    in float32.
    """

    def __init__(self, network: LevelNetwork, backbone: Backbone, device: str, precision: str = "fp32") -> None:
        self.device = torch.device(device)
        self.backbone = backbone
        self.levels = network.levels
        self.precision = precision
        self._network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """Return level -> (N, D) float32 for images (N, size, size, 3) uint8 RGB.

        Raises
        ------
        UserError
            If the batch does not fit in the GPU's memory.
        """
        try:
            batch = normalise(torch.from_numpy(images).to(self.device, non_blocking=True), self.backbone)
            with ExitStack() as modes:
                tf32 = self.precision == "tf32"
                modes.enter_context(cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32))
                modes.enter_context(_matrix_products(allow_tf32=tf32))
                modes.enter_context(torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16"))
                features = self._network(batch.contiguous(memory_format=torch.channels_last))
            return {level: values.cpu().numpy() for level, values in zip(self.levels, features, strict=True)}
        except torch.cuda.OutOfMemoryError:
            raise UserError(
                f"{len(images)} images of {self.backbone.input_size} pixels do not fit in the GPU's memory at a time: "
                "use a smaller --batch-size."
            ) from None


@contextmanager
def _matrix_products(allow_tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 in CUDA's matrix products (mainly of transformers), then restore torch's global setting."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = allow_tf32
    try:
        yield
    finally:
        matmul.allow_tf32 = before
