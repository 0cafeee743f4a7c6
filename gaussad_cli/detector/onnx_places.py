"""One Gaussian per place as a torch module, for the ONNX graph of a model: features of levels in, heat maps out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gaussad_cli.gaussian.places import PlaceGaussians, smoothing_matrix


class PlaceMaps(nn.Module):
    """The smoothed distances of every place: (N, P * D_level) float32 per level -> (N, g, g) float64.

    The steps and their types are those of :func:`join_levels`, :meth:`PlaceGaussians.distances` and :func:`smooth`. Of
    the factors, the values on and below the diagonals are kept, in half precision: so they take a quarter of the bytes.
    """

    mean: Tensor
    basis: Tensor
    packed: Tensor
    position: Tensor
    lower: Tensor
    kernel: Tensor

    def __init__(self, gaussians: PlaceGaussians, sigma: float) -> None:
        super().__init__()
        size = gaussians.basis.shape[1]
        lower = np.tri(size, dtype=bool)
        position = np.maximum(np.cumsum(lower.ravel()) - 1, 0)  # of every value of a factor among the kept ones
        self.grid = round(len(gaussians.mean) ** 0.5)
        self.register_buffer("mean", torch.tensor(gaussians.mean))
        self.register_buffer("basis", torch.tensor(gaussians.basis))
        self.register_buffer("packed", torch.tensor(gaussians.factors[:, lower].astype(np.float16)))
        self.register_buffer("position", torch.tensor(position))
        self.register_buffer("lower", torch.tensor(lower.astype(np.float32)))
        self.register_buffer("kernel", torch.tensor(smoothing_matrix(self.grid, sigma)))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the heat maps."""
        places, size = self.mean.shape[0], self.basis.shape[1]
        joined = torch.cat([level.reshape(-1, places, level.shape[1] // places) for level in levels], 2)
        deviations = ((self._average_neighbours(joined) - self.mean) @ self.basis).transpose(0, 1)  # (P, N, k)
        factors = self.packed.float()[:, self.position].reshape(places, size, size) * self.lower
        whitened = torch.matmul(deviations, factors.transpose(1, 2))
        distances = whitened.double().square().sum(2).sqrt().t().reshape(-1, self.grid, self.grid)
        return self.kernel @ distances @ self.kernel.t()

    def _average_neighbours(self, images: Tensor) -> Tensor:
        """Return what :func:`gaussad_cli.gaussian.places.average_neighbours` does, (N, P, D)."""
        grids = images.transpose(1, 2).reshape(-1, images.shape[2], self.grid, self.grid)
        return nn.functional.avg_pool2d(grids, 3, 1, 1, count_include_pad=False).flatten(2).transpose(1, 2)
