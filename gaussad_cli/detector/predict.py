"""From image files to scores and decisions, one record per file."""

from __future__ import annotations

import csv
import filecmp
import io
import json
import math
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import IO, TextIO

import numpy as np
from tqdm import tqdm

from gaussad_cli.datasets.images import FoundImages, describe, find_images, is_folder, problem_with
from gaussad_cli.detector.heatmaps import Deviation, Scale, locate
from gaussad_cli.detector.look import ImageFeatures, OpenNetwork, look
from gaussad_cli.detector.map_files import MapFolder
from gaussad_cli.detector.model import Model, lowest_rate
from gaussad_cli.detector.scores import Scores
from gaussad_cli.errors import ImageError, UserError, escaped, interruptible
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import usable_cores
from gaussad_cli.extraction.store import depth_of
from gaussad_cli.files import fit_name, write_whole, writing
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.thresholds import conformal_threshold
from gaussad_cli.lookahead import Together, look_ahead

FORMATS = ("csv", "json")
# Columns of a model of places: the two distances of which the greater is the score, and pixels of the file.
_PLACE = ("greatest", "whole", "x", "y", "left", "top", "right", "bottom")
Say = Callable[[str], object]
FAR = "far"  # in the counts
_ENOUGH, _MOST = 5, 0.9  # images, and their share, from which on all of them are of another kind
NORMAL, ANOMALOUS, ERROR = "normal", "anomalous", "error"
_INTERVAL = 0.5  # seconds between two looks at a watched folder
_UNFINISHED = 10.0  # seconds after its last change in which an unreadable file in it is waited for


@dataclass(frozen=True)
class Prediction:
    """What a model says about one file. Score and p-value are None if the file could not be read.

    Attributes
    ----------
    level_scores : level -> distance; empty for a model of places
    deviation : where the file deviates most; None for a pooled model
    heat_map : (g, g) that the score is read from; None for a pooled model
    whole : how far the whole image is, on the scale of the heat map's greatest distance; None for a pooled model
    """

    path: Path
    decision: str
    score: float | None
    p_value: float | None
    level_scores: dict[int, float]
    error: str
    deviation: Deviation | None = None
    heat_map: Array | None = field(default=None, compare=False, repr=False)
    whole: float | None = None


def _say_nothing(_: str) -> None:
    pass


@dataclass(frozen=True)
class FilesToScore:
    """Which files are scored.

    Attributes
    ----------
    arguments : images, folders of them, or "-" for the paths that standard input lists
    watched : a folder whose images are scored as they arrive; goes without `arguments`
    null : whether NUL ends the paths on standard input, not the end of a line
    say : is told which images folders hold, and what is left out
    """

    arguments: tuple[str, ...]
    watched: Path | None = None
    null: bool = False
    say: Say = _say_nothing

    def paths(self) -> Iterator[Path]:
        """Return the files, as they come."""
        if self.watched:
            return watch(self.watched, _INTERVAL, say=self.say)
        return expand(self.arguments, list_names(sys.stdin, self.null), self.say)

    @property
    def root(self) -> Path | None:
        """The folder that all files lie in, if there is just one folder."""
        folders = [Path(argument) for argument in self.arguments]
        return self.watched or (folders[0] if len(folders) == 1 and is_folder(folders[0]) else None)

    def check(self, copies: Path | None, maps: Path | None = None) -> None:
        """Check that there is something to score, and that copies and heat maps do not become files to score.

        Raises
        ------
        UserError
            If neither or both of arguments and watched folder are given, there is no list that NUL could end the
            names of, or copies or heat maps would go to a folder of images.
        """
        if bool(self.arguments) == (self.watched is not None):
            raise UserError("say which images: files, folders, or - for a list on stdin; or --watch DIR.")
        if self.null and "-" not in self.arguments:
            raise UserError("--null is for a list on stdin: give - for the images, and pipe find -print0 to it.")
        for option, folder, content in (("--copy-to", copies, "copies"), ("--maps", maps, "heat maps")):
            if folder is not None:
                self._check_outside(option, folder, content)

    def _check_outside(self, option: str, folder: Path, content: str) -> None:
        for source in filter(is_folder, [self.watched] if self.watched else map(Path, self.arguments)):
            if any(folder.resolve().is_relative_to(place) for place in find_images(source).places):
                raise UserError(
                    f"{option} {folder} lies in {source}: the {content} would be scored too. Choose another folder."
                )


