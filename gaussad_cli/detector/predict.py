"""From image files to scores and decisions, one record per file."""

from __future__ import annotations

import csv
import filecmp
import io
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np
from tqdm import tqdm

from gaussad_cli.datasets.images import FoundImages, describe, find_images, is_folder, problem_with
from gaussad_cli.detector.heatmaps import Deviation, Scale, locate
from gaussad_cli.detector.look import ImageFeatures, look_by
from gaussad_cli.detector.map_files import MapFolder, remove_unfinished
from gaussad_cli.detector.model import Model
from gaussad_cli.detector.models import Models, ReadyModel, Say, say_nothing
from gaussad_cli.detector.scores import Scores
from gaussad_cli.errors import ImageError, UserError, escaped, interruptible
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import usable_cores
from gaussad_cli.extraction.store import depth_of
from gaussad_cli.files import fit_name, write_whole, writing
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.lookahead import Together, look_ahead

FORMATS = ("csv", "json")
# Columns of a model of places: the two distances of which the greater is the score, and pixels of the file.
_PLACE = ("greatest", "whole", "x", "y", "left", "top", "right", "bottom")
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
    model : name of the model that scored it, where there are several
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
    model: str = ""


@dataclass(frozen=True)
class FilesToScore:
    """Which files are scored.

    Attributes
    ----------
    arguments : images, folders of them, or "-" for the paths that standard input lists
    watched : a folder whose images are scored as they arrive
    null : whether NUL ends the paths on standard input, not the end of a line
    say : is told which images folders hold, and what is left out
    listed : the images of a list; of `arguments`, `watched` and `listed`, one is given
    """

    arguments: tuple[str, ...]
    watched: Path | None = None
    null: bool = False
    say: Say = say_nothing
    listed: tuple[Path, ...] = ()

    def paths(self) -> Iterator[Path]:
        """Return the files, as they come."""
        if self.watched:
            return watch(self.watched, _INTERVAL, say=self.say)
        if self.listed:
            return iter(self.listed)
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
            If not exactly one of arguments, watched folder and list is given, there is no list that NUL could end the
            names of, or copies or heat maps would go to a folder of images.
        """
        if bool(self.arguments) + (self.watched is not None) + bool(self.listed) != 1:
            raise UserError(
                "say which images: files, folders, or - for a list on stdin; or --watch DIR; or, with several models, "
                "--csv FILE."
            )
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


Counts = dict[str, int]  # decision, or "far" -> files


@interruptible("interrupted. What was written is kept.")
def predict_files(models: Models, files: FilesToScore, output: PredictionOutput) -> dict[str, Counts]:
    """Score files, and write the predictions in the order of the files, as they are done.

    Returns
    -------
    For every model that was asked, by its name, how many files there were of each decision, and "far" of those that are
    far beyond all normal images
    """
    counts: dict[str, Counts] = {}
    root, paths, columns = files.root, files.paths(), models.columns
    # A caller that waits for every answer before it sends the next path must get it.
    one_by_one = files.watched is not None or (files.arguments == ("-",) and models.compute.batch_size == 1)
    # Rows on the same terminal show the progress already.
    hidden = True if files.watched or sys.stdout.isatty() else None
    images = look_by(lambda path: models.model_for(path).network, paths, models.compute, one_by_one)
    batches: Iterable[list[Prediction]] = (predict_each(models, batch) for batch in images)
    if output.maps is not None:
        _check_maps(models, files.say)
        batches = _with_maps(batches, partial(_write_maps, models, output.maps, root), one_by_one, files.say)
    output.write_header(*columns)
    with tqdm(desc="predict", unit="img", disable=hidden, dynamic_ncols=True) as bar, _cleaned(output.maps):
        for batch in batches:
            for prediction in batch:
                output.write_prediction(prediction, *columns)
                if output.copies is not None:
                    copy_file(output.copies, prediction, root)
                _count(counts, models, prediction)
            bar.update(len(batch))
    return counts


def _count(counts: dict[str, Counts], models: Models, prediction: Prediction) -> None:
    own = counts.setdefault(prediction.model, {NORMAL: 0, ANOMALOUS: 0, ERROR: 0, FAR: 0})
    own[prediction.decision] += 1
    own[FAR] += prediction.score is not None and prediction.score > models.model_for(prediction.path).far


def _check_maps(models: Models, say: Say) -> None:
    if not models.columns.has_places:
        raise UserError("--maps: a pooled model has no heat maps. Train it without --pooled to get them.")
    if models.pooled:
        say(f"--maps: pooled models have no heat maps, so there are none of the images of {', '.join(models.pooled)}.")


@contextmanager
def _cleaned(maps: Path | None) -> Iterator[None]:
    try:
        yield
    finally:
        if maps is not None:
            remove_unfinished(maps)


def _with_maps(
    batches: Iterable[list[Prediction]], write: Callable[[Prediction], str], one_by_one: bool, say: Say
) -> Iterator[list[Prediction]]:
    """Yield batches of predictions as soon as their heat maps are written, while the network is at the next one."""
    with ThreadPoolExecutor(usable_cores()) as pool:

        def submit(batch: list[Prediction]) -> Together[str]:
            return Together([pool.submit(write, prediction) for prediction in batch])

        for batch, problems in look_ahead(batches, submit, 0 if one_by_one else 1):
            for problem in filter(None, problems):
                say(problem)
            yield batch


def _write_maps(models: Models, folder: Path, root: Path | None, prediction: Prediction) -> str:
    """Write the heat map of a file; return why there is none if the file is gone since it was scored."""
    if prediction.heat_map is None:  # it could not be scored, or its model is a pooled one
        return ""
    ready = models.model_for(prediction.path)
    maps = MapFolder(folder, scale_of(ready), depth_of(ready.model.backbone.preprocessing), root)
    try:
        maps.write(prediction.path, prediction.heat_map)
    except ImageError as error:
        return f"No heat map: {error}"
    return ""


def scale_of(ready: ReadyModel) -> Scale:
    """Return the scale of the heat maps of a model of places."""
    places = ready.model.places
    if places is None:
        raise ValueError("a pooled model has no heat maps")
    return Scale(places.typical, ready.threshold)


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


def predict_each(models: Models, images: list[ImageFeatures]) -> list[Prediction]:
    """Return a prediction per image by its own model, in order; images of the same model are scored together."""
    by_name: dict[str, list[ImageFeatures]] = {}
    for image in images:
        by_name.setdefault(models.name_for(image.path), []).append(image)
    predicted = {name: iter(_predict_together(models, own)) for name, own in by_name.items()}
    names = [models.name_for(image.path) for image in images]
    return [replace(next(predicted[name]), model=name) for name in names]


def _predict_together(models: Models, images: list[ImageFeatures]) -> list[Prediction]:
    """Return a prediction per image, in order; all images have the same model, or none."""
    if all(image.error for image in images):  # perhaps because there is no model for them
        return list(map(_unscored, images))
    ready = models.model_for(images[0].path)
    return predict(ready.model, images, ready.threshold)


def predict(model: Model, images: list[ImageFeatures], threshold: float) -> list[Prediction]:
    """Return a prediction per image, in order; one that could not be read has the decision "error"."""
    decided = iter(_decide(model, [image for image in images if not image.error], threshold))
    return [_unscored(image) if image.error else next(decided) for image in images]


def _unscored(image: ImageFeatures) -> Prediction:
    return Prediction(image.path, ERROR, None, None, {}, image.error)


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


def expand(arguments: Iterable[str], listed: Iterable[str], say: Say = say_nothing) -> Iterator[Path]:
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
    folder: Path, interval: float, wait: Callable[[float], object] = time.sleep, *, say: Say = say_nothing
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

    def write_header(self, levels: Sequence[int], has_places: bool = False, has_model: bool = False) -> None:
        """Write what comes before the first prediction; see :class:`Columns`."""
        if self.style == "csv":
            nothing = Prediction(Path(), ERROR, None, None, {}, "")
            self._row(*row_of(nothing, levels, has_places, has_model))

    def write_prediction(
        self, prediction: Prediction, levels: Sequence[int], has_places: bool = False, has_model: bool = False
    ) -> None:
        """Write one prediction and the time; see :func:`row_of`."""
        values = row_of(prediction, levels, has_places, has_model)
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


def row_of(
    prediction: Prediction, levels: Sequence[int], has_places: bool = False, has_model: bool = False
) -> dict[str, Any]:
    """Return a prediction and the time by columns; see :class:`Columns`.

    The distances of `levels` are None if the file could not be read. So is where it deviates; its box is of normal
    images too.
    """
    return {
        "path": str(prediction.path),
        **({"model": prediction.model or None} if has_model else {}),
        "decision": prediction.decision,
        "score": prediction.score,
        "p_value": prediction.p_value,
        **(_place(prediction) if has_places else {}),
        **{f"level_{level}": prediction.level_scores.get(level) for level in levels},
        "error": prediction.error or None,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


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
