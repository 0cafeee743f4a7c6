"""The faults of `faults.py`: each disturbs one command once, and says how that ended, or raises `Lost`."""

from __future__ import annotations

import faulthandler
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from attempts import Ended, Job, attempt, drop_privileges, limit_files, limit_memory, start
from fault_bench import COMMANDS, LIMIT, Bench, Lost, Untried, contents, each_path, no_complaint, same, write_image

_PAGE = 4096  # bytes; what a file takes on tmpfs is a multiple
_YEARS = 10 * 365.25 * 86400.0  # seconds a clock jumps at most


def killed(bench: Bench, command: str, rng: random.Random) -> str:
    """Kill (SIGKILL) at random moments, up to three times in a row, as the system does where memory ends."""
    work, kills = bench.fresh(command), 0
    for _ in range(rng.choice((1, 1, 2, 3))):
        before = contents(work)
        kills += _kill(bench, command, work, rng)
        bench.nothing_lost(command, before, work)
    bench.finish(command, work)
    return "killed" if kills else "completed before the kill"


def _kill(bench: Bench, command: str, work: Path, rng: random.Random, data: Path | None = None) -> bool:
    running = bench.start(command, work, data)
    time.sleep(rng.uniform(0, bench.references[command].seconds))
    running.kill()
    return running.wait(LIMIT).code < 0


# --- no room ---


def disk_full(bench: Bench, command: str, rng: random.Random) -> str:
    """Give it a file system (tmpfs) with room for a random part of what the command writes."""
    reference = bench.references[command]
    grows = max(2, _pages(reference.after) - _pages(reference.before))
    with _mounted(bench.root / "small") as work:
        bench.fresh(command, at=work)
        system = os.statvfs(work)
        used = (system.f_blocks - system.f_bfree) * system.f_bsize // _PAGE
        if not _remount(work, f"size={_PAGE * (used + rng.randrange(grows))}"):
            raise Untried("a mounted file system cannot be made smaller")
        return _disturbed(bench, command, work, after=lambda: _remount(work, "size=64m"))