def choose_threshold(model: Model, threshold: float | None, fpr: float | None) -> float:
    """Return the threshold to decide by: the given one, the one for a given rate, or the model's own.

    Raises
    ------
    UserError
        If both are given, the threshold is not a finite number, or the model is not calibrated for the rate.
    """
    if threshold is not None and fpr is not None:
        raise UserError("--threshold and --fpr both set the threshold: give only one of them.")
    if threshold is not None:
        if not math.isfinite(threshold):
            raise UserError(f"--threshold {threshold}: give a distance, such as the one that gaussad train printed.")
        return threshold
    if fpr is None:
        return model.calibration.threshold
    k = model.calibration.distances.size
    if not 1.0 / (k + 1) <= fpr < 1.0:
        raise UserError(f"--fpr {fpr:g}: the model was calibrated on {k} images, and {lowest_rate(k)}.")
    return float(conformal_threshold(model.calibration.distances, fpr))


@interruptible("interrupted. What was written is kept.")
def predict_files(
    model: Model, network: OpenNetwork, files: FilesToScore, threshold: float, output: PredictionOutput
) -> dict[str, int]:
    """Score files, and write the predictions in the order of the files, as they are done.

    Returns
    -------
    How many files there were of each decision, and "far" of those that are far beyond all normal images.
    """
    counts, root, paths = {NORMAL: 0, ANOMALOUS: 0, ERROR: 0, FAR: 0}, files.root, files.paths()
    far = far_out(model)
    # A caller that waits for every answer before it sends the next path must get it.
    one_by_one = files.watched is not None or (files.arguments == ("-",) and network.compute.batch_size == 1)
    # Rows on the same terminal show the progress already.
    hidden = True if files.watched or sys.stdout.isatty() else None
    columns = level_columns(model), model.places is not None
    maps = _map_folder(model, output.maps, threshold, root)
    output.write_header(*columns)
    predictions = (predict(model, batch, threshold) for batch in look(network, paths, one_by_one))
    with tqdm(desc="predict", unit="img", disable=hidden, dynamic_ncols=True) as bar:
        for batch in predictions if maps is None else _with_maps(predictions, maps, one_by_one, files.say):
            for prediction in batch:
                output.write_prediction(prediction, *columns)
                if output.copies is not None:
                    copy_file(output.copies, prediction, root)
                counts[prediction.decision] += 1
                counts[FAR] += prediction.score is not None and prediction.score > far
            bar.update(len(batch))
    return counts


def _map_folder(model: Model, folder: Path | None, threshold: float, root: Path | None) -> MapFolder | None:
    if folder is None:
        return None
    if model.places is None:
        raise UserError("--maps: a pooled model has no heat maps. Train it without --pooled to get them.")
    depth = depth_of(model.backbone.preprocessing)
    return MapFolder(folder, Scale(model.places.typical, threshold), depth, root)


def _with_maps(
    batches: Iterable[list[Prediction]], maps: MapFolder, one_by_one: bool, say: Say
) -> Iterator[list[Prediction]]:
    """Yield batches of predictions as soon as their heat maps are written, while the network is at the next one."""
    with closing(maps), ThreadPoolExecutor(usable_cores()) as pool:

        def submit(batch: list[Prediction]) -> Together[str]:
            return Together([pool.submit(_write_maps, maps, prediction) for prediction in batch])

        for batch, problems in look_ahead(batches, submit, 0 if one_by_one else 1):
            for problem in filter(None, problems):
                say(problem)
            yield batch


def _write_maps(maps: MapFolder, prediction: Prediction) -> str:
    """Write the heat map of a file; return why there is none if the file is gone since it was scored."""
    if prediction.heat_map is None:  # it could not be scored
        return ""
    try:
        maps.write(prediction.path, prediction.heat_map)
    except ImageError as error:
        return f"No heat map: {error}"
    return ""


def level_columns(model: Model) -> tuple[int, ...]:
    """Return the levels that have a distance of their own."""
    return () if model.places else model.level_numbers


def far_out(model: Model) -> float:
    """Return the distance beyond which an image has little in common with those that a model was trained on.

    Twice as far beyond the farthest held-out normal image as that is beyond the median one.
    """
    median, farthest = np.median(model.calibration.distances), model.calibration.distances.max()
    return float(farthest + 2.0 * (farthest - median))


def describe_counts(counts: Mapping[str, int]) -> str:
    """Say how many files there were of each decision, and if they hardly belong to the model."""
    scored = counts[NORMAL] + counts[ANOMALOUS]
    text = ", ".join(f"{counts[name]} {name}" for name in (NORMAL, ANOMALOUS, ERROR) if counts[name]) or "no image."
    if scored >= _ENOUGH and counts[FAR] > _MOST * scored:
        text += (
            f". {counts[FAR]} of {scored} images are far beyond all normal ones: these are not what the model was "
            "trained on. Check the product, the camera, the light and the framing."
        )
    return text


