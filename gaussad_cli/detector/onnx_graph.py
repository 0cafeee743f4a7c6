"""A model and its network as one ONNX graph: image in, score and decision out.

Inside are the normalisation, the network with its batch norm folded, the Gaussians (of levels in float64; of places as
`onnx_places` says), and, in float64, the score, the threshold and the calibration. Decoding stays outside, and so does
the resize to the network's square unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.onnx.operators import shape_as_tensor

from gaussad_cli import __version__
from gaussad_cli.backbones.folding import fold_batch_norm
from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.detector.model import LevelModel, Model
from gaussad_cli.detector.onnx_places import PlaceMaps
from gaussad_cli.detector.places import PlacesModel
from gaussad_cli.extraction.engine import usable_cores
from gaussad_cli.extraction.onnx_export import export_module
from gaussad_cli.gaussian.distances import shrunk_inverse

Input = Literal["nhwc-uint8", "nchw-float"]
INPUTS: tuple[Input, ...] = get_args(Input)
OUTPUTS = ("score", "decision", "p_value")  # then "level_scores", or "map"
TOLERANCE = 1e-4  # relative, between scores that should be the same
_ONE = 2048.0  # a weight of 1 in OpenCV's resize: INTER_RESIZE_COEF_SCALE


class LevelDistance(nn.Module):
    """The Mahalanobis distance of one level: (N, D) float32 -> (N,) float64."""

    mean: Tensor
    mean_remainder: Tensor
    vectors: Tensor
    inside: Tensor

    def __init__(self, level: LevelModel) -> None:
        super().__init__()
        inverse = shrunk_inverse(level.spectrum, level.shrinkage)
        self.register_buffer("mean", torch.tensor(level.spectrum.mean))
        self.register_buffer("mean_remainder", torch.tensor(level.spectrum.mean_remainder))
        self.register_buffer("vectors", torch.tensor(inverse.vectors))
        self.register_buffer("inside", torch.tensor(inverse.inside))
        self.outside = inverse.outside

    def forward(self, features: Tensor) -> Tensor:
        """Return the distances that :func:`gaussad_cli.gaussian.distances.mahalanobis` gives, by the same steps."""
        deviations = features.double() - self.mean - self.mean_remainder
        components = deviations @ self.vectors
        squared = components.square() @ self.inside
        if self.outside:  # addmm, whose transposed factor ONNX's Gemm reads from the same stored matrix
            residual = torch.addmm(deviations, components, self.vectors.t(), alpha=-1)
            squared = squared + residual.square().sum(1) * self.outside
        return squared.sqrt()


class PooledScore(nn.Module):
    """The score of a pooled model: features (N, D_level) of every level -> (N,) and (N, levels), both float64."""

    def __init__(self, levels: Sequence[LevelModel]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(map(LevelDistance, levels))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean over levels of their distances, and the distances."""
        distances = torch.stack([level(values) for level, values in zip(self.levels, features, strict=True)], 1)
        return distances.mean(1), distances


class PlacesScore(nn.Module):
    """The score of a model of places: features (N, P * D_level) of every level -> (N,) float64, (N, g, g) float32."""

    def __init__(self, places: PlacesModel) -> None:
        super().__init__()
        self.maps, self.scale = PlaceMaps(places.gaussians, places.sigma), places.scale

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the scores of :class:`gaussad_cli.gaussian.places.MapScale`, and the heat maps."""
        maps = self.maps(features)
        distances = maps.flatten(1)
        of_whole = self.scale.greatest[0] + self.scale.weight * (distances.mean(1) - self.scale.whole[0])
        return torch.maximum(distances.amax(1), of_whole), maps.float()


class Detector(nn.Module):
    """Maps images to score, decision, p-value, and distances per level or heat maps."""

    held_out: Tensor

    def __init__(self, model: Model, network: LevelNetwork, backbone: Backbone, rule: Input, resize: bool) -> None:
        super().__init__()
        self.network, self.backbone, self.rule, self.resize = network, backbone, rule, resize
        self.outputs = (*OUTPUTS, "map" if model.places else "level_scores")
        self.score = PlacesScore(model.places) if model.places else PooledScore(model.levels)
        self.threshold = float(model.calibration.threshold)
        self.register_buffer("held_out", torch.tensor(model.calibration.distances))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return (N,) float64, (N,) bool, (N,) float64, and (N, levels) float64 or (N, g, g) float32."""
        score, details = self.score(self.network(self._normalised(images)))
        beyond = (self.held_out >= score[:, None]).sum(1)
        p_value = (beyond + 1).double() / (len(self.held_out) + 1)
        return score, score > self.threshold, p_value, details

    def _normalised(self, images: Tensor) -> Tensor:
        if self.rule == "nchw-float":
            images = images.permute(0, 2, 3, 1) * 255
        if self.resize:
            images = resize_like_opencv(
                images.round() if self.rule == "nchw-float" else images, self.backbone.input_size
            )
        return normalise(images, self.backbone)


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
        options.log_severity_level = 3  # errors
        return onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])

    def feed(self, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Turn (H, W, 3) uint8 RGB into the file's input, a batch of one."""
        if self.rule == "nhwc-uint8":
            return {"image": image[None]}
        return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)}


