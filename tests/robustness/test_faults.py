"""Disturb every command in every way: nothing whole is lost, and the next run ends as if nothing had been."""

import faulthandler
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from tests.conftest import write_image
from tests.robustness.bench import COMMANDS, Bench, Case, contents, each_path
from tests.robustness.harness import COUNT, LIMIT, Attempt, attempt, drop_privileges, limit_files, limit_memory, tally

PAGE = 4096  # bytes; what a file takes on a tmpfs is a multiple
TEN_YEARS = 10 * 365.25 * 86400.0  # seconds


def killed(case):
    """SIGKILL at random moments, up to three times in a row."""
    kills = 0
    for _ in range(case.rng.choice((1, 1, 2, 3))):
        before = contents(case.work)
        kills += case.kill()
        case.nothing_lost(before)
    case.finish()
    return "killed" if kills else "completed before the kill"


# --- no room ---


def disk_full(case):
    """A file system (tmpfs) with room for a random part of what the command writes."""
    grows = max(2, pages(case.reference.after) - pages(case.reference.before))
    with mounted(case):
        system = os.statvfs(case.work)
        used = (system.f_blocks - system.f_bfree) * system.f_bsize // PAGE
        assert remount(case.work, f"size={PAGE * (used + case.rng.randrange(grows))}")
        return case.disturb(undo=lambda: remount(case.work, "size=64m"))


def pages(folder):
    return sum((path.stat().st_size + PAGE - 1) // PAGE for path in folder.rglob("*") if path.is_file())


def file_too_large(case):
    """No file may grow beyond a random size (RLIMIT_FSIZE): a write fails in its middle."""
    largest = max(path.stat().st_size for path in case.reference.after.rglob("*") if path.is_file())
    size = max(1000, int(largest ** case.rng.uniform(0.2, 1)))  # the line of error goes into a file too
    return case.disturb(lambda: limit_files(size))


# --- no permission ---


def unwritable(case):
    """Cache and results may not be written, from the start or from a random moment on."""

    def permit(folders, files):
        with suppress(OSError):  # what the command removes meanwhile
            each_path(case.work, lambda path: path.chmod(folders if path.is_dir() else files))

    moment = case.rng.choice((0.0, case.moment()))
    return case.disturb(drop_privileges, lambda: permit(0o555, 0o444), moment, lambda: permit(0o755, 0o644))


def unreadable(case):
    """One file may not be read: an image, or a file of cache or results."""
    path = case.rng.choice(case.own_data() + sorted(path for path in case.work.rglob("*") if path.is_file()))
    return case.disturb(drop_privileges, lambda: path.chmod(0), undo=lambda: path.exists() and path.chmod(0o644))


def read_only(case):
    """The file system (tmpfs) becomes read-only at a random moment."""

    def forbid():
        while not remount(case.work, "ro"):  # impossible while a file is open for writing
            time.sleep(0.001)

    with mounted(case):
        return case.disturb(during=forbid, after=case.moment(), undo=lambda: remount(case.work, "rw"))


@contextmanager
def mounted(case):
    """Let the case work in a file system of its own."""
    case.work = case.folder / "mounted"
    case.work.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", case.work]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs Linux, root, and permission to mount")
    try:
        case.fresh("mounted")
        yield
    finally:
        subprocess.run(["umount", "-l", case.work], check=True)


def remount(at, options):
    return not subprocess.run(["mount", "-o", f"remount,{options}", at], capture_output=True, check=False).returncode


# --- images that change meanwhile ---


