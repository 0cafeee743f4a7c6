"""Pieces of ONNX graphs: their nodes in ONNX's textual form, and the constants that these use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

NETWORK = "network_"  # what the names of the network's values begin with

# What a Cast can turn a value into, by ONNX's numbers.
UINT8, INT64, FLOAT, DOUBLE = (int(getattr(onnx.TensorProto, name)) for name in ("UINT8", "INT64", "FLOAT", "DOUBLE"))


@dataclass(frozen=True)
class Piece:
    """Nodes of a graph. Values are joined to those of other pieces by their names, so names must not repeat.

    Attributes
    ----------
    steps : the nodes in the order in which they run, ``result = Operator <attribute = 1> (value, value)`` each. See
        https://onnx.ai/onnx/repo-docs/Syntax.html
    constants : arrays by name
    """

    steps: str
    constants: Mapping[str, NDArray[Any]]

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes."""
        return list(onnx.parser.parse_graph(f"piece () => () {{ {self.steps} }}").node)

    @property
    def initializers(self) -> list[onnx.TensorProto]:
        """The constants."""
        return [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in self.constants.items()]


def join(*pieces: Piece) -> Piece:
    """Join pieces, each of which uses values of those before it."""
    constants: dict[str, NDArray[Any]] = {}
    for piece in pieces:
        constants |= piece.constants
    return Piece("\n".join(piece.steps for piece in pieces), constants)