def build_graph(model: Model, network: LevelNetwork, backbone: Backbone, rule: Input, resize: bool) -> Graph:
    """Export a model and its network, whose batch norm is folded in place.

    Raises
    ------
    UserError
        If torch cannot export the network.
    """
    if backbone.family != "timm":
        fold_batch_norm(network)
    detector = Detector(model, network, backbone, rule, resize).eval()
    graph = _build(detector, model, batched=True)
    return graph if _runs_batched(graph) else _build(detector, model, batched=False)


def _build(detector: Detector, model: Model, batched: bool) -> Graph:
    graph = Graph(_trace(detector, batched), detector.rule, detector.backbone.input_size, detector.resize, batched)
    return replace(graph, content=_with_metadata(graph.content, describe_graph(model, graph.describe_input())))


def _trace(detector: Detector, batched: bool) -> bytes:
    size = detector.backbone.input_size
    nhwc = detector.rule == "nhwc-uint8"
    image = torch.zeros(1, size, size, 3, dtype=torch.uint8) if nhwc else torch.zeros(1, 3, size, size)
    batch = {0: "batch"} if batched else {}
    sides = dict(zip((1, 2) if nhwc else (2, 3), ("height", "width"), strict=True)) if detector.resize else {}
    axes = {"image": batch | sides} | dict.fromkeys(detector.outputs, batch)
    # Folded, packed factors would be in the file as they are in memory.
    return export_module(detector, image, detector.outputs, detector.backbone.name, axes, fold_constants=False)


def _with_metadata(content: bytes, description: dict[str, str]) -> bytes:
    """Write the description into the file, and run ONNX's own checker on it."""
    graph = onnx.load_from_string(content)
    graph.producer_name, graph.producer_version = "gaussad", __version__
    onnx.helper.set_model_props(graph, description)
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()


def _runs_batched(graph: Graph) -> bool:
    """Return whether two images together score as each alone: a trace may have fixed the batch to its one image."""
    pair = noise(2, graph.size, graph.size)
    try:
        session = graph.session(usable_cores())
        alone = [session.run(["score"], graph.feed(image))[0] for image in pair]
        together = session.run(["score"], {"image": np.concatenate([graph.feed(image)["image"] for image in pair])})[0]
    except Exception:  # ONNX Runtime's exceptions have no type in common
        return False
    return bool(np.allclose(together, np.concatenate(alone), rtol=TOLERANCE, atol=0))


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


def resize_like_opencv(images: Tensor, size: int) -> Tensor:
    """Resize images (N, H, W, 3) straight to the square, as OpenCV does to the bit; (N, size, size, 3) float64.

    OpenCV weighs pixels by multiples of 1/2048 and cuts bits off on the way, while ONNX's Resize weighs in floating
    point. The results differ by a gray level now and then, and the scores by up to 2 %. Here every step is OpenCV's
    (``resize.cpp``, INTER_LINEAR on uint8), in float64, which holds all of its integers exactly, and in operations that
    ONNX has.

    Parameters
    ----------
    images : uint8, or another type that holds whole numbers from 0 to 255
    """
    shape = shape_as_tensor(images)  # traced, so that the exported graph takes any height and width
    top, bottom, upper, lower = _taps(shape[1:2], size, clamp=False)
    left, right, before, after = _taps(shape[2:3], size, clamp=True)
    rows = (
        (images[:, at][:, :, left].double() * before + images[:, at][:, :, right].double() * after)
        for at in (top, bottom)
    )
    above, below = ((row / 16).floor() for row in rows)
    upper, lower = (weight.reshape(-1, 1, 1) for weight in (upper[:, 0], lower[:, 0]))
    total = (upper * above / 65536).floor() + (lower * below / 65536).floor()
    return ((total + 2) / 4).floor()


def _taps(length: Tensor, size: int, clamp: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the two pixels that each target pixel lies between, (size,), and their weights, (size, 1) float64.

    Parameters
    ----------
    length : (1,), pixels of the side. If it were a scalar, the exporter would compute with it in float32
    clamp : whether a target beyond the outermost pixel's centre has that pixel's whole weight, as OpenCV has it along
        rows; along columns it weighs the same pixel twice, which rounds otherwise
    """
    places = ((torch.arange(size, dtype=torch.float64) + 0.5) * (length.double() / size) - 0.5).float()
    first = places.floor()
    share = places - first
    if clamp:
        inside = (first >= 0) & (first < length - 1)
        share = torch.where(inside, share, torch.zeros_like(share))
    last = length - 1
    near, far = (torch.minimum(at.long().clamp(min=0), last) for at in (first, first + 1))
    near_weight, far_weight = ((part * _ONE).round().double().reshape(-1, 1) for part in (1.0 - share, share))
    return near, far, near_weight, far_weight
