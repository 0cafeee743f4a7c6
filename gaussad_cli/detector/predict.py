"""Images, as many as there are, to scores and decisions, one record each."""

from __future__ import annotations

import csv
import filecmp
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gaussad_cli.datasets.own import find_images, images_below
from gaussad_cli.detector.model import Model, combine
from gaussad_cli.detector.network import find_network
from gaussad_cli.detector.stream import Seen, see
from gaussad_cli.detector.train import HASH_HEAD, Looking
from gaussad_cli.detector.update import update
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.engine import Engine, build_engine
from gaussad_cli.files import write_whole, writing
from gaussad_cli.gaussian.thresholds import conformal_threshold

FORMATS = ("csv", "json")
NORMAL, ANOMALOUS, ERROR = "normal", "anomalous", "error"


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file; score and p-value are None where it could not be read."""

    path: Path
    decision: str
    score: float | None
    p_value: float | None
    level_scores: dict[int, float]
    error: str


def open_engine(model: Model, looking: Looking, say: Callable[[str], object]) -> Engine:
    """Build the engine that a model looks through, with the weights that it was fitted with.

    Parameters
    ----------
    say : is told if another engine or precision than the training's is used

    Raises
    ------
    UserError
        If the weights are others, or an option cannot be used.
    """
    choice = looking.compute.choose()
    identity = model.backbone
    if (choice.engine, choice.precision) != (identity.engine, identity.precision):
        say(
            f"The model was trained by engine {identity.engine}, {identity.precision}; scores by {choice.engine}, "
            f"{choice.precision} differ{' by rounding' if choice.precision == identity.precision == 'fp32' else ''}."
        )
    return build_engine(choice, find_network(model, looking.weights), looking.cache)


def threshold_for(model: Model, threshold: float | None, fpr: float | None) -> float:
    """Return the threshold to decide by: given, for another rate, or the model's own.

    Raises
    ------
    UserError
        If both are given, or the rate cannot be had.
    """
    if threshold is not None and fpr is not None:
        raise UserError("--threshold and --fpr both say where the line is: give one.")
    if threshold is not None:
        return threshold
    if fpr is None:
        return model.calibration.threshold
    k = model.calibration.distances.size
    if not 1.0 / (k + 1) <= fpr < 1.0:
        raise UserError(
            f"--fpr {fpr:g}: the model was calibrated on {k} images, for rates from {1.0 / (k + 1):.2g} to 1."
        )
    return float(conformal_threshold(model.calibration.distances, fpr))


def predict(
    model: Model, engine: Engine, paths: Iterable[Path], threshold: float, looking: Looking
) -> Iterator[list[Prediction]]:
    """Yield predictions in the order of the paths, a batch at a time; a file that cannot be read is one of them."""
    for batch in see(
        engine, model.backbone.input_size, paths, looking.compute.images_at_once, looking.compute.threads, looking.ahead
    ):
        yield _decide(model, batch, threshold)


def _decide(model: Model, batch: list[Seen], threshold: float) -> list[Prediction]:
    good = [one for one in batch if not one.error]
    if not good:
        return [_failed(one) for one in batch]
    features = {level: np.stack([one.features[level] for one in good]) for level in model.level_numbers}
    by_level = model.level_scores(features)
    scores = combine(by_level)
    p_values = model.calibration.p_values(scores)
    rows = iter(range(len(good)))
    predictions = []
    for one in batch:
        if one.error:
            predictions.append(_failed(one))
            continue
        row = next(rows)
        levels = {level: float(values[row]) for level, values in by_level.items()}
        decision = NORMAL if scores[row] <= threshold else ANOMALOUS  # in this order, what is no number is not normal
        predictions.append(Prediction(one.path, decision, float(scores[row]), float(p_values[row]), levels, ""))
    return predictions


def _failed(one: Seen) -> Prediction:
    return Prediction(one.path, ERROR, None, None, {}, one.error)


def add_images(model: Model, folder: Path, looking: Looking, say: Callable[[str], object]) -> tuple[Model, int]:
    """Return a model with the images below a folder added, and how many of them it had already.

    Raises
    ------
    UserError
        If an image cannot be used, all are known, or the model cannot be updated.
    """
    engine = open_engine(model, looking, say)
    paths = find_images(folder)
    known, new, features = set(model.hashes), [], []
    with tqdm(total=len(paths), desc="update", unit="img", disable=None, dynamic_ncols=True) as bar:
        for batch in see(
            engine, model.backbone.input_size, paths, looking.compute.images_at_once, looking.compute.threads
        ):
            for one in batch:
                if one.error:
                    raise UserError(f"{one.error} The model was not changed.")
                if (head := one.sha256[:HASH_HEAD]) not in known:
                    known.add(head)
                    new.append(head)
                    features.append(one.features)
            bar.update(len(batch))
    if not new:
        raise UserError(f"all {len(paths)} images below {folder} are in the model already: it was not changed.")
    stacked = {level: np.stack([one[level] for one in features]) for level in model.level_numbers}
    return update(model, stacked, tuple(new)), len(paths) - len(new)


# --- which files ---


def expand(arguments: Iterable[str], lines: Iterable[str]) -> Iterator[Path]:
    """Yield files: those named, every image below folders, and for "-" those that `lines` name, as they come."""
    for argument in arguments:
        if argument == "-":
            yield from (Path(line.rstrip("\r\n")) for line in lines if line.strip())
        elif Path(argument).is_dir():
            yield from images_below(Path(argument))
        else:
            yield Path(argument)


def watch(folder: Path, interval: float, wait: Callable[[float], object] = time.sleep) -> Iterator[Path]:
    """Yield images that arrive in a folder, each once it is the same at two looks; it never ends by itself.

    One that is written again, or goes and comes back, is yielded again. Empty files are waited for.

    Raises
    ------
    UserError
        If the folder is not there, or goes.
    """
    before: dict[Path, tuple[int, int]] = {}
    done: dict[Path, tuple[int, int]] = {}
    while True:
        now = _states(folder)
        done = {path: state for path, state in done.items() if now.get(path) == state}
        for path, state in now.items():
            if before.get(path) == state and path not in done and state[0]:
                done[path] = state
                yield path
        before = now
        wait(interval)


def _states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of change of the images below a folder; of links to nowhere, and files that go, none."""
    if not folder.is_dir():
        raise UserError(f"no such folder to watch: {folder}.")
    states = {}
    with suppress(OSError):  # a folder that goes while it is looked through: what is left is seen at the next look
        for path in images_below(folder):
            with suppress(OSError):
                found = path.stat()
                states[path] = found.st_size, found.st_mtime_ns
    return states


