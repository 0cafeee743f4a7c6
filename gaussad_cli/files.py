"""Whole files only: written to a temporary name, fsynced, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from gaussad_cli.errors import UserError

# Process numbers tell writers apart on one machine only, and a cache may be shared by several (or by containers).
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_SURELY_OVER = 3600  # seconds since a temporary file was last written to
LOCK = ".lock"  # of a folder that a process works in
_LOOK_AGAIN = 0.1  # seconds between two looks at a lock that another process holds


def write_whole(path: Path, write: Callable[[IO[bytes]], object], scratch: Path | None = None) -> None:
    """Call `write` on a temporary file, then put it in place: a file that is there is whole.

    Parameters
    ----------
    scratch : folder of the temporary file, on the same disk; beside `path` if None. What a killed process leaves, it
        leaves there, until the same file is written again.

    Raises
    ------
    UserError
        If the folder cannot be written or is full; nothing is left behind.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{_HOST}-{os.getpid()}.tmp"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    _remove_leftovers(path.name, temporary.parent)


def _remove_leftovers(name: str, folder: Path) -> None:
    """Remove a file's temporary ones whose writers were killed."""
    with suppress(OSError):  # another process may be faster
        for temporary in folder.glob(f".{escape(name)}.*.tmp"):
            if _is_leftover(temporary):
                temporary.unlink()


def _is_leftover(temporary: Path) -> bool:
    """Whether the process that wrote a temporary file is gone. Of another machine's, nothing is known: it stays."""
    host, _, process = temporary.suffixes[-2].removeprefix(".").partition("-")
    if host != _HOST or not process.isdecimal():
        return False
    if sys.platform == "win32":  # where to ask for a process by signal 0 is to end it, and an open file cannot go
        return time.time() - temporary.stat().st_mtime > _SURELY_OVER
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's
        return False
    return False


def write_json(path: Path, content: object, scratch: Path | None = None) -> None:
    """Write JSON, indented, by :func:`write_whole`."""
    write_whole(path, lambda file: file.write(json.dumps(content, indent=1).encode() + b"\n"), scratch)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into a clear error that names the path."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Make room or permissions, or choose another folder; "
            "everything finished before is kept."
        ) from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- one process at a time ---


@contextmanager
def locked(folders: Iterable[Path], wait: bool = True) -> Iterator[bool]:
    """Hold the locks of folders, so that no two processes do the same work there; gives whether they are held.

    The system releases a lock with its process, however that ends: none is ever left over. Where the file system has
    no locks, or cannot be written, the work goes on without: files are whole in any case.

    Parameters
    ----------
    wait : whether to wait while other processes hold one of them; if not, False is given where they do
    """
    with ExitStack() as stack:
        # In the same order in every process: no two ever wait for each other.
        paths = sorted({folder / LOCK for folder in folders})
        yield all(stack.enter_context(_holding(path, wait)) for path in paths)


@contextmanager
def _holding(path: Path, wait: bool) -> Iterator[bool]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (file := _take(path)) is None and wait:
            time.sleep(_LOOK_AGAIN)
    except OSError:
        yield True
        return
    try:
        yield file is not None
    finally:
        if file is not None:
            with suppress(OSError):  # Windows keeps it: it is open
                path.unlink()
            file.close()


def _take(path: Path) -> IO[bytes] | None:
    """Return a lock's file, to be held open, or None if another process holds it."""
    while True:
        file = path.open("ab")
        if not _lock(file):
            file.close()
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # its holder removed it since it was opened: it locks nothing any more


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file if no other process has; where there are no locks, everybody has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
