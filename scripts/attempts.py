"""Run something in a copy of this process: everything is imported once, and each copy may be killed, hang or crash.

For `faults.py` and `fuzz.py`. Needs fork: Linux, macOS. Nothing may start threads before the copies are made.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

Job = Callable[[], object]  # what it returns is the exit status, if a whole number

_LOOK = 0.002  # seconds between two looks at a running copy
_TO_BYTES = 1 if sys.platform == "darwin" else 1024  # of getrusage's ru_maxrss
ERROR = "gaussad: error: "
BUG, REFUSED = 1, 2  # exit status of a traceback, and of what the user can put right


@dataclass(frozen=True)
class Ended:
    """How an attempt ended.

    Attributes
    ----------
    code : exit status; minus the signal's number if one ended it
    seconds : that it took
    memory : bytes of its peak resident size
    out, err : what it wrote
    hung : whether it was killed because its time was over
    """

    code: int
    seconds: float
    memory: int
    out: str
    err: str
    hung: bool = False

    @property
    def complaint(self) -> str | None:
        """What is wrong with the way it ended, if anything: it may be done, or refuse in one line, but nothing else."""
        lines = self.err.rstrip("\n").split("\n")
        if self.hung:
            return f"hung: killed after {self.seconds:.0f} s"
        if self.code < 0:
            return f"crashed: {signal.Signals(-self.code).name}"
        if "Traceback" in self.err or self.code not in (0, REFUSED):
            return f"traceback: {lines[-1]} (exit status {self.code})"
        errors = [line for line in lines if line.startswith(ERROR)]
        if errors != (lines[-1:] if self.code == REFUSED else []):
            return f"exit status {self.code}, and not one line of error: {self.err!r}"
        return None if all(line.isprintable() for line in errors) else f"unprintable characters in {errors}"


@dataclass
class Attempt:
    """A running copy."""

    pid: int
    out: Path
    err: Path
    begin: float = field(default_factory=time.perf_counter)

    def kill(self) -> None:
        """Send SIGKILL, as the system does that runs out of memory."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, limit: float, look: Callable[[], object] = lambda: None) -> Ended:
        """Wait for the end, `limit` seconds at most, and call `look` meanwhile."""
        hung = False
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if not hung and time.perf_counter() - self.begin > limit:
                self.kill()
                hung = True
            look()
            time.sleep(_LOOK)
        seconds = time.perf_counter() - self.begin
        out, err = (path.read_text("utf-8", errors="replace") for path in (self.out, self.err))
        for path in (self.out, self.err):
            path.unlink()
        return Ended(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * _TO_BYTES, out, err, hung)


def start(job: Job) -> Attempt:
    """Start a job in a copy of this process."""
    out, err = _empty_file(), _empty_file()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Attempt(pid, out, err)
    code = BUG
    try:
        for path, number in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY), number)
        done = job()
        code = done if isinstance(done, int) else 0
    except BaseException:  # whatever it is, it must not go on in the copy
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _empty_file() -> Path:
    number, name = tempfile.mkstemp(prefix="attempt-")
    os.close(number)
    return Path(name)


def attempt(job: Job, limit: float = 60.0) -> Ended:
    """Run a job in a copy of this process until it ends."""
    return start(job).wait(limit)


def gaussad(*arguments: object, first: Job = lambda: None) -> Job:
    """Return the job of a command line; what comes `first` (a limit, say) is done in the copy too."""

    def run() -> int:
        from gaussad_cli.cli import main

        first()
        sys.argv = ["gaussad", *map(str, arguments)]
        try:
            return main()
        except SystemExit as end:
            return int(end.code or 0)

    return run


def import_what_they_import(jobs: Iterable[Job]) -> None:
    """Run jobs in copies, and import here whatever modules they did: copies made later start with them."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "names"
        for job in jobs:

            def listing(job: Job = job) -> object:
                code = job()
                names.write_text("\n".join(sys.modules))
                return code

            ended = attempt(listing)
            if ended.code:
                raise RuntimeError(f"an undisturbed run failed: {ended.err}")
            for name in names.read_text().split("\n"):
                if name not in sys.modules and not name.startswith("__"):
                    with suppress(Exception):  # some exist only while another is imported
                        importlib.import_module(name)


def limit_memory(beyond: int) -> None:
    """Let this process have so many bytes of address space more than it has."""
    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + beyond, used + beyond))


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond so many bytes: writing fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def drop_privileges() -> None:
    """Give up root's capabilities, if it is root, so that permissions hold for it as for anybody."""
    if os.geteuid() == 0 and sys.platform == "linux":
        header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)):
            raise OSError(ctypes.get_errno(), "cannot drop the capabilities of root")