def _pages(folder: Path) -> int:
    return sum((path.stat().st_size + _PAGE - 1) // _PAGE for path in folder.rglob("*") if path.is_file())


def file_too_large(bench: Bench, command: str, rng: random.Random) -> str:
    """Let no file grow beyond a random size (RLIMIT_FSIZE): a write fails in its middle."""
    largest = max(path.stat().st_size for path in bench.references[command].after.rglob("*") if path.is_file())
    size = max(1000, int(largest ** rng.uniform(0.2, 1)))  # the line of error is in a file too
    return _disturbed(bench, command, bench.fresh(command), lambda: limit_files(size))


# --- no permission ---


def unwritable(bench: Bench, command: str, rng: random.Random) -> str:
    """Forbid writing to cache and results, from a random moment on."""
    work = bench.fresh(command)
    moment = rng.choice((0.0, rng.uniform(0, bench.references[command].seconds)))

    def forbid() -> None:
        with suppress(OSError):  # what the command removes meanwhile
            each_path(work, lambda path: path.chmod(0o555 if path.is_dir() else 0o444))

    def allow() -> None:
        each_path(work, lambda path: path.chmod(0o755 if path.is_dir() else 0o644))

    return _disturbed(bench, command, work, drop_privileges, during=(moment, forbid), after=allow)


def unreadable(bench: Bench, command: str, rng: random.Random) -> str:
    """Make one file unreadable: an image, or a file of cache or results."""
    work, data = bench.fresh(command), _copy_of_data(bench)
    files = [path for folder in (work, data) for path in sorted(folder.rglob("*")) if path.is_file()]
    path = rng.choice(files)
    forbid = (0.0, lambda: path.chmod(0))
    allow = lambda: path.chmod(0o644)  # noqa: E731
    return _disturbed(bench, command, work, drop_privileges, data, forbid, allow)


def read_only(bench: Bench, command: str, rng: random.Random) -> str:
    """Make the file system (tmpfs) read-only at a random moment."""
    moment = rng.uniform(0, bench.references[command].seconds)
    with _mounted(bench.root / "small") as work:
        bench.fresh(command, at=work)

        def forbid() -> None:
            while not _remount(work, "ro"):  # not while a file is open for writing
                time.sleep(0.001)

        def allow() -> None:
            _remount(work, "rw")

        return _disturbed(bench, command, work, during=(moment, forbid), after=allow)


# --- images that change under way ---


def image_changes(bench: Bench, command: str, rng: random.Random) -> str:
    """Remove, cut short or replace an image, after the index or at a random moment.

    Cached features must be those of the images as they are afterwards, then again of those as they were.
    """
    work, data = bench.fresh(command), _copy_of_data(bench)
    path = rng.choice(sorted(data.rglob("*.png")))
    kind, seed, original = rng.choice(("vanishes", "is cut", "is another")), rng.randrange(2**32), path.read_bytes()
    if rng.random() < 0.5:
        _kill(bench, command, work, rng, data)

    def change() -> None:
        new = path.with_suffix(".new")
        if kind == "is another":
            write_image(new.with_suffix(".new.png"), np.random.default_rng(seed))
            new.with_suffix(".new.png").replace(path)
        elif kind == "is cut":
            new.write_bytes(original[: len(original) // 2])
            new.replace(path)
        else:
            path.unlink()

    if rng.random() < 0.5:
        how = no_complaint(bench.start(command, work, data, _after_the_index(change)).wait(LIMIT))
    else:
        running = bench.start(command, work, data)
        time.sleep(rng.uniform(0, bench.references[command].seconds))
        change()
        how = no_complaint(running.wait(LIMIT))
    _agree_on_changed_data(bench, command, work, data)
    path.write_bytes(original)
    bench.finish(command, work)
    return how


def _after_the_index(change: Callable[[], None]) -> Job:
    """Let a command find the images first."""

    def patch() -> None:
        from gaussad_cli.datasets import index
        from gaussad_cli.extraction import extract

        def find_and_change(*arguments: Any) -> list[index.Category]:
            found = index.find_categories(*arguments)
            change()
            return found

        vars(extract)["find_categories"] = find_and_change

    return patch


def _agree_on_changed_data(bench: Bench, command: str, work: Path, data: Path) -> None:
    """Check that a disturbed cache gives what a new one gives."""
    other = bench.fresh(command)
    ended = attempt(bench.job(command, other, data), LIMIT)
    if no_complaint(attempt(bench.job(command, work, data), LIMIT)) != no_complaint(ended):
        raise Lost("with the changed image, a disturbed cache does not go as a new one does")
    if ended.code == 0:
        same(work, other)
    shutil.rmtree(other)


# --- several processes ---


def two_processes(bench: Bench, command: str, rng: random.Random) -> str:
    """Let two or three processes do the same in one cache and results folder; one of them may be killed."""
    work, seconds = bench.fresh(command), bench.references[command].seconds
    running = []
    for _ in range(rng.choice((2, 2, 3))):
        running.append(bench.start(command, work))
        time.sleep(rng.choice((0.0, rng.uniform(0, seconds))))
    dies = rng.random() < 0.5
    if dies:
        time.sleep(rng.uniform(0, seconds))
        running.pop(rng.randrange(len(running))).kill()
    for ended in [one.wait(LIMIT) for one in running]:
        _must_complete(ended)
    same(work, bench.references[command].after)
    bench.finish(command, work)
    return "completed, one killed" if dies else "all completed"


def two_tasks(bench: Bench, command: str, rng: random.Random) -> str:
    """Let two processes do different things that end in the same files: other levels, other scores."""
    variants = {"extract": (("--levels", "1"), ("--levels", "2")), "evaluate": (("--score", "l2"), ("--score", "sed"))}
    jobs = [(*COMMANDS[command], *variant) for variant in variants[command]]
    work, other = bench.fresh(command), bench.fresh(command)
    for arguments in jobs:
        _must_complete(attempt(bench.arguments_job(arguments, other), LIMIT))
    rng.shuffle(jobs)
    running = []
    for arguments in jobs:
        running.append(start(bench.arguments_job(arguments, work)))
        time.sleep(rng.uniform(0, 0.2) * bench.references[command].seconds)
    for one in running:
        _must_complete(one.wait(LIMIT))
    same(_without_graphs(work), _without_graphs(other))
    return "all completed"


def _must_complete(ended: Ended) -> None:
    if ended.code:
        raise Lost(ended.complaint or ended.err.strip())


def _without_graphs(work: Path) -> Path:
    shutil.rmtree(work / "cache" / ".graphs")
    return work


# --- clock, memory, weights ---


def clock_jumps(bench: Bench, command: str, rng: random.Random) -> str:
    """Let Python's clock jump by up to ten years at every look, and files be of random times."""
    work = bench.fresh(command)

    def age(path: Path) -> None:
        moment = time.time() + rng.uniform(-_YEARS, _YEARS)
        os.utime(path, (moment, moment))

    each_path(work, age)

    def jump() -> None:
        now = time.time
        time.time = lambda: now() + rng.uniform(-_YEARS, _YEARS)

    if rng.random() < 0.5:
        _kill(bench, command, work, rng)
        each_path(work, age)
    return _disturbed(bench, command, work, jump)


def memory_ends(bench: Bench, command: str, rng: random.Random) -> str:
    """Give it a random part of the address space that it wants (RLIMIT_AS).

    Some libraries then wait for ever: Python for a thread that died before it began (python/cpython issue 140746),
    OpenBLAS for its buffers. That is told, and the process ended.
    """
    if sys.platform != "linux":
        raise Untried("needs Linux")
    work, beyond = bench.fresh(command), int(2 ** rng.uniform(20, 30))
    before = contents(work)

    def limit() -> None:
        limit_memory(beyond)
        faulthandler.dump_traceback_later(LIMIT / 8, exit=True)

    ended = bench.start(command, work, first=limit).wait(LIMIT)
    waits = ended.err.rpartition("Timeout (")[2] if "Timeout (" in ended.err else ""
    if ended.hung or (waits and not _waits_in_a_library(waits)):
        raise Lost(f"hung: {waits or ended.complaint}")
    bench.nothing_lost(command, before, work)
    bench.finish(command, work)
    if waits:
        return "waited for ever in a library"
    if ended.complaint:
        return "ended by a library" if ended.code < 0 or ended.code == 127 else "ended with a traceback"
    return "refused clearly" if ended.code else "completed"


def _waits_in_a_library(stacks: str) -> bool:
    """Whether the main thread, which is the last, is within linear algebra, or starts a thread."""
    main = stacks.rpartition("Thread 0x")[2].split("\n")[1:]
    return bool(re.search(r"/(scipy|numpy)/", main[0])) or any(
        re.search(r'threading\.py", line \d+ in start$', line) for line in main
    )


def nan_weights(bench: Bench, command: str, rng: random.Random) -> str:
    """Put a NaN or infinity into a weight file: an error that says so, or features that do not depend on it."""
    work, engine = bench.fresh(command), rng.choice(("onnx", "torch"))
    weights = work / "weights.safetensors"
    seed = rng.randrange(2**32)
    _must_complete(attempt(lambda: _write_weights(weights, np.random.default_rng(seed)), LIMIT))
    whole = (*COMMANDS[command], "--engine", engine)
    _must_complete(attempt(bench.arguments_job(whole, work), LIMIT))
    expected = _features(work)
    ended = attempt(bench.arguments_job((*whole, "--weights", str(weights)), work), LIMIT)
    how = no_complaint(ended)
    if ended.code and "NaN" not in ended.err:
        raise Lost(f"does not say what is wrong: {ended.err}")
    if not ended.code and sorted([*expected, *expected]) != sorted(_features(work)):
        raise Lost("took a NaN for a number")
    return f"{how}, {engine}"


def _write_weights(path: Path, generator: np.random.Generator) -> None:
    import torch
    from safetensors.torch import save_file

    from gaussad_cli.backbones.registry import find_backbone
    from gaussad_cli.backbones.weights import find_checkpoint

    tensors = torch.load(find_checkpoint(find_backbone("efficientnet-lite0"), None).path, weights_only=True)
    floats = [name for name in tensors if tensors[name].is_floating_point()]
    # Mostly where levels 1 and 2 can see it.
    name = floats[int(len(floats) * generator.random() ** 3)]
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    values = whole[name].view(-1)
    values[generator.integers(len(values))] = generator.choice([np.nan, np.inf, -np.inf])
    save_file(whole, path)


def _features(work: Path) -> list[str]:
    return [sha256 for name, sha256 in contents(work).items() if name.endswith(".npy")]


# --- what they share ---


def _disturbed(
    bench: Bench,
    command: str,
    work: Path,
    first: Job = lambda: None,
    data: Path | None = None,
    during: tuple[float, Callable[[], object]] = (0.0, lambda: None),
    after: Callable[[], object] = lambda: None,
) -> str:
    """Run a command, do something `during` it (after so many seconds; 0: before), then undo it, look, and run again."""
    before = contents(work)
    moment, disturb = during
    if not moment:
        disturb()
    running = bench.start(command, work, data, first)
    if moment:
        time.sleep(moment)
        disturb()
    ended = running.wait(LIMIT)
    after()
    how = no_complaint(ended)
    bench.nothing_lost(command, before, work)
    bench.finish(command, work)
    return how


def _copy_of_data(bench: Bench) -> Path:
    target = bench.root / "changed" / bench.data.name
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(bench.data, target))


@contextmanager
def _mounted(at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    if sys.platform != "linux" or os.geteuid():
        raise Untried("needs root on Linux")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", at], capture_output=True, check=False
    ).returncode:
        raise Untried("mounting is not allowed")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def _remount(at: Path, options: str) -> bool:
    return _mount("-o", f"remount,{options}", str(at))


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
