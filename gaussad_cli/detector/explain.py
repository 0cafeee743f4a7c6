"""Why an image got its score: which levels, places and components it comes from. `gaussad explain`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gaussad_cli.detector.attribution import Directions, Located, direct, locate, normal_pattern, typical_distance
from gaussad_cli.detector.feature_maps import FeatureMaps, open_feature_maps
from gaussad_cli.detector.model import LevelModel, Model
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.remarks import Remarks
from gaussad_cli.extraction.store import depth_of
from gaussad_cli.files import fit_name
from gaussad_cli.gaussian.moments import Array

_LONGEST_NAME = 80
MOST_NORMAL = 20  # images that the normal pattern is averaged over, at most


@dataclass(frozen=True)
class LevelShare:
    """The distance of one level, and the root mean squared distance of the training images."""

    level: int
    distance: float
    typical: float

    @property
    def ratio(self) -> float:
        """The distance as a multiple of that of the training images."""
        return self.distance / self.typical if self.typical else float("nan")


@dataclass(frozen=True)
class Decided:
    """What a model says about one image.

    Attributes
    ----------
    name : of the image
    score, threshold, p_value : of the image, which is anomalous if the score is greater than the threshold
    """

    name: str
    score: float
    threshold: float
    p_value: float

    @property
    def anomalous(self) -> bool:
        """Whether the image is anomalous."""
        return self.score > self.threshold

    @property
    def headline(self) -> str:
        """Name (only the end if it is long), decision and score in one line."""
        name = self.name if len(self.name) <= _LONGEST_NAME else f"...{self.name[-_LONGEST_NAME:]}"
        decision = "anomalous" if self.anomalous else "normal"
        return f"{name}: {decision}, score {self.score:.2f} (threshold {self.threshold:.2f}), p = {self.p_value:.3g}"

    def row(self) -> dict[str, Any]:
        """Return the numbers, JSON-able."""
        raise NotImplementedError

    def table(self) -> str:
        """Return the numbers as text."""
        raise NotImplementedError

    def decision_row(self) -> dict[str, Any]:
        """Return the numbers of this class, JSON-able."""
        return {
            "image": self.name,
            "score": self.score,
            "threshold": self.threshold if np.isfinite(self.threshold) else None,  # JSON has no infinity
            "p_value": self.p_value,
            "anomalous": self.anomalous,
        }


@dataclass(frozen=True)
class Explanation(Decided):
    """Why one image got its score from a pooled model.

    Attributes
    ----------
    square : (size, size, 3) uint8 RGB, as the network sees it
    levels : the distance of every level
    level : the level that `located` and `directions` are about
    located, directions : the places and the components that the distance comes from
    centred : whether the normal pattern was subtracted
    """

    square: NDArray[np.uint8]
    levels: tuple[LevelShare, ...]
    level: int
    located: Located
    directions: Directions
    centred: bool

    def row(self) -> dict[str, Any]:
        """Return the numbers, JSON-able."""
        return {
            **self.decision_row(),
            "level": self.level,
            "levels": [{**asdict(share), "ratio": share.ratio} for share in self.levels],
            "groups": [asdict(group) for group in self.directions.groups],
            "components": [asdict(component) for component in self.directions.largest],
        }

    def table(self) -> str:
        """Return the numbers as text."""
        lines = [self.headline, "  level  distance  training  ratio"]
        lines += [
            f"  {share.level:5d}  {share.distance:8.2f}  {share.typical:8.2f}  {share.ratio:5.2f}"
            f"{'  <' if share.level == self.level else ''}"
            for share in self.levels
        ]
        lines += [f"  shares of level {self.level}'s squared distance:"]
        lines += [
            f"    {group.name:8s}  {group.size:5d} {'dimensions' if group.name == 'outside' else 'components'}  "
            f"{100 * group.share:5.1f} %  (training images {100 * group.expected:.1f} %)"
            for group in self.directions.groups
        ]
        lines += [
            f"    component {component.number:5d}  {100 * component.share:5.1f} %  {component.deviations:+.1f} std"
            for component in self.directions.largest
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Explainer:
    """A pooled model and its network.

    Attributes
    ----------
    feature_maps : returns the feature map (D, H, W) of every level for an image as the network sees it
    pattern : of normal images, subtracted before the maps are made; see :mod:`gaussad_cli.detector.attribution`
    """

    model: Model
    feature_maps: FeatureMaps
    pattern: Mapping[int, Array] | None = None
    remarks: Remarks = field(default_factory=Remarks)

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read an image as the network sees it, (size, size, 3) uint8 RGB."""
        size, depth = self.model.backbone.input_size, depth_of(self.model.backbone.preprocessing)
        squares = read_squares(path, [size], depth)
        self.remarks.tell([path], [squares])
        return squares.by_size[size]

    def explain(self, square: NDArray[np.uint8], name: str, level: int | None = None) -> Explanation:
        """Explain the score of one image.

        Parameters
        ----------
        level : to explain; None: the level whose distance is the greatest multiple of that of the training images
        """
        maps = self.feature_maps(square)
        pooled = {number: values.mean(axis=2).mean(axis=1) for number, values in maps.items()}
        shares = tuple(_share(level_model, pooled[level_model.level]) for level_model in self.model.levels)
        score = float(np.mean([share.distance for share in shares]))
        chosen = max(shares, key=lambda share: share.ratio).level if level is None else level
        fitted = next(level_model for level_model in self.model.levels if level_model.level == chosen)
        gaussian = fitted.spectrum, fitted.shrinkage
        calibration = self.model.calibration
        return Explanation(
            name=name,
            square=square,
            score=score,
            threshold=float(calibration.threshold),
            p_value=float(calibration.p_values(np.array([score]))[0]),
            levels=shares,
            level=chosen,
            located=locate(*gaussian, maps[chosen], self.pattern[chosen] if self.pattern else None),
            directions=direct(*gaussian, pooled[chosen]),
            centred=self.pattern is not None,
        )


