"""Experiment files (`configs/*.yaml`): tables, and the steps that they need.

A file with one step may have the step's keys at the top; otherwise those are what its `steps` have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.files import read_yaml

PAPER = "paper"  # the scores of Tables I and III: L2, SED, and Mahalanobis with every compression
SCORES = (PAPER, "mahalanobis", "l2", "sed", "ocsvm", "knn", "gmm", "ood")
TRAINED = ("classifier", "autoencoder")


@dataclass(frozen=True)
class Step:
    """Features of some backbones and scores on them, or comparators to be trained.

    Attributes
    ----------
    backbone : names; of an autoencoder none
    epochs : numbers of augmented epochs, 0 for the images as they are; None where the file does not say
    levels, weights, padding, moments_only : as of `gaussad extract`
    score : of `SCORES`
    threshold : calibration methods, for the Mahalanobis distance of all features
    train : of `TRAINED`, or "" for features
    fresh, size, max_epochs : as of `gaussad train`
    """

    backbone: tuple[str, ...] = ()
    epochs: tuple[int, ...] | None = None
    levels: str | None = None
    weights: Path | None = None
    padding: str | None = None
    moments_only: bool = False
    score: tuple[str, ...] = (PAPER,)
    threshold: tuple[str, ...] = ()
    train: str = ""
    fresh: bool = False
    size: int = 224
    max_epochs: int = 100


@dataclass(frozen=True)
class Experiment:
    """What one or several files ask for.

    Attributes
    ----------
    tables : numbers of the paper's, to be rendered
    steps : in order
    options : of `gaussad run`, that are about all steps
    """

    tables: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Overrides:
    """What the command line says of steps; None, or empty: nothing.

    Attributes
    ----------
    backbone : keeps the steps' backbones that are among these. A step on features that has none of them gets these
        instead; comparators that are bound to a network (trained ones, SPADE's k-NN) are left out
    epochs : replaces every number of epochs but 0
    weights : backbone -> file; "" for the only one
    """

    backbone: tuple[str, ...] = ()
    epochs: int | None = None
    levels: str | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    padding: str | None = None
    moments_only: bool = False


def read_experiments(paths: Sequence[Path], options: Collection[str]) -> Experiment:
    """Read one or several files.

    Parameters
    ----------
    options : names of the options of `gaussad run` that a file may have besides the steps' keys

    Raises
    ------
    UserError
        If a file cannot be read, is not of this form, has an unknown key, or two files contradict each other.
    """
    experiment = Experiment()
    for path in paths:
        one = _read_experiment(path, options)
        for name, value in one.options.items():
            if experiment.options.get(name, value) != value:
                raise UserError(f"{path}: '{name}: {value}' contradicts a file before, which has another.")
        tables = tuple(sorted({*experiment.tables, *one.tables}))
        experiment = Experiment(tables, (*experiment.steps, *one.steps), {**experiment.options, **one.options})
    return experiment


def override(steps: Sequence[Step], by: Overrides) -> list[Step]:
    """Let the command line win over the files; steps that are the same then come once.

    Raises
    ------
    UserError
        If weights are given for a backbone that no step has, or without a name where there are several.
    """
    kept = [step for one in steps if (step := _override(one, by)) is not None]
    backbones = {name for step in kept for name in step.backbone}
    if "" in by.weights and len(backbones) > 1:
        raise UserError("--weights FILE is one backbone's: with several, say --weights NAME=FILE for each.")
    for name in by.weights:
        if name and name not in backbones:
            raise UserError(f"--weights {name}=...: no step has this backbone. There are: {_names(sorted(backbones))}.")
    return list(dict.fromkeys(kept))


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
    )


def weights_of(step: Step, backbone: str, by: Overrides) -> Path | None:
    """Return the weight file of a backbone, if one is named."""
    return by.weights.get(backbone) or by.weights.get("") or step.weights


def _read_experiment(path: Path, options: Collection[str]) -> Experiment:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: wanted are lines such as 'backbone: [efficientnet-b4]'.")
    steps_of = [field.name.replace("_", "-") for field in fields(Step)]
    known = {"table", "steps", *steps_of, *options}
    content = {_known(path, key, known): value for key, value in content.items()}
    common = {key: value for key, value in content.items() if key in steps_of}
    steps = content.get("steps", [{}] if common else [])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise UserError(f"{path}: 'steps' is a list of steps, each with keys such as 'backbone: [efficientnet-b4]'.")
    read = []
    for step in steps:
        named = {_known(path, key, steps_of): value for key, value in step.items()}
        read.append(_step(path, {**common, **named}))
    tables = tuple(_each(path, "table", content.get("table", []), _integer))
    rest = {key: value for key, value in content.items() if key not in {"table", "steps", *steps_of}}
    return Experiment(tables, tuple(read), {key: _option(value) for key, value in rest.items()})


def _step(path: Path, content: Mapping[str, Any]) -> Step:
    step = Step(**{key.replace("-", "_"): _READERS[key](path, key, value) for key, value in content.items()})
    if step.train not in ("", *TRAINED):
        raise UserError(f"{path}: train '{step.train}'.{did_you_mean(step.train, TRAINED)} Known: {_names(TRAINED)}.")
    for name in step.score:
        if name not in SCORES:
            raise UserError(f"{path}: score '{name}'.{did_you_mean(name, SCORES)} Known: {_names(SCORES)}.")
    if not step.backbone and step.train != "autoencoder":
        raise UserError(f"{path}: a step needs a backbone, such as 'backbone: [efficientnet-b4]'.")
    if step.weights is not None and len(step.backbone) > 1:
        raise UserError(f"{path}: 'weights' is one backbone's file: make a step for each.")
    return step


def _known(path: Path, key: object, known: Collection[str]) -> str:
    name = str(key).replace("_", "-")
    if name not in known:
        raise UserError(f"{path}: unknown key '{key}'.{did_you_mean(name, known)}")
    return name


def _option(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _integer(path: Path, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{path}: '{key}: {value}' is no whole number.")
    return value


def _text(path: Path, key: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or str(value) == "":
        raise UserError(f"{path}: '{key}: {value}' is not a name.")
    return str(value)


def _yes(path: Path, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{path}: '{key}: {value}' is neither true nor false.")
    return value


def _each(path: Path, key: str, value: object, read: Callable[[Path, str, object], Any]) -> Iterable[Any]:
    return [read(path, key, one) for one in (value if isinstance(value, list) else [value])]


def _texts(path: Path, key: str, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_each(path, key, value, _text)))


def _integers(path: Path, key: str, value: object) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_each(path, key, value, _integer)))


def _joined(path: Path, key: str, value: object) -> str:
    return ",".join(_each(path, key, value, _text))


def _file(path: Path, key: str, value: object) -> Path:
    return path.parent / _text(path, key, value)  # as the file sees it: it works wherever it is called from


_READERS: dict[str, Callable[[Path, str, Any], Any]] = {
    "backbone": _texts,
    "epochs": _integers,
    "levels": _joined,
    "weights": _file,
    "padding": _text,
    "moments-only": _yes,
    "score": _texts,
    "threshold": _texts,
    "train": _text,
    "fresh": _yes,
    "size": _integer,
    "max-epochs": _integer,
}


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
