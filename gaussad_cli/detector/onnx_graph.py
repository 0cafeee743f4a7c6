"""A model and its network as one ONNX graph: image in, score and decision out.

Inside are the network's graph, with its normalisation, the Gaussians (of levels in float64; of places as `onnx_places`
says), and, in float64, the score, the threshold and the calibration. Decoding stays outside, and so does the resize to
the network's square unless it is asked for. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
import onnx
import onnx.compose
import onnxruntime
from numpy.typing import NDArray
from onnx.helper import make_tensor_value_info

from gaussad_cli import __version__
from gaussad_cli.detector.model import Model
from gaussad_cli.detector.onnx_pieces import NETWORK, Piece, join
from gaussad_cli.detector.onnx_resize import resize_like_opencv
from gaussad_cli.detector.onnx_score import decide, score
from gaussad_cli.detector.places import PlacesModel
from gaussad_cli.extraction.onnx_engine import open_session

Input = Literal["nhwc-uint8", "nchw-float"]
INPUTS: tuple[Input, ...] = get_args(Input)
TOLERANCE = 1e-4  # relative, between scores that should be the same


@dataclass(frozen=True)
class Graph:
    """An exported model.

    Attributes
    ----------
    content : the ONNX file
    rule : the layout and type of the images that it takes
    size : pixels of the network's square
    resize : whether it takes images of any height and width, and resizes them itself
    batched : whether it takes any number of images at a time, or one
    """

    content: bytes
    rule: Input
    size: int
    resize: bool
    batched: bool

    def describe_input(self) -> str:
        """Describe the input in one line."""
        n = "N" if self.batched else "1"
        height, width = ("H", "W") if self.resize else (self.size, self.size)
        if self.rule == "nhwc-uint8":
            layout = f"({n}, {height}, {width}, 3) uint8 RGB"
        else:
            layout = f"({n}, 3, {height}, {width}) float32 RGB in [0, 1]"
        when = "resized inside" if self.resize else "resize before"
        return f"{layout}; {when}, straight to {self.size} x {self.size}, as OpenCV does it (INTER_LINEAR on uint8)"

    def session(self, threads: int) -> onnxruntime.InferenceSession:
        """Open it in ONNX Runtime, on the CPU."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return open_session(self.content, options)

    def feed(self, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Turn (H, W, 3) uint8 RGB into the file's input, a batch of one."""
        if self.rule == "nhwc-uint8":
            return {"image": image[None]}
        return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)}


def build_graph(model: Model, network: bytes, rule: Input, resize: bool) -> Graph:
    """Put a model and its network into one ONNX graph.

    Parameters
    ----------
    network : ONNX, as :func:`gaussad_cli.extraction.onnx_export.export_network` makes it
    """
    onnx_model = onnx.compose.add_prefix(onnx.load_from_string(network), NETWORK, inplace=True)
    batched = not onnx_model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")
    graph = Graph(b"", rule, model.backbone.input_size, resize, batched)
    before, after = _before(graph), join(score(model), decide(model.calibration))
    onnx_model.graph.CopyFrom(
        onnx.helper.make_graph(
            [*before.nodes, *onnx_model.graph.node, *after.nodes],
            "detector",
            [_input(graph)],
            _outputs(model, batched),
            [*before.initializers, *onnx_model.graph.initializer, *after.initializers],
        )
    )
    return replace(graph, content=_finished(onnx_model, describe_graph(model, graph.describe_input())))


def _input(graph: Graph) -> onnx.ValueInfoProto:
    batch = "batch" if graph.batched else 1
    height, width = ("height", "width") if graph.resize else (graph.size, graph.size)
    if graph.rule == "nhwc-uint8":
        return make_tensor_value_info("image", onnx.TensorProto.UINT8, [batch, height, width, 3])
    return make_tensor_value_info("image", onnx.TensorProto.FLOAT, [batch, 3, height, width])


def _outputs(model: Model, batched: bool) -> list[onnx.ValueInfoProto]:
    batch = "batch" if batched else 1
    kinds = {"score": onnx.TensorProto.DOUBLE, "decision": onnx.TensorProto.BOOL, "p_value": onnx.TensorProto.DOUBLE}
    outputs = [make_tensor_value_info(name, kind, [batch]) for name, kind in kinds.items()]
    if model.places:
        grid = model.places.grid
        return [*outputs, make_tensor_value_info("map", onnx.TensorProto.FLOAT, [batch, grid, grid])]
    return [*outputs, make_tensor_value_info("level_scores", onnx.TensorProto.DOUBLE, [batch, len(model.levels)])]


def _before(graph: Graph) -> Piece:
    """Give the network its input from `image`.

    The network turns its input into float32 first, so floats that are no whole numbers go in as they are.
    """
    if graph.rule == "nhwc-uint8":
        pixels = Piece("pixels = Identity (image)", {})
    else:
        steps = "channels_last = Transpose <perm = [0, 2, 3, 1]> (image)\nexact = Mul (channels_last, white)"
        operator = "Round" if graph.resize else "Identity"
        pixels = Piece(f"{steps}\npixels = {operator} (exact)", {"white": np.array(255, np.float32)})
    if not graph.resize:
        return join(pixels, Piece(f"{NETWORK}image = Identity (pixels)", {}))
    return join(pixels, resize_like_opencv(graph.size), Piece(f"{NETWORK}image = Identity (square)", {}))


def _finished(model: onnx.ModelProto, description: dict[str, str]) -> bytes:
    """Write the description into the file, and run ONNX's own checker on it."""
    model.producer_name, model.producer_version = "gaussad", __version__
    onnx.helper.set_model_props(model, description)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def noise(n: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return smooth random images (n, height, width, 3), the same ones every time."""
    coarse = np.random.default_rng(0).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    images = [cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in coarse]
    return np.stack(images).astype(np.uint8)


def describe_graph(model: Model, graph_input: str) -> dict[str, str]:
    """Return the metadata of the ONNX file."""
    identity = model.backbone
    return {
        "gaussad_version": __version__,
        "backbone": identity.name,
        "weights": identity.weights,
        "weights_sha256": identity.weights_sha256,
        "padding": identity.padding,
        "preprocessing": identity.preprocessing,
        "levels": ",".join(map(str, model.level_numbers)),
        "threshold": repr(float(model.calibration.threshold)),
        "fpr": repr(float(model.calibration.fpr)),
        "input": graph_input,
        "decision": "score > threshold",
        "p_value": "(1 + held-out normal images at least as far) / (1 + held-out normal images)",
        **(_of_places(model.places) if model.places else _OF_LEVELS),
    }


_OF_LEVELS = {
    "score": "mean over levels of the Mahalanobis distance",
    "level_scores": "Mahalanobis distance of each level",
}


def _of_places(places: PlacesModel) -> dict[str, str]:
    return {
        "score": "greatest value of the map, or how far the whole image is on that scale, if that is greater",
        "map": f"Mahalanobis distance at {places.grid} x {places.grid} places, smoothed by a Gaussian of "
        f"{places.sigma:g} places",
        "typical": repr(float(places.typical)),
    }
