"""A tiny data set, every command on it, what an undisturbed run of each leaves, and cases that disturb one."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gaussad_cli.extraction import pipeline, store
from tests.conftest import write_image
from tests.robustness.harness import Attempt, Job, attempt, gaussad, import_what_it_imports

_LITE0 = ("--backbone", "efficientnet-lite0")
_CACHE = ("--cache", "{work}/cache")
_EXTRACT = ("extract", "--data", "{data}", *_LITE0, "--levels", "1-2", "--batch-size", "4", *_CACHE)
_EVALUATE = ("evaluate", *_LITE0, "--epochs", "0", *_CACHE, "--out", "{work}/results")
_NORMAL = ("--normal", "{data}/knob/train/good", "--pooled", *_LITE0, "--levels", "2", "--fpr", "0.2")
_AUTOENCODER = ("train", "autoencoder", "--data", "{data}", "--size", "32", "--max-epochs", "1", "--categories", "knob")
_MODEL = "{work}/knob.gaussad"

# In this order: each command finds what those before it have left.
COMMANDS: dict[str, tuple[str, ...]] = {
    "extract": _EXTRACT,
    "extract --epochs": (*_EXTRACT, "--epochs", "2"),
    "extract --moments-only": (*_EXTRACT, "--epochs", "2", "--seed", "1", "--moments-only"),
    "fit": ("fit", *_LITE0, "--epochs", "0", *_CACHE),
    "evaluate": _EVALUATE,
    "evaluate --threshold": (*_EVALUATE, "--mode", "npca", "--var", "0.01", "--threshold", "gamma", "--levels", "2"),
    "tables": ("tables", "--results", "{work}/results"),
    "report": ("report", "--results", "{work}/results", "--data", "{data}"),
    "train --normal": ("train", *_NORMAL, *_CACHE, "--out", _MODEL),
    "predict --copy-to": ("predict", _MODEL, "{data}/knob/test", "--copy-to", "{work}/sorted", *_CACHE),
    "update": ("update", _MODEL, "--normal", "{data}/lid/train/good", "--out", "{work}/both.gaussad", *_CACHE),
    "export": ("export", _MODEL, "--out", "{work}/knob.onnx"),
    "train autoencoder": (*_AUTOENCODER, *_CACHE, "--out", "{work}/results"),
}
Contents = dict[str, str]  # path below a folder -> SHA-256 of the file


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a command: the folder that it found, the one that it left, and the seconds it took."""

    before: Path
    after: Path
    seconds: float


