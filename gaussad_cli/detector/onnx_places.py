"""One Gaussian per place as a piece of an ONNX graph: features of levels in, heat maps out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gaussad_cli.detector.onnx_pieces import DOUBLE, FLOAT, Piece, join
from gaussad_cli.gaussian.places import PlaceGaussians, smoothing_matrix


def place_maps(gaussians: PlaceGaussians, sigma: float, levels: Mapping[str, int]) -> Piece:
    """Give `distances` (N, g, g) float64, the smoothed distances of every place, from features of levels.

    The steps and their types are those of :func:`join_levels`, :meth:`PlaceGaussians.distances` and :func:`smooth`.

    Parameters
    ----------
    levels : names of the features (N, P * D_level) float32, and D_level
    """
    places = len(gaussians.mean)
    return join(
        _joined(levels, places),
        _average_neighbours(places, sum(levels.values())),
        _factors(gaussians),
        _distances(gaussians),
        _smoothed(round(places**0.5), sigma),
    )


def _joined(levels: Mapping[str, int], places: int) -> Piece:
    """Give `joined` (N, P, D)."""
    steps = "\n".join(f"{name}_at_places = Reshape ({name}, {name}_shape)" for name in levels)
    parts = ", ".join(f"{name}_at_places" for name in levels)
    shapes = {f"{name}_shape": np.array([-1, places, channels]) for name, channels in levels.items()}
    return Piece(f"{steps}\njoined = Concat <axis = 2> ({parts})", shapes)


def _average_neighbours(places: int, channels: int) -> Piece:
    """Give `averaged`, what :func:`gaussad_cli.gaussian.places.average_neighbours` makes of `joined`, (N, P, D)."""
    grid = round(places**0.5)
    steps = """
        channels_first = Transpose <perm = [0, 2, 1]> (joined)
        as_grids = Reshape (channels_first, grid_shape)
        pooled = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 0> (as_grids)
        in_rows = Reshape (pooled, row_shape)
        averaged = Transpose <perm = [0, 2, 1]> (in_rows)
    """
    shapes = {"grid_shape": [-1, channels, grid, grid], "row_shape": [-1, channels, places]}
    return Piece(steps, {name: np.array(shape) for name, shape in shapes.items()})


def _factors(gaussians: PlaceGaussians) -> Piece:
    """Give `factors` (P, k, k) float32.

    The file has only the values on and below their diagonals, in half precision: a quarter of the bytes.
    """
    places, size = gaussians.factors.shape[:2]
    lower = np.tri(size, dtype=bool)
    position = np.maximum(np.cumsum(lower.ravel()) - 1, 0)  # of every value of a factor among the kept ones
    steps = f"""
        unpacked = Cast <to = {FLOAT}> (packed)
        filled = Gather <axis = 1> (unpacked, position)
        squares = Reshape (filled, factor_shape)
        factors = Mul (squares, triangle)
    """
    packed = gaussians.factors[:, lower].astype(np.float16)
    shape = np.array([places, size, size])
    return Piece(
        steps, {"packed": packed, "position": position, "factor_shape": shape, "triangle": lower.astype(np.float32)}
    )


def _distances(gaussians: PlaceGaussians) -> Piece:
    """Give `at_places` (P, N) float64, the distances of `averaged`."""
    steps = f"""
        deviations = Sub (averaged, mean)
        projected = MatMul (deviations, basis)
        by_place = Transpose <perm = [1, 0, 2]> (projected)
        factors_turned = Transpose <perm = [0, 2, 1]> (factors)
        whitened = MatMul (by_place, factors_turned)
        whitened_wide = Cast <to = {DOUBLE}> (whitened)
        whitened_squares = Mul (whitened_wide, whitened_wide)
        squared = ReduceSum <keepdims = 0> (whitened_squares, last_axis)
        at_places = Sqrt (squared)
    """
    return Piece(steps, {"mean": gaussians.mean, "basis": gaussians.basis, "last_axis": np.array([2])})


def _smoothed(grid: int, sigma: float) -> Piece:
    """Give `distances` (N, g, g) float64 from `at_places`."""
    steps = """
        by_image = Transpose <perm = [1, 0]> (at_places)
        sharp = Reshape (by_image, map_shape)
        along_columns = MatMul (kernel, sharp)
        distances = MatMul (along_columns, kernel_turned)
    """
    kernel = smoothing_matrix(grid, sigma)
    return Piece(steps, {"map_shape": np.array([-1, grid, grid]), "kernel": kernel, "kernel_turned": kernel.T.copy()})
