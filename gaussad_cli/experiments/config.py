"""Experiment files (`configs/*.yaml`): which tables of the paper to render, and the steps that produce them.

A step's keys may stand at the top of the file: they hold for all of its `steps`, or are its only step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, Field, StrictBool

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import scorings
from gaussad_cli.settings import convert, read_yaml, unknown_key
from gaussad_cli.tables.known import NUMBERS

T = TypeVar("T")

PAPER: Final = "paper"  # the scores of Tables I and III: L2, SED, and Mahalanobis with every compression
SCORES = (PAPER, *scorings.SCORES)
OF_PLACES = tuple(name for name, score in scorings.SCORES.items() if score.of_maps is not None)
if TYPE_CHECKING:
    Score = str
else:
    Score = Literal[SCORES]


def _as_typed(value: object) -> object:
    """Write a list as it is typed on the command line: [1, 2] as "1,2"."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _given(value: T | None) -> T:
    if value in (None, ""):
        raise ValueError("it should not be empty")
    return value


_Name = Annotated[str, Field(min_length=1)]
_Levels = Annotated[_Name, Field(coerce_numbers_to_str=True), BeforeValidator(_as_typed)]
_Number = Annotated[int, Field(strict=True, ge=0)]
_TableNumber = Annotated[int, Field(strict=True, ge=0), BeforeValidator(lambda value: NUMBERS.get(str(value), value))]
_Several = Annotated[tuple[T, ...], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]
_Maybe = Annotated[T | None, BeforeValidator(_given)]  # None stands for a missing key, and cannot be written
_Mapping = dict[Any, object]


@dataclass(frozen=True)
class Step:
    """Extract features of some backbones and score them, or train a comparator.

    Attributes
    ----------
    backbone : names; an autoencoder needs none
    epochs : numbers of augmented epochs, 0 for the images as they are; None if the file does not say
    levels, weights, padding, moments_only, grid : options of `gaussad extract`
    score : which scores to evaluate; with a grid, "places" or none, since all others work on averaged features
    threshold : how to calibrate the Mahalanobis distance of all features
    train : which comparator to train, or "" to extract features
    fresh, size, max_epochs : options of `gaussad train`
    """

    backbone: _Several[_Name] = ()
    epochs: _Maybe[_Several[_Number]] = None
    levels: _Maybe[_Levels] = None
    weights: _Maybe[Path] = None
    padding: _Maybe[_Name] = None
    moments_only: StrictBool = False
    grid: _Number = 0
    score: _Several[Score] = (PAPER,)
    threshold: _Several[_Name] = ()
    train: Literal["classifier", "autoencoder", ""] = ""
    fresh: StrictBool = False
    size: _Number = 224
    max_epochs: _Number = 100


@dataclass(frozen=True)
class Experiment:
    """The content of one or several files.

    Attributes
    ----------
    tables : numbers of the tables to render, see :data:`gaussad_cli.tables.known.NAMES`
    steps : in the order of the files
    options : options of `gaussad run`, which hold for all steps
    """

    tables: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Overrides:
    """Options of the command line that win over the files; None or empty leaves the files' values.

    Attributes
    ----------
    backbone : a step keeps those of its backbones that are named here. If none is left, a step on features gets these
        backbones instead; comparators that need their own network (trained ones, SPADE's k-NN) are dropped
    epochs : replaces every number of epochs except 0
    weights : backbone -> file; the key "" stands for the only backbone
    """

    backbone: tuple[str, ...] = ()
    epochs: int | None = None
    levels: str | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    padding: str | None = None
    moments_only: bool = False
    depth: int | None = None
    grid: int = 0


def read_experiments(paths: Sequence[Path], options: Collection[str]) -> Experiment:
    """Read one or several files into one experiment.

    Parameters
    ----------
    options : names of the options of `gaussad run` that a file may set

    Raises
    ------
    UserError
        If a file cannot be read, has an unknown key or a wrong value, or two files contradict each other.
    """
    whole = Experiment()
    for path in paths:
        part = _read_experiment(path, options)
        for name, value in part.options.items():
            if whole.options.get(name, value) != value:
                raise UserError(f"{path}: '{name}: {value}' contradicts an earlier file: {whole.options[name]}.")
        tables = tuple(sorted({*whole.tables, *part.tables}))
        whole = Experiment(tables, (*whole.steps, *part.steps), {**whole.options, **part.options})
    return whole


