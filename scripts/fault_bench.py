"""What `faults.py` tries its faults on: a tiny data set, every command, and what an undisturbed run of each leaves."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attempts import Attempt, Ended, Job, attempt, gaussad, import_what_they_import, start
from PIL import Image

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests
from gaussad_cli.extraction import pipeline, store
from gaussad_cli.files import LOCK

LIMIT = 120.0  # seconds until a command counts as hung
SHARD = 8  # images committed together: the small sets have several shards too
N_TRAIN, N_TEST = 12, 4

_LITE0 = ("--backbone", "efficientnet-lite0")
_EXTRACT = ("extract", "--data", "{data}", *_LITE0, "--levels", "1-2", "--batch-size", "4", "--cache", "{work}/cache")
_EVALUATE = ("evaluate", *_LITE0, "--epochs", "0", "--cache", "{work}/cache", "--out", "{work}/results")
_NPCA = ("--mode", "npca", "--var", "0.01")
_MODEL = "{work}/knob.gaussad"
_NORMAL = ("train", "--normal", "{data}/knob/train/good", *_LITE0, "--levels", "2", "--fpr", "0.2", "--out", _MODEL)
_LID = "{data}/lid/train/good"
_AUTOENCODER = ("train", "autoencoder", "--data", "{data}", "--size", "32", "--max-epochs", "1", "--categories", "knob")

# In this order: each finds what those before have left.
COMMANDS: dict[str, tuple[str, ...]] = {
    "extract": _EXTRACT,
    "extract --epochs": (*_EXTRACT, "--epochs", "2"),
    "extract --moments-only": (*_EXTRACT, "--epochs", "2", "--seed", "1", "--moments-only"),
    "fit": ("fit", *_LITE0, "--epochs", "0", "--cache", "{work}/cache"),
    "evaluate": _EVALUATE,
    "evaluate --threshold": (*_EVALUATE, *_NPCA, "--threshold", "gamma", "--levels", "2"),
    "tables": ("tables", "--results", "{work}/results"),
    "report": ("report", "--results", "{work}/results", "--data", "{data}"),
    "train --normal": (*_NORMAL, "--cache", "{work}/cache"),
    "predict --copy-to": (
        "predict",
        _MODEL,
        "{data}/knob/test",
        "--copy-to",
        "{work}/sorted",
        "--cache",
        "{work}/cache",
    ),
    "update": ("update", _MODEL, "--normal", _LID, "--out", "{work}/both.gaussad", "--cache", "{work}/cache"),
    "export": ("export", _MODEL, "--out", "{work}/knob.onnx"),
    "train autoencoder": (*_AUTOENCODER, "--cache", "{work}/cache", "--out", "{work}/results"),
}
EXTRACTIONS = ("extract", "extract --epochs", "extract --moments-only")
Contents = dict[str, str]  # path below a folder -> SHA-256 of the file


class Lost(Exception):  # noqa: N818 (a finding, not an error of this program)
    """Something whole was lost or damaged, the next run did not complete, or its results differ."""


class Untried(Exception):  # noqa: N818
    """The machine does not allow this fault; the message says why."""


@dataclass(frozen=True)
class Reference:
    """A command's undisturbed run: the folder that it found, the one that it left, and the seconds it took."""

    before: Path
    after: Path
    seconds: float


