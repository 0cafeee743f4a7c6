"""Turns steps into stages: features that several tables need are extracted and evaluated once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.backbones.resolve import NetworkOptions
from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.experiments.config import PAPER, SCORES, Overrides, Step, weights_of

_SHOWN = 3  # number of backbones in a stage's name


@dataclass(frozen=True)
class ExtractionStage:
    """Networks that share one reading of the files.

    Attributes
    ----------
    networks : the networks; they differ only in their backbones
    epochs : numbers of augmented epochs, ascending; 0 for the original images
    moments_only : as in `gaussad extract`
    """

    networks: tuple[NetworkOptions, ...]
    epochs: tuple[int, ...]
    moments_only: bool

    def __str__(self) -> str:
        names = [network.backbone for network in self.networks]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        grid = self.networks[0].grid
        return f"extract {', '.join(names[:_SHOWN])}{more}{f', {grid} x {grid} places' if grid else ''}"


@dataclass(frozen=True)
class EvaluationStage:
    """Scores on the features of one network and number of epochs.

    Attributes
    ----------
    network : the network of the extraction
    levels : the levels to evaluate; None for all that were extracted
    scores : some of `config.SCORES`
    thresholds : calibration methods for the Mahalanobis distance without compression
    """

    network: NetworkOptions
    levels: str | None
    epochs: int
    scores: tuple[str, ...]
    thresholds: tuple[str, ...]

    def __str__(self) -> str:
        augmented = f", {self.epochs} epochs" if self.epochs else ""
        levels = f", levels {self.levels}" if self.levels else ""
        return f"evaluate {self.network.backbone}{levels}{augmented}: {', '.join(self.scores)}"


@dataclass(frozen=True)
class TrainingStage:
    """A comparator that is trained on images."""

    kind: str
    network: NetworkOptions
    fresh: bool
    size: int
    max_epochs: int

    def __str__(self) -> str:
        what = self.network.backbone if self.kind == "classifier" else f"{self.size} px"
        return f"train {self.kind}, {what}"


Stage = ExtractionStage | EvaluationStage | TrainingStage


def plan_stages(steps: Sequence[Step], overrides: Overrides, verify: bool = True) -> list[Stage]:
    """Return the stages of the steps, each once: extractions and their evaluations first, trainings last.

    Parameters
    ----------
    steps : as :func:`gaussad_cli.experiments.config.override` returns them
    verify : whether the hashes of published weight files are checked

    Raises
    ------
    UserError
        If --depth is given for a comparator that is trained on images.
    """
    if overrides.depth is not None and any(step.train for step in steps):
        raise UserError("--depth works for features only, not for the comparators that are trained on images.")
    trainings = [stage for step in steps if step.train for stage in _trainings(step, overrides, verify)]
    by_network: dict[_Variant, list[Step]] = {}
    for step in steps:
        for backbone in () if step.train else step.backbone:
            variant = backbone, weights_of(step, backbone, overrides), step.padding, step.grid
            by_network.setdefault(variant, []).append(step)
    # Networks that differ only in their backbones share one reading of the files.
    together: dict[tuple[object, ...], list[tuple[NetworkOptions, list[Step]]]] = {}
    for (backbone, weights, padding, grid), of_network in by_network.items():
        levels = _union(step.levels for step in of_network)
        network = NetworkOptions(backbone, levels, weights, padding, verify, overrides.depth, grid)
        alike = weights, padding, grid, network.levels, _epochs(of_network), _moments_only(of_network)
        together.setdefault(alike, []).append((network, of_network))
    stages: list[Stage] = []
    for group in together.values():
        networks, (_, of_first) = tuple(network for network, _ in group), group[0]
        stages.append(ExtractionStage(networks, _epochs(of_first), _moments_only(of_first)))
        stages += [stage for network, of_network in group for stage in _evaluations(of_network, network)]
    return [*stages, *dict.fromkeys(trainings)]


_Variant = tuple[str, Path | None, str | None, int]  # backbone, weights, padding, grid


def _epochs(steps: Sequence[Step]) -> tuple[int, ...]:
    return tuple(sorted({count for step in steps for count in step.epochs or (0,)}))


def _moments_only(steps: Sequence[Step]) -> bool:
    return all(step.moments_only for step in steps)


def _union(levels: Iterable[str | None]) -> str | None:
    """Return the union of levels; None stands for all levels of a backbone."""
    distinct = list(dict.fromkeys(levels))
    return None if None in distinct else ",".join(map(str, distinct))


def _evaluations(steps: Sequence[Step], network: NetworkOptions) -> list[EvaluationStage]:
    """Combine the scores that steps ask for at the same levels and epochs of a network."""
    by_features: dict[tuple[str | None, int], list[Step]] = {}
    for step in steps:
        for epochs in (step.epochs or (0,)) if step.score else ():
            by_features.setdefault((step.levels, epochs), []).append(step)
    return [
        EvaluationStage(
            network,
            levels,
            epochs,
            tuple(sorted({name for step in alike for name in step.score}, key=SCORES.index)),
            tuple(dict.fromkeys(name for step in alike for name in step.threshold)),
        )
        for (levels, epochs), alike in by_features.items()
    ]


def _trainings(step: Step, overrides: Overrides, verify: bool) -> list[TrainingStage]:
    stages = []
    for backbone in step.backbone or ("resnet-18",):
        network = NetworkOptions(backbone, None, weights_of(step, backbone, overrides), step.padding, verify)
        stages.append(TrainingStage(step.train, network, step.fresh, step.size, step.max_epochs))
    return stages


def one_step(overrides: Overrides, score: str | None = None) -> Step:
    """Return the step of a run without an experiment file: by default the paper's scores, with thresholds.

    With a grid, nothing is scored by default.

    Raises
    ------
    UserError
        If there is no such score.
    """
    if score is not None and score not in SCORES:
        raise UserError(f"unknown score '{score}'.{did_you_mean(score, SCORES)} Known: {', '.join(SCORES)}.")
    if score is not None or overrides.grid:
        return Step(overrides.backbone, score=() if score is None else (score,))
    return Step(overrides.backbone, score=(PAPER,), threshold=("all",))