def override(steps: Sequence[Step], by: Overrides) -> list[Step]:
    """Let the command line win over the files; steps that become equal are kept once.

    Raises
    ------
    UserError
        If weights are given for a backbone that no step has, or without a name although there are several backbones, or
        a step with a grid has scores, or trains.
    """
    kept = [step for written in steps if (step := _override(written, by)) is not None]
    backbones = {name for step in kept for name in step.backbone}
    if "" in by.weights and len(backbones) > 1:
        raise UserError(
            "--weights FILE belongs to one backbone: with several backbones, write --weights NAME=FILE for each."
        )
    for name in by.weights:
        if name and name not in backbones:
            raise UserError(f"--weights {name}=...: no step has this backbone, only {', '.join(sorted(backbones))}.")
    for step in kept:
        _check_grid(step)
    return list(dict.fromkeys(kept))


def _check_grid(step: Step) -> None:
    """Check that a step's scores and its features belong together."""
    averaged = [score for score in step.score if score not in OF_PLACES]
    if step.grid and (step.train or averaged or step.threshold):
        what = f"train: {step.train}" if step.train else f"score: {', '.join(averaged) or 'threshold'}"
        raise UserError(
            f"a grid of {step.grid} keeps the features of places, and '{what}' works on averaged ones: leave the grid "
            "out, or write 'score: []' in the step, which then only extracts, or 'score: places'."
        )
    if not step.grid and len(averaged) < len(step.score):
        raise UserError("'score: places' needs features of places: write 'grid: 28' in the step.")


def _override(step: Step, by: Overrides) -> Step | None:
    backbones = step.backbone
    if by.backbone:
        backbones = tuple(name for name in backbones if name in by.backbone)
        if not backbones and (step.train or step.score == ("knn",)):
            return None
        backbones = backbones or by.backbone
    given = (0,) if step.epochs is None else step.epochs
    epochs = given
    if by.epochs is not None:
        epochs = (0, by.epochs) if step.epochs is None else tuple(by.epochs if n else 0 for n in given)
    return replace(
        step,
        backbone=backbones,
        epochs=tuple(dict.fromkeys(epochs)),
        levels=by.levels or step.levels,
        padding=by.padding or step.padding,
        moments_only=by.moments_only or step.moments_only,
        grid=by.grid or step.grid,
    )


def weights_of(step: Step, backbone: str, by: Overrides) -> Path | None:
    """Return the weight file of a backbone; None for the published weights."""
    return by.weights.get(backbone) or by.weights.get("") or step.weights


def _read_experiment(path: Path, options: Collection[str]) -> Experiment:
    content = _hyphenated(convert(read_yaml(path), _Mapping, path))
    of_steps = [option.name.replace("_", "-") for option in fields(Step)]
    known = ["table", "steps", *of_steps, *options]
    for key in content:
        if key not in known:
            raise unknown_key(str(path), key, known)
    common = {key: content.pop(key) for key in of_steps if key in content}
    tables = convert({"table": content.pop("table", [])}, dict[str, _Several[_TableNumber]], path)["table"]
    written = convert({"steps": content.pop("steps", [{}] if common else [])}, dict[str, list[_Mapping]], path)["steps"]
    steps = convert([{**common, **_hyphenated(step)} for step in written], list[Step], path)
    options_of_run = {key: _as_typed(value) for key, value in content.items()}
    return Experiment(tables, tuple(_checked(path, step) for step in steps), options_of_run)


def _hyphenated(content: _Mapping) -> dict[str, object]:
    return {str(key).replace("_", "-"): value for key, value in content.items()}


def _checked(path: Path, step: Step) -> Step:
    if not step.backbone and step.train != "autoencoder":
        raise UserError(f"{path}: a step needs a backbone, such as 'backbone: [efficientnet-b4]'.")
    if step.weights is None:
        return step
    if len(step.backbone) > 1:
        raise UserError(f"{path}: 'weights' names the file of a single backbone: write a step for each backbone.")
    return replace(step, weights=path.parent / step.weights)  # wherever the command is called from
