"""Where an image deviates by a model of places, and which levels say so: `gaussad explain`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gaussad_cli.detector.attribution import level_shares
from gaussad_cli.detector.explain import Decided
from gaussad_cli.detector.heatmaps import Deviation, Pixels, Scale, locate
from gaussad_cli.detector.look import open_network_of
from gaussad_cli.detector.model import Model
from gaussad_cli.detector.places import PlacesModel
from gaussad_cli.extraction.decode import as_rgb, read_image
from gaussad_cli.extraction.engine import AUTO, Engine
from gaussad_cli.extraction.remarks import Remarks
from gaussad_cli.extraction.store import depth_of
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.places import join_levels


@dataclass(frozen=True)
class PlacesExplanation(Decided):
    """Where one image deviates.

    Attributes
    ----------
    pixels : (H, W, 3) uint8 RGB, the image at its own size
    distances : (g, g), its heat map
    whole : how far it is as a whole, on the scale of the greatest distance; the score is the greater of the two
    scale : of the heat map's colours
    deviation : where the greatest distance is
    shares : level -> share of the squared distance at the greatest place, before smoothing; see `level_shares`
    held_out : (k,) scores of normal images that the model was calibrated on, ascending
    """

    pixels: Pixels
    distances: Array
    whole: float
    scale: Scale
    deviation: Deviation
    shares: dict[int, float]
    held_out: Array = field(repr=False)

    @property
    def deviates_as_a_whole(self) -> bool:
        """Whether the score is that of the whole image, not of its greatest place."""
        return self.whole > float(self.distances.max())

    def row(self) -> dict[str, Any]:
        """Return the numbers, JSON-able."""
        return {
            **self.decision_row(),
            "place": [self.deviation.x, self.deviation.y],
            "box": list(self.deviation.box) if self.deviation.box else None,
            "greatest": float(self.distances.max()),
            "whole": self.whole,
            "levels": [{"level": level, "share": share} for level, share in self.shares.items()],
        }

    def table(self) -> str:
        """Return the numbers as text."""
        lines = [self.headline, f"  {_describe(self.deviation)}"]
        if self.deviates_as_a_whole:
            lines.append("  the image deviates as a whole, by more than at any place")
        lines += ["  levels' shares of the squared distance there:"]
        lines += [f"    level {level}  {100 * share:5.1f} %" for level, share in self.shares.items()]
        return "\n".join(lines)


def _describe(deviation: Deviation) -> str:
    text = f"greatest deviation at x {deviation.x}, y {deviation.y}"
    if deviation.box is None:
        return f"{text}; nothing is beyond the threshold"
    left, top, right, bottom = deviation.box
    return f"{text}; beyond the threshold around it: x {left} to {right - 1}, y {top} to {bottom - 1}"


@dataclass(frozen=True)
class PlacesExplainer:
    """A model of places and the engine that runs its network."""

    model: Model
    places: PlacesModel
    engine: Engine
    remarks: Remarks = field(default_factory=Remarks)

    def read(self, path: Path) -> Pixels:
        """Read an image at its own size, (H, W, 3) uint8 RGB.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        depth = depth_of(self.model.backbone.preprocessing)
        pixels, squares = read_image(path, [], depth)
        self.remarks.tell([path], [squares])
        return as_rgb(pixels)

    def features(self, pixels: Pixels) -> dict[int, NDArray[np.float32]]:
        """Return the features of one image, level -> (1, P * D_level)."""
        size = self.model.backbone.input_size
        square = np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        return self.engine.run(square[None])

    def explain(self, pixels: Pixels, name: str) -> PlacesExplanation:
        """Explain the score of one image."""
        features, calibration = self.features(pixels), self.model.calibration
        distances = self.places.heat_maps(features)[0]
        whole = float(self.places.scale.of_whole(distances.mean()))
        joined = join_levels(features, distances.size)[0]
        greatest, threshold = int(distances.argmax()), float(calibration.threshold)
        score = max(float(distances.max()), whole)
        return PlacesExplanation(
            name=name,
            score=score,
            threshold=threshold,
            p_value=float(calibration.p_values(np.array([score]))[0]),
            pixels=pixels,
            distances=distances,
            whole=whole,
            scale=Scale(self.places.typical, threshold),
            deviation=locate(distances, threshold, pixels.shape[:2]),
            shares=level_shares(self.places.gaussians, joined, greatest, self.places.dims),
            held_out=calibration.distances,
        )


def open_places_explainer(
    model: Model, places: PlacesModel, weights: Path | None, cache: Path, say: Callable[[str], object]
) -> PlacesExplainer:
    """Prepare a model of places and its network for explanations.

    Parameters
    ----------
    weights, cache, say : see :func:`gaussad_cli.detector.look.open_network_of`

    Raises
    ------
    UserError
        If the weights are not the model's.
    """
    return PlacesExplainer(model, places, open_network_of(model, weights, AUTO, cache, say).engine)