class Bench:
    """Runs commands on copies of what an undisturbed run of each found."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data" / "tiny"
        self.references: dict[str, Reference] = {}
        self._copies = 0

    def prepare(self, commands: tuple[str, ...]) -> None:
        """Make the data set, import what commands import, and run them undisturbed, with all those before them."""
        pipeline.SHARD = SHARD
        for engine in ("onnx_engine", "torch_engine"):  # most of what there is to import: not first in a copy
            importlib.import_module(f"gaussad_cli.extraction.{engine}")
        write_data(self.data)
        last = max(map(list(COMMANDS).index, commands))
        names = list(COMMANDS)[: last + 1]
        scratch = self.root / "scratch"
        import_what_they_import(self.job(name, scratch) for name in names)
        work = self.root / "undisturbed"
        for number, name in enumerate(names):
            before, after = self.root / f"{number}-before", self.root / f"{number}-after"
            # The exported graph takes long, and is no matter of faults but the first time.
            _copy(work if number else _without(scratch, "tiny", "results"), before)
            _copy(before, work)
            ended = attempt(self.job(name, work), LIMIT)
            if ended.code:
                raise RuntimeError(f"undisturbed, '{name}' failed: {ended.err}")
            _copy(work, after)
            self.references[name] = Reference(before, after, ended.seconds)

    def job(self, command: str, work: Path, data: Path | None = None, first: Job = lambda: None) -> Job:
        """Return a command's job in a folder."""
        return self.arguments_job(COMMANDS[command], work, data, first)

    def arguments_job(
        self, arguments: tuple[str, ...], work: Path, data: Path | None = None, first: Job = lambda: None
    ) -> Job:
        """Return the job of a command line with places for {data} and {work}."""
        return gaussad(*(text.format(data=data or self.data, work=work) for text in arguments), first=first)

    def fresh(self, command: str, at: Path | None = None) -> Path:
        """Return a copy of what a command finds."""
        self._copies += 1
        return _copy(self.references[command].before, at or self.root / f"work-{self._copies}")

    def start(self, command: str, work: Path, data: Path | None = None, first: Job = lambda: None) -> Attempt:
        """Start a command."""
        return start(self.job(command, work, data, first))

    def finish(self, command: str, work: Path) -> None:
        """Run a command again, undisturbed: it must complete and leave what an undisturbed first run leaves.

        Raises
        ------
        Lost
            If not.
        """
        ended = attempt(self.job(command, work), LIMIT)
        if ended.code:
            raise Lost(f"the next run did not complete: {ended.complaint or ended.err.strip()}")
        same(work, self.references[command].after)
        if left := sorted(path.name for path in work.rglob("*") if path.suffix == ".tmp" or path.name == LOCK):
            raise Lost(f"left behind: {', '.join(left)}")
        shutil.rmtree(work, ignore_errors=True)

    def nothing_lost(self, command: str, before: Contents, work: Path) -> None:
        """Check what a disturbed command left.

        Raises
        ------
        Lost
            If a whole file is gone that should not be, or one is there that is not whole.
        """
        reference = self.references[command]
        final, now = contents(reference.after), contents(work)
        for name in before.keys() - now.keys():
            is_joined = "/partial/" in name and (work / name).parents[1].joinpath(store.MANIFEST).exists()
            if not is_joined and (name in final or "/partial/" in name):
                raise Lost(f"{name} is gone")
        for name in now.keys() - {name for name in before if now.get(name) == before[name]}:
            if now[name] != final.get(name) and not _is_whole(work / name, reference.after / name):
                raise Lost(f"{name} is not whole")


def no_complaint(ended: Ended) -> str:
    """Return "done" or "refused" if a command did one of them as it should; Lost with what it did else."""
    if ended.complaint:
        raise Lost(ended.complaint)
    return "refused clearly" if ended.code else "completed"


def same(work: Path, other: Path) -> None:
    """Check that two folders have the same files, to the bit.

    Raises
    ------
    Lost
        If not.
    """
    ours, theirs = contents(work), contents(other)
    if differing := [name for name in sorted(ours | theirs) if ours.get(name) != theirs.get(name)]:
        raise Lost(f"differs from an undisturbed run: {', '.join(differing[:5])}")


def contents(folder: Path) -> Contents:
    """Return every file but those being written, and locks."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".tmp" and path.name != LOCK
    }


def _is_whole(path: Path, final: Path) -> bool:
    """Whether a file that is neither as before nor as at the end is whole, and on the way from the one to the other."""
    if "partial" in path.parts or path.suffix == ".npz":
        return store.read_arrays(path) is not None
    if path.suffix == ".csv":
        lines = path.read_text("utf-8").split("\n")
        return lines[-1] == "" and set(lines) <= set(final.read_text("utf-8").split("\n"))
    if path.suffix == ".json":
        try:
            return bool(store.read_manifest(path.parent) if path.name == store.MANIFEST else manifests.read(path))
        except UserError:
            return False
    return not final.exists()  # on its way out: features that spectra will stand for, a training's states


def write_data(root: Path) -> None:
    """Write the data set: two categories of smooth noise."""
    generator = np.random.default_rng(0)
    for category in ("knob", "lid"):
        for folder, n in (("train/good", N_TRAIN), ("test/good", N_TEST), ("test/scratch", N_TEST)):
            (root / category / folder).mkdir(parents=True)
            for i in range(n):
                write_image(root / category / folder / f"{i:03d}.png", generator)


def write_image(path: Path, generator: np.random.Generator) -> None:
    """Write a small image."""
    coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    coarse.resize((40, 40), Image.Resampling.BILINEAR).save(path)


def each_path(folder: Path, do: Callable[[Path], object]) -> None:
    """Do something to a folder and all in it, deepest first."""
    for top, folders, files in os.walk(folder, topdown=False):
        for name in [*files, *folders]:
            do(Path(top) / name)
    do(folder)


def _copy(source: Path, target: Path) -> Path:
    if source != target:
        shutil.rmtree(target, ignore_errors=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        target.mkdir(exist_ok=True)
    return target


def _without(work: Path, *names: str) -> Path:
    for name in names:
        for path in (work / name, work / "cache" / name):
            shutil.rmtree(path, ignore_errors=True)
    return work
