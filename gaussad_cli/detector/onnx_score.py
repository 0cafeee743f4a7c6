"""Score, decision and p-value of a model as pieces of an ONNX graph: features of levels in."""

from __future__ import annotations

import numpy as np

from gaussad_cli.detector.model import Calibration, LevelModel, Model
from gaussad_cli.detector.onnx_pieces import DOUBLE, FLOAT, NETWORK, Piece, join
from gaussad_cli.detector.onnx_places import place_maps
from gaussad_cli.detector.places import PlacesModel
from gaussad_cli.gaussian.distances import shrunk_inverse


def score(model: Model) -> Piece:
    """Give `score` (N,) float64, and `level_scores` or `map`, from the features of the network."""
    return _places_score(model.places) if model.places else _pooled_score(model.levels)


def _pooled_score(levels: tuple[LevelModel, ...]) -> Piece:
    """Give `level_scores` (N, levels), the distances, and `score` (N,), their mean, in float64."""
    columns = ", ".join(f"column_{level.level}" for level in levels)
    steps = f"""
        level_scores = Concat <axis = 1> ({columns})
        score = ReduceMean <keepdims = 0> (level_scores, along_levels)
    """
    return join(*map(level_distance, levels), Piece(steps, {"along_levels": np.array([1])}))


def level_distance(level: LevelModel) -> Piece:
    """Give `column_k` (N, 1) float64, the distances of level k from its features `network_level_k` (N, D) float32.

    The steps are those of :func:`gaussad_cli.gaussian.distances.mahalanobis`.
    """
    k, inverse = level.level, shrunk_inverse(level.spectrum, level.shrinkage)
    steps = f"""
        wide_{k} = Cast <to = {DOUBLE}> ({NETWORK}level_{k})
        centred_{k} = Sub (wide_{k}, mean_{k})
        deviations_{k} = Sub (centred_{k}, mean_remainder_{k})
        components_{k} = MatMul (deviations_{k}, vectors_{k})
        squares_{k} = Mul (components_{k}, components_{k})
        squared_inside_{k} = MatMul (squares_{k}, inside_{k})
        {_outside(k) if inverse.outside else f"squared_{k} = Identity (squared_inside_{k})"}
        distance_{k} = Sqrt (squared_{k})
        column_{k} = Unsqueeze (distance_{k}, features_axis_{k})
    """
    constants = {
        "mean": level.spectrum.mean,
        "mean_remainder": level.spectrum.mean_remainder,
        "vectors": inverse.vectors,
        "inside": inverse.inside,
        "features_axis": np.array([1]),
    }
    if inverse.outside:
        constants["outside"] = np.array(inverse.outside)
    return Piece(steps, {f"{name}_{k}": array for name, array in constants.items()})


def _outside(k: int) -> str:
    """Return the steps that add what deviates outside the components."""
    return f"""
        residual_{k} = Gemm <alpha = -1.0, transB = 1> (components_{k}, vectors_{k}, deviations_{k})
        residual_squares_{k} = Mul (residual_{k}, residual_{k})
        residual_sum_{k} = ReduceSum <keepdims = 0> (residual_squares_{k}, features_axis_{k})
        squared_outside_{k} = Mul (residual_sum_{k}, outside_{k})
        squared_{k} = Add (squared_inside_{k}, squared_outside_{k})
    """


def _places_score(places: PlacesModel) -> Piece:
    """Give `map` (N, g, g) float32 and `score` (N,) float64, as :class:`gaussad_cli.gaussian.places.MapScale` does."""
    maps = place_maps(
        places.gaussians, places.sigma, {f"{NETWORK}level_{level}": dim for level, dim in places.dims.items()}
    )
    steps = f"""
        map = Cast <to = {FLOAT}> (distances)
        greatest = ReduceMax <keepdims = 0> (distances, map_axes)
        whole_mean = ReduceMean <keepdims = 0> (distances, map_axes)
        whole_deviation = Sub (whole_mean, usual_whole)
        whole_scaled = Mul (whole_deviation, whole_weight)
        whole_score = Add (whole_scaled, usual_greatest)
        score = Max (greatest, whole_score)
    """
    scale = places.scale
    usual = {"usual_whole": scale.whole[0], "whole_weight": scale.weight, "usual_greatest": scale.greatest[0]}
    constants = {name: np.array(value, np.float64) for name, value in usual.items()}
    return join(maps, Piece(steps, constants | {"map_axes": np.array([1, 2])}))


def decide(calibration: Calibration) -> Piece:
    """Give `decision` (N,) bool and `p_value` (N,) float64 from `score`."""
    steps = f"""
        decision = Greater (score, threshold)
        score_column = Unsqueeze (score, held_out_axis)
        is_beyond = GreaterOrEqual (held_out, score_column)
        is_beyond_wide = Cast <to = {DOUBLE}> (is_beyond)
        n_beyond = ReduceSum <keepdims = 0> (is_beyond_wide, held_out_axis)
        n_with_itself = Add (n_beyond, itself)
        p_value = Div (n_with_itself, n_all)
    """
    numbers = {"threshold": calibration.threshold, "itself": 1.0, "n_all": len(calibration.distances) + 1.0}
    constants = {name: np.array(value, np.float64) for name, value in numbers.items()}
    return Piece(steps, constants | {"held_out": calibration.distances, "held_out_axis": np.array([1])})