def image_changes(case):
    """An image vanishes, is cut short or replaced, after the index was made or at a random moment.

    The cache must then go as a new one does, and again as before when the image is back.
    """
    path, how = case.rng.choice(case.own_data()), case.rng.choice(("vanishes", "is cut", "is another"))
    original, new, seed = path.read_bytes(), path.with_name("new"), case.rng.randrange(2**32)

    def change():
        if how == "vanishes":
            path.unlink()
            return
        new.write_bytes(original[: len(original) // 2])
        (write_image(new.with_suffix(".png"), seed) if how == "is another" else new).replace(path)
        new.unlink(missing_ok=True)

    def change_after_the_index():
        from gaussad_cli.extraction import extract

        find = extract.find_categories
        extract.find_categories = lambda *arguments: (find(*arguments), change())[0]

    if case.rng.random() < 0.5:
        case.kill()
    if case.rng.random() < 0.5:
        verdict = attempt(case.job(first=change_after_the_index)).verdict
    else:
        running = Attempt(case.job())
        time.sleep(case.moment())
        change()
        verdict = running.wait().verdict
    other = case.fresh("other")
    disturbed, new_run = attempt(case.job()), attempt(case.job(work=other))
    assert disturbed.verdict == new_run.verdict
    assert new_run.code or contents(case.work) == contents(other)
    path.write_bytes(original)
    case.finish()
    return verdict


# --- several processes ---


def two_processes(case):
    """Two or three processes do the same in one cache and results folder; one of them may be killed."""
    dies = case.rng.random() < 0.5
    run_together(case, [()] * case.rng.choice((2, 2, 3)), dies)
    assert contents(case.work) == contents(case.reference.after)
    case.finish()
    return "completed, one killed" if dies else "all completed"


def two_tasks(case):
    """Two processes do different things that end in the same files: other levels, other scores."""
    tasks = {"extract": [("--levels", "1"), ("--levels", "2")], "evaluate": [("--score", "l2"), ("--score", "sed")]}
    tasks, other = tasks[case.command], case.fresh("other")
    assert [attempt(case.job(*task, work=other)).verdict for task in tasks] == ["completed"] * 2
    run_together(case, case.rng.sample(tasks, 2))
    assert contents(case.work, without=".graphs") == contents(other, without=".graphs")
    return "all completed"


def run_together(case, tasks, one_dies=False):
    """Start processes one after the other with these options; all but one that is killed must complete."""
    running = []
    for task in tasks:
        running.append(Attempt(case.job(*task)))
        time.sleep(case.rng.choice((0.0, 0.2, 1.0)) * case.moment())
    if one_dies:
        time.sleep(case.moment())
        victim = running.pop(case.rng.randrange(len(running)))
        victim.kill()
        victim.wait()
    assert [process.wait().verdict for process in running] == ["completed"] * len(running)


# --- clock, memory, weights ---


def clock_jumps(case):
    """Python's clock jumps by up to ten years at every look, and files have random times."""

    def age(path):
        moment = time.time() + case.rng.uniform(-TEN_YEARS, TEN_YEARS)
        os.utime(path, (moment, moment))

    def jump():
        now = time.time
        time.time = lambda: now() + case.rng.uniform(-TEN_YEARS, TEN_YEARS)

    if case.rng.random() < 0.5:
        case.kill()
    each_path(case.work, age)
    return case.disturb(jump)


def memory_ends(case):
    """The command may have a random part of the address space that it wants (RLIMIT_AS).

    Some libraries then wait for ever: Python for a thread that died before it began (python/cpython issue 140746),
    OpenBLAS for its buffers. Others end with a traceback of their own. The case counts that, and ends the process.
    """
    if sys.platform != "linux":
        pytest.skip("needs Linux")
    beyond, before = int(2 ** case.rng.uniform(20, 30)), contents(case.work)

    def limit():
        limit_memory(beyond)
        faulthandler.dump_traceback_later(LIMIT / 8, exit=True, file=2)

    ended = attempt(case.job(first=limit))
    waited = "Timeout (" in ended.err
    assert not ended.hung
    assert not waited or waits_in_a_library(ended.err), ended.err
    case.nothing_lost(before)
    case.finish()
    if waited:
        return "waited for ever in a library"
    if not ended.is_clear:
        return "ended by a library" if ended.code < 0 or ended.code == 127 else "ended with a traceback"
    return ended.verdict


def waits_in_a_library(stacks):
    """Whether the main thread, whose stack is the last, is within linear algebra, or starts a thread."""
    _, inner, *outer = stacks.rpartition("Thread 0x")[2].split("\n")
    starts_a_thread = [line for line in outer if re.search(r'threading\.py", line \d+ in start$', line)]
    return bool(starts_a_thread or re.search("/(scipy|numpy)/", inner))


def nan_weights(case):
    """A weight file has a NaN or infinity: an error says so, or the features do not depend on it."""
    weights, engine, seed = case.work / "w.safetensors", case.rng.choice(("onnx", "torch")), case.rng.randrange(2**32)
    assert attempt(lambda: write_weights(weights, np.random.default_rng(seed))).code == 0
    assert attempt(case.job("--engine", engine)).verdict == "completed"
    expected = features(case.work)
    ended = attempt(case.job("--engine", engine, "--weights", str(weights)))
    if ended.verdict == "refused":
        assert "NaN" in ended.err
    else:
        assert features(case.work) == expected + expected
    return f"{ended.verdict}, {engine}"


def write_weights(path, generator):
    import torch
    from safetensors.torch import save_file

    from gaussad_cli.backbones.registry import find_backbone
    from gaussad_cli.backbones.weights import find_checkpoint

    tensors = torch.load(find_checkpoint(find_backbone("efficientnet-lite0"), None).path, weights_only=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    floats = [name for name, tensor in whole.items() if tensor.is_floating_point()]
    values = whole[floats[int(len(floats) * generator.random() ** 3)]].view(-1)  # mostly where levels 1 and 2 see it
    values[generator.integers(len(values))] = generator.choice([np.nan, np.inf, -np.inf])
    save_file(whole, path)


def features(work):
    return Counter(sha256 for name, sha256 in contents(work).items() if name.endswith(".npy"))


# --- the table ---

EXTRACTIONS = tuple(command for command in COMMANDS if command.startswith("extract"))
QUICK = tuple(command for command in COMMANDS if command != "train autoencoder")  # which takes ten times as long
# Fault -> the commands that it disturbs in turn; killing gets COUNT cases, every other fault a fifth of that.
FAULTS = dict.fromkeys(
    (disk_full, file_too_large, unwritable, unreadable, read_only, clock_jumps, memory_ends, two_processes), QUICK
)
FAULTS |= {killed: tuple(COMMANDS), image_changes: EXTRACTIONS}
FAULTS |= {two_tasks: ("extract", "evaluate"), nan_weights: ("extract",)}


def cases():
    for fault, commands in FAULTS.items():
        quick = fault in (killed, image_changes, two_processes)
        for number in range(math.ceil(COUNT * (1 if fault is killed else 0.2)) if COUNT else quick):
            command = commands[number % len(commands)]
            yield pytest.param(fault, command, number, id=f"{fault.__name__}-{number}-{command}")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    yield Bench(root)
    shutil.rmtree(root)


@pytest.mark.parametrize(("disturb", "command", "number"), list(cases()))
def test_nothing_whole_is_lost_and_the_next_run_ends_as_if_nothing_had_been(bench, tmp_path, disturb, command, number):
    case = Case(bench, command, tmp_path, random.Random(f"{disturb.__name__} {number}"))
    tally(disturb.__name__, disturb(case))