# --- what is written ---


class Writer:
    """Writes predictions as CSV with a header, or as JSON lines."""

    def __init__(self, style: str, levels: Iterable[int], write: Callable[[str], object]) -> None:
        self._style, self._levels, self._write = style, tuple(levels), write
        if style == "csv":
            self._row("path", "decision", "score", "p_value", *(f"level_{level}" for level in self._levels), "error")

    def __call__(self, one: Prediction) -> None:
        """Write one."""
        levels = [one.level_scores.get(level) for level in self._levels]
        if self._style == "csv":
            self._row(one.path, one.decision, one.score, one.p_value, *levels, one.error)
            return
        row = {"path": str(one.path), "decision": one.decision, "score": one.score, "p_value": one.p_value}
        row |= {f"level_{level}": value for level, value in zip(self._levels, levels, strict=True)}
        self._write(json.dumps({**row, "error": one.error or None}) + "\n")

    def _row(self, *values: object) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow("" if value is None else value for value in values)
        self._write(buffer.getvalue())


def check_apart(folder: Path, sources: Iterable[Path]) -> None:
    """Check that copies do not become images to score: UserError if they would lie in a folder of those."""
    for source in sources:
        if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
            raise UserError(
                f"--copy-to {folder} lies in {source}: its copies would be scored too. Choose another folder."
            )


def copy_to(folder: Path, one: Prediction, root: Path | None) -> Path | None:
    """Copy a file to the folder of its decision, under its name below `root`; never over another one.

    What is there already with the same bytes is its copy: run again, a command that was ended makes no second ones.

    Returns
    -------
    Where to; None if the file cannot be read.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    try:
        source = one.path.open("rb")
    except OSError:
        return None
    name = one.path.relative_to(root) if root and one.path.is_relative_to(root) else Path(one.path.name)
    first = folder / one.decision / name
    others = (first.with_name(f"{name.stem}-{number}{name.suffix}") for number in count(1))
    with source, writing(first):
        target = next(
            path for path in chain([first], others) if not path.exists() or filecmp.cmp(one.path, path, shallow=False)
        )
        if not target.exists():
            write_whole(target, partial(shutil.copyfileobj, source))
    return target


def check_threshold(value: float | None) -> None:
    """Check a threshold that was given: UserError if it is no number."""
    if value is not None and not math.isfinite(value):
        raise UserError(f"--threshold {value}: wanted is a distance, such as the one that gaussad train printed.")