def predict(model: Model, images: list[ImageFeatures], threshold: float) -> list[Prediction]:
    """Return a prediction per image, in order; one that could not be read has the decision "error"."""
    decided = iter(_decide(model, [image for image in images if not image.error], threshold))
    return [
        Prediction(image.path, ERROR, None, None, {}, image.error) if image.error else next(decided) for image in images
    ]


def _decide(model: Model, images: list[ImageFeatures], threshold: float) -> list[Prediction]:
    if not images:
        return []
    features = {level: np.stack([image.features[level] for image in images]) for level in model.level_numbers}
    scores = model.gaussians.score(features)
    p_values = model.calibration.p_values(scores.total)
    return [_prediction(image, scores, row, float(p_values[row]), threshold) for row, image in enumerate(images)]


def _prediction(image: ImageFeatures, scores: Scores, row: int, p_value: float, threshold: float) -> Prediction:
    score = float(scores.total[row])
    decision = NORMAL if score <= threshold else ANOMALOUS  # a NaN score counts as anomalous
    levels = {level: float(values[row]) for level, values in scores.by_level.items()}
    if scores.heat_maps is None or scores.whole is None:
        return Prediction(image.path, decision, score, p_value, levels, "")
    heat_map = scores.heat_maps[row]
    deviation = locate(heat_map, threshold, image.shape)
    return Prediction(image.path, decision, score, p_value, levels, "", deviation, heat_map, float(scores.whole[row]))


# --- which files ---


def expand(arguments: Iterable[str], listed: Iterable[str], say: Say = _say_nothing) -> Iterator[Path]:
    """Return files: those named, every image below folders, and for "-" those that are listed, as they come.

    Parameters
    ----------
    say : is told at once which images folders hold, and what is left out

    Raises
    ------
    UserError
        If a folder cannot be read.
    """
    parts: list[Iterable[Path]] = []
    for argument in arguments:
        if argument == "-":
            parts.append(map(Path, listed))
        elif is_folder(Path(argument)):
            found = find_images(Path(argument))
            say(str(found))
            parts.append(found.paths)
        else:
            parts.append([Path(argument)])
    return chain.from_iterable(parts)


def list_names(stream: TextIO | None, null: bool = False) -> Iterator[str]:
    """Yield the file names that a text stream lists, as they come. They may be of any bytes; blank lines are skipped.

    Parameters
    ----------
    stream : standard input; None if it is closed
    null : whether NUL ends a name, not the end of a line

    Raises
    ------
    UserError
        If the stream is closed or cannot be read.
    """
    if stream is None:
        raise UserError("standard input is closed: pipe the list of images to it.")
    try:
        for name in _split(stream, b"\0" if null else b"\n"):
            text = name.decode(sys.getfilesystemencoding(), "surrogateescape")
            if text if null else text.strip():
                yield text if null else text.rstrip("\r")
    except OSError as error:
        raise UserError(f"cannot read the list of images on standard input: {error.strerror}.") from None


def _split(stream: TextIO, end: bytes) -> Iterator[bytes]:
    """Yield the parts of a stream between ends, each as soon as its end is read; then what follows the last end."""
    last = bytearray()
    while chunk := stream.buffer.read1():  # type: ignore[attr-defined]  # standard input has it
        *ended, begun = chunk.split(end)
        for part in ended:
            yield bytes(last) + part
            last.clear()
        last += begun
    yield bytes(last)


def watch(
    folder: Path, interval: float, wait: Callable[[float], object] = time.sleep, *, say: Say = _say_nothing
) -> Iterator[Path]:
    """Yield images that arrive in a folder, as soon as two looks find the same size and time; never ends by itself.

    An image that is written again, or removed and put back, is yielded again. Empty files are waited for, and so are
    unreadable ones for some seconds after their last change: a slow writer may have paused.

    Parameters
    ----------
    say : is told what is left out, once for each reason

    Raises
    ------
    UserError
        If there is no such folder, or it is removed.
    """
    before: dict[Path, tuple[int, int]] = {}
    done: dict[Path, tuple[int, int]] = {}
    told: set[str] | None = None
    while True:
        if not is_folder(folder):
            raise UserError(f"no such folder to watch: {folder}.")
        found = find_images(folder, strict=told is None)
        told = _tell(found, told, say)
        now = _states(found.paths)
        done = {path: state for path, state in done.items() if now.get(path) == state}
        for path, state in now.items():
            if before.get(path) == state and path not in done and state[0] and _is_finished(path, state[1]):
                done[path] = state
                yield path
        before = now
        wait(interval)