class Bench:
    """The data set, and the reference of every command, made when the first case asks for it."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data" / "tiny"
        self._references: dict[str, Reference] = {}
        pipeline.SHARD = 8  # images committed together: the small set has several shards too
        for engine in ("onnx_engine", "torch_engine"):  # most of what is imported; not first in a copy
            importlib.import_module(f"gaussad_cli.extraction.{engine}")
        for number, category in enumerate(("knob", "lid")):
            for folder, n in (("train/good", 12), ("test/good", 4), ("test/scratch", 4)):
                for i in range(n):
                    write_image(
                        self.data / category / folder / f"{i:03d}.png", seed=1000 * number + 100 * len(folder) + i
                    )

    def reference(self, command: str) -> Reference:
        """Return the reference of a command, after those of all commands before it."""
        names, scratch, work = list(COMMANDS), self.root / "scratch", self.root / "undisturbed"
        for name in names[len(self._references) : names.index(command) + 1]:
            import_what_it_imports(self.job(name, scratch))
            if not self._references:  # to export the network takes long, and only the first run does it
                shutil.copytree(scratch / "cache" / ".graphs", work / "cache" / ".graphs")
            before, after = (self.root / f"{when} {name}" for when in ("before", "after"))
            shutil.copytree(work, before)
            ended = attempt(self.job(name, work))
            assert ended.code == 0, ended.err
            shutil.copytree(work, after)
            self._references[name] = Reference(before, after, ended.seconds)
        return self._references[command]

    def job(
        self, command: str, work: Path, data: Path | None = None, options: tuple[str, ...] = (), **first: Job
    ) -> Job:
        """Return the job of a command in a folder."""
        arguments = (*COMMANDS[command], *options)
        return gaussad(*(text.format(data=data or self.data, work=work) for text in arguments), **first)


@dataclass
class Case:
    """One command that is to be disturbed, in a folder like the one that its undisturbed run found."""

    bench: Bench
    command: str
    folder: Path
    rng: random.Random
    data: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.reference, self.data = self.bench.reference(self.command), self.bench.data
        self.work = self.fresh("work")

    def fresh(self, name: str) -> Path:
        """Return a new copy of what the command finds; the folder may be there and empty."""
        return Path(shutil.copytree(self.reference.before, self.folder / name, dirs_exist_ok=True))

    def own_data(self) -> list[Path]:
        """Give the case images of its own, to be changed; returns them."""
        self.data = Path(shutil.copytree(self.bench.data, self.folder / "data" / self.bench.data.name))
        return sorted(self.data.rglob("*.png"))

    def moment(self) -> float:
        """Return a random number of seconds within those that the command takes."""
        return self.rng.uniform(0, self.reference.seconds)

    def job(self, *options: str, work: Path | None = None, first: Job = lambda: None) -> Job:
        """Return the job of the command."""
        return self.bench.job(self.command, work or self.work, self.data, options, first=first)

    def kill(self) -> bool:
        """Start the command and kill it at a random moment; whether it was still running."""
        running = Attempt(self.job())
        time.sleep(self.moment())
        running.kill()
        return running.wait().code < 0

    def disturb(
        self,
        first: Job = lambda: None,
        during: Callable[[], object] = lambda: None,
        after: float = 0.0,
        undo: Callable[[], object] = lambda: None,
    ) -> str:
        """Run the command, do `during` so many seconds `after` its start (0: before), undo it, and run it again."""
        whole = contents(self.work)
        if not after:
            during()
        running = Attempt(self.job(first=first))
        if after:
            time.sleep(after)
            during()
        ended = running.wait()
        undo()
        self.nothing_lost(whole)
        self.finish()
        return ended.verdict

    def nothing_lost(self, before: Contents) -> None:
        """Check that no file that was whole is gone or damaged, and none that is there is half."""
        final, now = contents(self.reference.after), contents(self.work)
        for name in before.keys() - now.keys():
            partial = "/partial/" in name
            joined = partial and (self.work / name).parents[1].joinpath(store.MANIFEST).exists()
            assert joined or not (partial or name in final), f"{name} is gone"
        for name, sha256 in now.items():
            known = sha256 in (before.get(name), final.get(name))
            assert known or _is_whole(self.work / name, self.reference.after / name), f"{name} is not whole"

    def finish(self) -> None:
        """Check that an undisturbed run now completes, and leaves what an undisturbed first run leaves."""
        self.data = self.bench.data
        ended = attempt(self.job())
        assert ended.code == 0, f"the next run did not complete: {ended}"
        assert contents(self.work) == contents(self.reference.after)
        assert not [path for path in self.work.rglob("*") if _is_transient(path)]


def contents(folder: Path, without: str = "") -> Contents:
    """Return every file but those being written, and locks."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _is_transient(path) and not (without and without in path.parts)
    }


def _is_transient(path: Path) -> bool:
    return path.name.endswith((".tmp", ".lock"))


def _is_whole(path: Path, final: Path) -> bool:
    """Whether a file that is neither as before nor as at the end is whole, and on the way from the one to the other."""
    if "partial" in path.parts or path.suffix == ".npz":
        return store.read_arrays(path) is not None
    if path.suffix == ".csv":
        lines = path.read_text("utf-8").split("\n")
        return lines[-1] == "" and set(lines) <= set(final.read_text("utf-8").split("\n"))
    if path.suffix == ".json":
        return bool(json.loads(path.read_text("utf-8")))
    if path.suffix == ".pt":  # the state of a training after an epoch has the name of its end
        return bool(torch.load(path, weights_only=True))
    return not final.exists()  # on its way out: features that spectra will stand for


def each_path(folder: Path, do: Callable[[Path], object]) -> None:
    """Do something to a folder and to everything in it, deepest first."""
    for top, folders, files in os.walk(folder, topdown=False):
        for name in [*files, *folders]:
            do(Path(top) / name)
    do(folder)
