"""OpenCV's resize as a piece of an ONNX graph."""

from __future__ import annotations

import numpy as np

from gaussad_cli.detector.onnx_pieces import DOUBLE, FLOAT, INT64, UINT8, Piece, join

_ONE = 2048.0  # a weight of 1 in OpenCV's resize: INTER_RESIZE_COEF_SCALE


def resize_like_opencv(size: int) -> Piece:
    """Give `square` (N, size, size, 3) uint8, `pixels` (N, H, W, 3) resized straight to it, as OpenCV does to the bit.

    OpenCV weighs pixels by multiples of 1/2048 and cuts bits off on the way, while ONNX's Resize weighs in floating
    point. The results differ by a gray level now and then, and the scores by up to 2 %. Here every step is OpenCV's
    (``resize.cpp``, INTER_LINEAR on uint8), in float64, which holds all of its integers exactly.

    `pixels` are uint8, or of another type that holds whole numbers from 0 to 255.
    """
    rows, columns = _taps("row", 1, size), _taps("column", 2, size)
    clamped = _clamp_share("column")
    weights = _weights("row", (size, 1, 1)), _weights("column", (size, 1))
    total = """
        upper = Mul (above, near_weight_row)
        upper_cut = Div (upper, two_to_16)
        upper_part = Floor (upper_cut)
        lower = Mul (below, far_weight_row)
        lower_cut = Div (lower, two_to_16)
        lower_part = Floor (lower_cut)
        total = Add (upper_part, lower_part)
        rounded = Add (total, two)
        quarter = Div (rounded, four)
        whole = Floor (quarter)
    """
    constants = {"two_to_16": np.float64(65536), "two": np.float64(2), "four": np.float64(4)}
    square = Piece(f"{total} square = Cast <to = {UINT8}> (whole)", {k: np.array(v) for k, v in constants.items()})
    return join(rows, columns, clamped, *weights, _row("above", "near_row"), _row("below", "far_row"), square)


def _taps(side: str, axis: int, size: int) -> Piece:
    """Give the two pixels that each target pixel lies between, (size,), and how far it is beyond the first one."""
    steps = f"""
        length_{side} = Shape <start = {axis}, end = {axis + 1}> (pixels)
        length64_{side} = Cast <to = {DOUBLE}> (length_{side})
        scale_{side} = Div (length64_{side}, size_{side})
        scaled_{side} = Mul (centres_{side}, scale_{side})
        shifted_{side} = Sub (scaled_{side}, half_{side})
        place_{side} = Cast <to = {FLOAT}> (shifted_{side})
        first_{side} = Floor (place_{side})
        second_{side} = Add (first_{side}, one_{side})
        share_{side} = Sub (place_{side}, first_{side})
        last_{side} = Sub (length_{side}, pixel_{side})
        first_index_{side} = Cast <to = {INT64}> (first_{side})
        first_inside_{side} = Max (first_index_{side}, no_pixel_{side})
        near_{side} = Min (first_inside_{side}, last_{side})
        second_index_{side} = Cast <to = {INT64}> (second_{side})
        second_inside_{side} = Max (second_index_{side}, no_pixel_{side})
        far_{side} = Min (second_inside_{side}, last_{side})
    """
    constants = {
        "size": np.float64(size),
        "centres": np.arange(size) + 0.5,
        "half": np.float64(0.5),
        "one": np.float32(1),
        "pixel": np.int64(1),
        "no_pixel": np.int64(0),
    }
    return Piece(steps, {f"{name}_{side}": np.asarray(value) for name, value in constants.items()})


def _clamp_share(side: str) -> Piece:
    """Give a target beyond the outermost pixel's centre that pixel's whole weight, as OpenCV does along rows.

    Along columns it weighs the same pixel twice, which rounds otherwise.
    """
    steps = f"""
        last32_{side} = Cast <to = {FLOAT}> (last_{side})
        begun_{side} = GreaterOrEqual (first_{side}, zero_{side})
        not_ended_{side} = Less (first_{side}, last32_{side})
        between_{side} = And (begun_{side}, not_ended_{side})
        clamped_{side} = Where (between_{side}, share_{side}, zero_{side})
    """
    return Piece(steps, {f"zero_{side}": np.array(0, np.float32)})


def _weights(side: str, shape: tuple[int, ...]) -> Piece:
    """Give the weights of the two pixels, in units of 1/2048, in a shape that goes with the images."""
    share = "clamped" if side == "column" else "share"
    steps = f"""
        rest_{side} = Sub (one_{side}, {share}_{side})
        near_exact_{side} = Mul (rest_{side}, unit_{side})
        near_whole_{side} = Round (near_exact_{side})
        near_wide_{side} = Cast <to = {DOUBLE}> (near_whole_{side})
        near_weight_{side} = Reshape (near_wide_{side}, shape_{side})
        far_exact_{side} = Mul ({share}_{side}, unit_{side})
        far_whole_{side} = Round (far_exact_{side})
        far_wide_{side} = Cast <to = {DOUBLE}> (far_whole_{side})
        far_weight_{side} = Reshape (far_wide_{side}, shape_{side})
    """
    return Piece(steps, {f"unit_{side}": np.array(_ONE, np.float32), f"shape_{side}": np.array(shape, np.int64)})


def _row(name: str, index: str) -> Piece:
    """Give the weighted sums along the rows of these indices, with the last four bits cut off."""
    steps = f"""
        {name}_pixels = Gather <axis = 1> (pixels, {index})
        {name}_near = Gather <axis = 2> ({name}_pixels, near_column)
        {name}_near_wide = Cast <to = {DOUBLE}> ({name}_near)
        {name}_near_part = Mul ({name}_near_wide, near_weight_column)
        {name}_far = Gather <axis = 2> ({name}_pixels, far_column)
        {name}_far_wide = Cast <to = {DOUBLE}> ({name}_far)
        {name}_far_part = Mul ({name}_far_wide, far_weight_column)
        {name}_sum = Add ({name}_near_part, {name}_far_part)
        {name}_cut = Div ({name}_sum, two_to_4_{name})
        {name} = Floor ({name}_cut)
    """
    return Piece(steps, {f"two_to_4_{name}": np.array(16.0)})