def _is_finished(path: Path, changed: int) -> bool:
    """Whether a file can be read, or was last changed (in ns since the epoch) too long ago to be waited for."""
    if not 0.0 <= time.time() - changed / 1e9 < _UNFINISHED:  # another machine's clock may be ahead
        return True
    try:
        read_squares(path, [])
    except ImageError:
        return False
    return True


def _tell(found: FoundImages, told: set[str] | None, say: Say) -> set[str]:
    """Say what a look at a watched folder found, at the first look, or which reasons to leave files out are new."""
    if told is None:
        say(str(found))
    elif new := {reason: paths for reason, paths in found.left_out.items() if reason not in told}:
        say(escaped(f"{found.folder}{describe(new)}."))
    return (told or set()) | set(found.left_out)


def _states(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return size and modification time of images, without broken links and files just removed."""
    states = {}
    for path in paths:
        with suppress(OSError):
            found = path.stat()
            states[path] = found.st_size, found.st_mtime_ns
    return states


# --- what is written ---


@dataclass(frozen=True)
class PredictionOutput:
    """Where predictions go: rows of CSV with a header, or JSON lines, and copies of the files if wanted.

    Attributes
    ----------
    style : one of :data:`FORMATS`
    write : takes the text, piece by piece
    copies : folder where copies of the files are sorted by decision; None: no copies
    maps : folder where heat maps of the files are written; None: no heat maps
    """

    style: str
    write: Callable[[str], object]
    copies: Path | None = None
    maps: Path | None = None

    def __post_init__(self) -> None:
        if self.style not in FORMATS:
            raise UserError(f"unknown --format '{self.style}'. Known: {', '.join(FORMATS)}.")

    def write_header(self, levels: Sequence[int], has_places: bool = False) -> None:
        """Write what comes before the first prediction."""
        if self.style == "csv":
            own = *_PLACE * has_places, *(f"level_{level}" for level in levels)
            self._row("path", "decision", "score", "p_value", *own, "error", "time")

    def write_prediction(self, prediction: Prediction, levels: Sequence[int], has_places: bool = False) -> None:
        """Write one prediction and the time.

        The distances of `levels` are None if the file could not be read. So is where it deviates; its box is of normal
        images too.
        """
        values = {
            "path": str(prediction.path),
            "decision": prediction.decision,
            "score": prediction.score,
            "p_value": prediction.p_value,
            **(_place(prediction) if has_places else {}),
            **{f"level_{level}": prediction.level_scores.get(level) for level in levels},
            "error": prediction.error or None,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if self.style == "csv":
            self._row(*values.values())
        else:
            self.write(json.dumps(values) + "\n")

    def _row(self, *values: object) -> None:
        buffer = io.StringIO()
        # Before Python 3.13, a carriage return in a name is quoted only if it is part of the line end.
        csv.writer(buffer, lineterminator="\r\n").writerow("" if value is None else value for value in values)
        row = buffer.getvalue().removesuffix("\r\n").replace("\0", "\\0")  # no file's name has NUL, nor has CSV
        self.write(f"{row}\n")


def _place(prediction: Prediction) -> dict[str, float | None]:
    """Return the values of the columns of a model of places."""
    deviation, heat_map = prediction.deviation, prediction.heat_map
    if deviation is None or heat_map is None:
        return dict.fromkeys(_PLACE)
    box = deviation.box or (None,) * 4
    values = float(heat_map.max()), prediction.whole, deviation.x, deviation.y, *box
    return dict(zip(_PLACE, values, strict=True))


def copy_file(folder: Path, prediction: Prediction, root: Path | None) -> None:
    """Copy a file to the folder of its decision, under its path below `root`; never over another file.

    A file with the same bytes that is there already is its copy, so a command that is run again makes no second copies.
    A file that cannot be read is left out: its row says why.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    path = prediction.path
    try:
        if problem_with(path):
            return
        source = path.open("rb")
    except (OSError, ValueError):
        return
    name = path.relative_to(root) if root and path.is_relative_to(root) else Path(path.name)
    first = folder / prediction.decision / name
    others = (first.with_name(fit_name(f"{name.stem}-{number}", name.suffix)) for number in count(1))
    with source, writing(first):
        target = next(
            copy
            for copy in chain([first], others)
            if not os.path.lexists(copy) or (copy.is_file() and filecmp.cmp(path, copy, shallow=False))
        )
        if not target.exists():
            write_whole(target, partial(_copy, source))


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a file's content and mode, so that nobody can read the copy who could not read the file."""
    shutil.copyfileobj(source, target)
    Path(target.name).chmod(stat.S_IMODE(os.fstat(source.fileno()).st_mode))
