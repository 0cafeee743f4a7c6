"""Run a job in a forked copy of this process. Imports are done once, and each copy may be killed, hang or crash.

A fork copies one thread only, so this process must have no others: `make robustness` sees to that.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import multiprocessing
import os
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Job = Callable[[], object]  # the exit status is what it returns, if that is a whole number

COUNT = int(os.environ.get("COUNT", "0"))  # how many cases; 0: a few
LIMIT = 120.0  # seconds after which a job counts as hung
REFUSED = 2  # exit status where the user must change something
ERROR = "gaussad: error: "
MIB = 1 << 20
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes

ENDS: dict[str, Counter[str]] = defaultdict(Counter)  # kind of case -> how often it ended in which way
MOST: dict[str, tuple[float, float]] = {}  # kind of case -> most seconds and MiB that one took


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit status (or minus a signal), seconds, MiB of memory it took beyond its start, and stderr."""

    code: int
    seconds: float
    memory: float
    err: str
    hung: bool

    @property
    def is_clear(self) -> bool:
        """Whether the job completed, or refused in one printable line: nothing else is right."""
        lines = self.err.rstrip("\n").split("\n")
        errors = [line for line in lines if line.startswith(ERROR)]
        right = errors == {0: [], REFUSED: lines[-1:]}.get(self.code) and all(line.isprintable() for line in errors)
        return right and not self.hung and "Traceback" not in self.err

    @property
    def verdict(self) -> str:
        """ "completed" or "refused"; fails the test if the job ended in any other way."""
        assert self.is_clear, self
        return "refused" if self.code else "completed"


class Attempt:
    """A running copy."""

    def __init__(self, job: Job) -> None:
        fork = multiprocessing.get_context("fork")
        self._peak, self._begin = fork.RawValue("q"), time.perf_counter()
        self._err = tempfile.TemporaryFile()  # noqa: SIM115 (closed by wait)
        self._process = fork.Process(target=_run, args=(job, self._err.fileno(), self._peak))
        self._process.start()

    def kill(self) -> None:
        """Send SIGKILL, as the system does when memory runs out."""
        self._process.kill()

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait for the end; after so many seconds, kill the copy."""
        self._process.join(limit)
        hung = self._process.is_alive()
        if hung:
            self.kill()
            self._process.join()
        seconds = time.perf_counter() - self._begin
        self._err.seek(0)
        with self._err:
            err = self._err.read().decode(errors="replace")
        return Ended(self._process.exitcode, seconds, self._peak.value / MIB, err, hung)


def _run(job: Job, err: int, peak: ctypes.c_longlong) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))  # not pytest's
    faulthandler.disable()  # pytest's: a crash is a finding, told once
    start = _most_memory()
    try:
        code = job()
    finally:
        peak.value = _most_memory() - start
    sys.exit(code if isinstance(code, int) else 0)


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def attempt(job: Job, limit: float = LIMIT) -> Ended:
    """Run a job in a copy of this process until it ends."""
    return Attempt(job).wait(limit)


def gaussad(*arguments: object, first: Job = lambda: None) -> Job:
    """Return the job of a command line; `first`, a limit for example, runs in the copy before it."""

    def run() -> int:
        from gaussad_cli.cli import main

        first()
        sys.argv = ["gaussad", *map(str, arguments)]
        try:
            return main()
        except SystemExit as end:
            return int(end.code or 0)

    return run


def import_what_it_imports(job: Job, code: int = 0) -> None:
    """Run a sound job in a copy and import here whatever it imported: later copies start with that."""
    with tempfile.NamedTemporaryFile("w+") as names:

        def listing() -> object:
            status = job()
            Path(names.name).write_text("\n".join(sys.modules))
            return status

        ended = attempt(listing)
        assert ended.code == code, ended.err
        for name in names.read().split("\n"):
            if name not in sys.modules and not name.startswith("__"):
                with suppress(Exception):  # some exist only while another is imported
                    importlib.import_module(name)


def tally(kind: str, how: str, ended: Ended | None = None) -> None:
    """Count how a case ended, for the table that is printed at the end."""
    ENDS[kind][how] += 1
    if ended:
        seconds, memory = MOST.get(kind, (0.0, 0.0))
        MOST[kind] = max(seconds, ended.seconds), max(memory, ended.memory)


# --- what may come first in a copy ---


def limit_memory(beyond: int) -> None:
    """Allow this process so many bytes of address space beyond those it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + beyond, used + beyond))


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond so many bytes: writing then fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def drop_privileges() -> None:
    """Give up root's capabilities, so that permissions hold for root as for everybody."""
    if os.geteuid() == 0 and sys.platform == "linux":
        header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        assert not ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)), os.strerror(ctypes.get_errno())
