"""From steps to stages: what several tables need of the same features is extracted and evaluated once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.experiments.config import PAPER, SCORES, Overrides, Step, weights_of

_SHOWN = 3  # backbones named in a stage's name


@dataclass(frozen=True)
class Source:
    """What is the same for features that one command extracts."""

    weights: Path | None
    padding: str | None
    levels: str | None
    epochs: tuple[int, ...]
    moments_only: bool


@dataclass(frozen=True)
class Extraction:
    """A stage: backbones that read the files together."""

    backbones: tuple[str, ...]
    source: Source

    def __str__(self) -> str:
        more = f" and {len(self.backbones) - _SHOWN} more" if len(self.backbones) > _SHOWN else ""
        return f"extract {', '.join(self.backbones[:_SHOWN])}{more}"


@dataclass(frozen=True)
class Evaluation:
    """A stage: scores on the features of one backbone and number of epochs.

    Attributes
    ----------
    scores : of `config.SCORES`
    thresholds : calibration methods, for the Mahalanobis distance of all features
    """

    backbone: str
    source: Source
    levels: str | None
    epochs: int
    scores: tuple[str, ...]
    thresholds: tuple[str, ...]

    def __str__(self) -> str:
        augmented = f", {self.epochs} epochs" if self.epochs else ""
        levels = f", levels {self.levels}" if self.levels else ""
        return f"evaluate {self.backbone}{levels}{augmented}: {', '.join(self.scores)}"


@dataclass(frozen=True)
class Training:
    """A stage: a comparator that learns from images."""

    kind: str
    backbone: str
    weights: Path | None
    padding: str | None
    fresh: bool
    size: int
    max_epochs: int

    def __str__(self) -> str:
        return f"train {self.kind}" + (f", {self.backbone}" if self.kind == "classifier" else f", {self.size} px")


Stage = Extraction | Evaluation | Training


def plan_stages(steps: Sequence[Step], overrides: Overrides) -> list[Stage]:
    """Return the stages that steps come to, each once: extractions and their evaluations first, trainings last.

    Parameters
    ----------
    steps : as :func:`gaussad_cli.experiments.config.override` returns them
    """
    stages: list[Stage] = []
    for extraction in _extractions(steps, overrides):
        stages.append(extraction)
        for backbone in extraction.backbones:
            stages += _evaluations(steps, overrides, backbone, extraction.source)
    trainings = [_trainings(step, overrides) for step in steps if step.train]
    return [*stages, *dict.fromkeys(stage for several in trainings for stage in several)]


def _extractions(steps: Sequence[Step], overrides: Overrides) -> list[Extraction]:
    """Group backbones that differ in nothing else: they share one reading of the files."""
    together: dict[Source, list[str]] = {}
    for (backbone, weights, padding), of_network in _by_network(steps, overrides).items():
        epochs = sorted({count for step in of_network for count in step.epochs or (0,)})
        levels = _union(step.levels for step in of_network)
        source = Source(weights, padding, levels, tuple(epochs), all(step.moments_only for step in of_network))
        together.setdefault(source, []).append(backbone)
    return [Extraction(tuple(backbones), source) for source, backbones in together.items()]


_Network = tuple[str, Path | None, str | None]  # backbone, weights, padding


def _by_network(steps: Sequence[Step], overrides: Overrides) -> dict[_Network, list[Step]]:
    found: dict[_Network, list[Step]] = {}
    for step in steps:
        for backbone in () if step.train else step.backbone:
            found.setdefault((backbone, weights_of(step, backbone, overrides), step.padding), []).append(step)
    return found


def _union(levels: Iterable[str | None]) -> str | None:
    """Return levels that cover all; None stands for every level there is."""
    wanted = list(dict.fromkeys(levels))
    return None if None in wanted else ",".join(str(one) for one in wanted)


def _evaluations(steps: Sequence[Step], overrides: Overrides, backbone: str, source: Source) -> list[Evaluation]:
    """Put together what steps want of the same levels and epochs of a network."""
    network = (backbone, source.weights, source.padding)
    wanted: dict[tuple[str | None, int], list[Step]] = {}
    for step in _by_network(steps, overrides)[network]:
        for epochs in step.epochs or (0,):
            wanted.setdefault((step.levels, epochs), []).append(step)
    return [
        Evaluation(
            backbone,
            source,
            levels,
            epochs,
            tuple(sorted({name for step in of_both for name in step.score}, key=SCORES.index)),
            tuple(dict.fromkeys(name for step in of_both for name in step.threshold)),
        )
        for (levels, epochs), of_both in wanted.items()
    ]


def _trainings(step: Step, overrides: Overrides) -> list[Training]:
    return [
        Training(
            step.train,
            backbone,
            weights_of(step, backbone, overrides),
            step.padding,
            step.fresh,
            step.size,
            step.max_epochs,
        )
        for backbone in step.backbone or ("resnet-18",)
    ]


def one_step(overrides: Overrides) -> Step:
    """Return the step of a run that is asked for without a file: the paper's scores, with thresholds."""
    return Step(overrides.backbone, score=(PAPER,), threshold=("all",))
