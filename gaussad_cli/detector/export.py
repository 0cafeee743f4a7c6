"""A model as one ONNX file, which is written only if it scores as the model does: `gaussad export`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.detector.look import carried_engine, carried_network, find_network
from gaussad_cli.detector.model import Model
from gaussad_cli.detector.onnx_graph import INPUTS, TOLERANCE, Graph, Input, build_graph, noise
from gaussad_cli.detector.scores import Scores
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.decode import as_rgb, read_pixels
from gaussad_cli.extraction.engine import Engine, usable_cores
from gaussad_cli.extraction.graphs import load_graph
from gaussad_cli.extraction.store import depth_of
from gaussad_cli.files import write_whole

N_RANDOM = 3  # random images that the scores are compared on if none are given
_TIMED_RUNS, _TIMED_SECONDS = 30, 2.0  # per latency; timing ends when one of them is reached


@dataclass(frozen=True)
class Latency:
    """Median milliseconds for one image at a time, on one thread and on all threads."""

    one_thread: float
    all_threads: float
    threads: int


@dataclass(frozen=True)
class Exported:
    """An ONNX file, and what was measured on it.

    Attributes
    ----------
    path : the file
    graph : its content
    difference : the greatest relative difference between its scores and heat maps and those of the model
    images, random : the number of images that the difference was measured on, and whether they were random
    latency : of one image
    """

    path: Path
    graph: Graph
    difference: float
    images: int
    random: bool
    latency: Latency

    def __str__(self) -> str:
        latency = self.latency
        on_all = f", {latency.all_threads:.1f} ms on {latency.threads}" if latency.threads > 1 else ""
        return (
            f"{self.path}: {len(self.graph.content) / 1e6:.1f} MB\n"
            f"input: {self.graph.describe_input()}\n"
            f"latency: {latency.one_thread:.1f} ms an image on one thread{on_all}\n"
            f"greatest relative difference from the model: {self.difference:.1e} "
            f"({self.images} {'random images' if self.random else 'images'})"
        )


def find_graph(model: Model, weights: Path | None) -> bytes:
    """Return the ONNX graph of a model's network: the one that it carries, or else one that is exported for it.

    Parameters
    ----------
    weights : see :func:`gaussad_cli.detector.look.find_network`; if they are given, the network is built from them

    Raises
    ------
    UserError
        If the weights cannot be read or are other ones, or the network cannot be exported.
    """
    if network := carried_network(model, weights):
        return network
    with TemporaryDirectory() as scratch:
        return load_graph(find_network(model, weights), Path(scratch))


def export_model(model: Model, network: bytes, out: Path, rule: str, resize: bool, images: Sequence[Path]) -> Exported:
    """Write a model as an ONNX file, if its scores in ONNX Runtime are those of the model.

    Parameters
    ----------
    network : the ONNX graph of the model's network, see :func:`find_graph`
    rule : layout and type of the images that the file takes, one of `INPUTS`
    resize : whether the file takes images of any height and width, and resizes them itself
    images : to compare scores on; random ones are used if there are none

    Raises
    ------
    UserError
        If an option, the network, or an image cannot be used, the scores differ, or the file cannot be written.
    """
    known = check_exportable(model, rule)
    pixels = [_read(path, depth_of(model.backbone.preprocessing)) for path in images]
    engine = carried_engine(replace(model, network=network))
    graph = build_graph(model, network, known, resize)
    difference = _compare(graph, model, engine, pixels or _random(graph))
    write_whole(out, lambda file: file.write(graph.content))
    return Exported(out, graph, difference, len(pixels) or N_RANDOM, not pixels, measure_latency(graph))


def check_exportable(model: Model, rule: str) -> Input:
    """Check that a model can be an ONNX file with such an input, and return the input's name.

    Raises
    ------
    UserError
        If it cannot.
    """
    known = next((name for name in INPUTS if name == rule), None)
    if known is None:
        raise UserError(f"unknown --input '{rule}'. Known: {', '.join(INPUTS)}.")
    if model.backbone.precision != "fp32":
        raise UserError(
            f"the model was trained on features computed in {model.backbone.precision}, but an ONNX file computes in "
            "fp32: train it with --precision fp32 to export it."
        )
    return known


def own_scores(model: Model, engine: Engine, squares: NDArray[np.uint8]) -> Scores:
    """Return what the model makes of images (n, size, size, 3) uint8 RGB, with the features that an engine gives.

    The engine runs the network's own graph, by itself. That this graph gives the features of torch, which the model may
    have been trained with, is checked where it is made (:mod:`gaussad_cli.extraction.onnx_export`).
    """
    return model.gaussians.score(engine.run(squares))


def greatest_difference(graph: Graph, images: Sequence[NDArray[np.uint8]], expected: Scores) -> float:
    """Return the greatest relative difference between what a graph gives and the expected scores and heat maps."""
    wanted = {"score": expected.total}
    if expected.heat_maps is not None:
        wanted["map"] = expected.heat_maps
    session = graph.session(usable_cores())
    given = zip(*(session.run(list(wanted), graph.feed(image)) for image in images), strict=True)
    pairs = zip(given, wanted.values(), strict=True)
    return float(np.max([np.abs(np.concatenate(values) / own - 1.0).max() for values, own in pairs]))


def measure_latency(graph: Graph) -> Latency:
    """Time one image at a time, on one thread and on all usable cores."""
    threads = usable_cores()
    single = _median_milliseconds(graph, 1)
    return Latency(single, single if threads == 1 else _median_milliseconds(graph, threads), threads)


def _compare(graph: Graph, model: Model, engine: Engine, pixels: Sequence[NDArray[np.uint8]]) -> float:
    side = (graph.size, graph.size)
    squares = np.stack([cv2.resize(image, side, interpolation=cv2.INTER_LINEAR) for image in pixels]).astype(np.uint8)
    expected = own_scores(model, engine, squares)
    difference = greatest_difference(graph, pixels if graph.resize else list(squares), expected)
    if not difference <= TOLERANCE:  # written so that NaN is refused too
        raise UserError(
            f"the exported {model.backbone.name} does not score as the model does (relative difference "
            f"{difference:.2g}, {TOLERANCE:g} is allowed): nothing was written. Train with another backbone or "
            "other levels."
        )
    return difference


def _read(path: Path, depth: int) -> NDArray[np.uint8]:
    """Read an image at its own size, (H, W, 3) uint8 RGB."""
    return as_rgb(read_pixels(path, depth))


def _random(graph: Graph) -> list[NDArray[np.uint8]]:
    """Return random images of the graph's size, or of various sizes if it resizes them."""
    size = graph.size
    if not graph.resize:
        return list(noise(N_RANDOM, size, size))
    return [noise(1, size + 97 * i, 2 * size - 31 * i)[0] for i in range(N_RANDOM)]


def _median_milliseconds(graph: Graph, threads: int) -> float:
    session, feed = graph.session(threads), graph.feed(noise(1, graph.size, graph.size)[0])
    session.run(None, feed)  # the first run allocates memory
    seconds: list[float] = []
    while len(seconds) < _TIMED_RUNS and sum(seconds) < _TIMED_SECONDS:
        start = time.perf_counter()
        session.run(None, feed)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))