def open_explainer(model: Model, weights: Path | None, normal: Sequence[Path] = ()) -> Explainer:
    """Prepare a model and its network for explanations.

    Parameters
    ----------
    weights : the backbone's weight file; None: the published one
    normal : images whose common pattern is subtracted

    Raises
    ------
    UserError
        If the weights are not the model's, or a normal image cannot be read.
    """
    explainer = Explainer(model, open_feature_maps(model, weights))
    if not normal:
        return explainer
    bar = tqdm(_some(normal), desc="normal images", unit="image", leave=False, disable=None, dynamic_ncols=True)
    pattern = normal_pattern(explainer.feature_maps(explainer.read(path)) for path in bar)
    return replace(explainer, pattern=pattern)


def check_level(model: Model, level: int | None) -> None:
    """Check that a model has a level.

    Raises
    ------
    UserError
        If it does not; the message names the levels that it has.
    """
    if level is not None and level not in model.level_numbers:
        raise UserError(f"--level {level}: the model only has level {', '.join(map(str, model.level_numbers))}.")


def picture_names(images: Sequence[Path]) -> list[str]:
    """Return a name for the picture of every image: its path below the folder they share, with -explained at the end.

    Raises
    ------
    UserError
        If there is no image.
    """
    if not images:
        raise UserError("no image to explain: give image files, or a folder that holds some.")
    try:
        folder = Path(os.path.commonpath([image.absolute().parent for image in images]))
        stems = ["-".join(image.absolute().relative_to(folder).with_suffix("").parts) for image in images]
    except ValueError:  # on several drives, on Windows
        stems = [image.stem for image in images]
    seen: Counter[str] = Counter()
    names = []
    for stem in stems:
        seen[stem] += 1
        names.append(fit_name(stem, f"-explained{'' if seen[stem] == 1 else f'-{seen[stem]}'}.png"))
    return names


def _some(paths: Sequence[Path]) -> list[Path]:
    """Return at most `MOST_NORMAL` of the images, evenly spaced."""
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), MOST_NORMAL)).round().astype(int)
    return [paths[i] for i in chosen]


def _share(level: LevelModel, pooled: NDArray[np.float32]) -> LevelShare:
    distance = float(level.score(pooled[None])[0])
    return LevelShare(level.level, distance, typical_distance(level.spectrum, level.shrinkage))
