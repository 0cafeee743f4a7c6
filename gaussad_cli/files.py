"""Files that are always complete (written under a temporary name, fsynced, renamed), and locks on folders."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from filelock import BaseFileLock, FileLock, Timeout

from gaussad_cli.errors import UserError

# Process numbers identify writers on one machine only, and several machines or containers may share a cache.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_ABANDONED = 3600  # seconds without a write after which a temporary file counts as abandoned, on Windows
_TEMPORARY_BYTES = 100  # of the name of a file in that of its temporary file
LOCK = ".lock"  # file in a folder that a process works in; it is removed with the lock


def write_whole(path: Path, write: Callable[[IO[bytes]], object], scratch: Path | None = None) -> None:
    """Call `write` on a temporary file and rename it: a file that exists is always complete.

    A link is followed, and a file that is replaced keeps its mode and owner.

    Parameters
    ----------
    scratch : folder of the temporary file, on the same disk; the folder of `path` if None. A killed process leaves its
        temporary file there until the same file is written again.

    Raises
    ------
    UserError
        If the path is a device or a pipe, the folder cannot be written or the disk is full; nothing is left behind.
    """
    with writing(path):
        if path.exists() and not (path.is_file() or path.is_dir()):  # the renaming would replace even /dev/null
            raise UserError(f"cannot write {path}: it is a device or a pipe. Choose the name of a file.")
        if path.is_symlink():
            path, scratch = Path(os.path.realpath(path)), None  # the file may be on another disk than the link
            if path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        temporary = (scratch or path.parent) / f"{_temporary_start(path)}{os.getpid()}.tmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            _put(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    with suppress(OSError):  # another process may have removed it already
        for other in temporary.parent.glob(f"{escape(_temporary_start(path))}*.tmp"):
            if _is_leftover(other):
                other.unlink()


def _temporary_start(path: Path) -> str:
    """Return how the names of temporary files begin; they fit where the file's own name fits."""
    return f".{fit_name(path.name, most=_TEMPORARY_BYTES)}.{_HOST}-"


def _put(temporary: Path, path: Path) -> None:
    """Rename a temporary file to its final name, with the mode and the owner of the file that it replaces."""
    if path.is_file():
        old, new = path.stat(), temporary.stat()
        try:
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                os.chown(temporary, old.st_uid, old.st_gid)
            temporary.chmod(stat.S_IMODE(old.st_mode))
        except PermissionError:  # only root may give files away: the content goes into the other user's file
            shutil.copyfile(temporary, path)
            return
    temporary.replace(path)


def fit_name(name: str, suffix: str = "", most: int = 255) -> str:
    """Return a file's name with a suffix; a name that would be too long is cut, and a digest tells it from others.

    Parameters
    ----------
    most : bytes; file systems allow 255
    """
    if len(os.fsencode(name + suffix)) <= most:
        return name + suffix
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    room = max(0, most - len(os.fsencode(suffix)) - len(digest) - 1)
    return f"{os.fsencode(name)[:room].decode('utf-8', 'ignore')}~{digest}{suffix}"


def is_name(text: str) -> bool:
    """Return whether a text names something in a folder, and nothing anywhere else."""
    return text not in ("", ".", "..") and not set(text) & set("/\\\0") and not Path(text).drive


def _is_leftover(temporary: Path) -> bool:
    """Whether the process of this machine that wrote a temporary file has ended."""
    process = temporary.stem.rpartition("-")[2]
    if sys.platform == "win32":  # where os.kill would end the process
        return time.time() - temporary.stat().st_mtime > _ABANDONED
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (ValueError, PermissionError):  # not a temporary file of gaussad's, or another user's process
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
    """Lock folders, so that no two processes do the same work in them; yield whether all of them are locked.

    The operating system releases the locks of a process that ends, however it ends. Where the file system has no locks
    or cannot be written, the work goes on without them: files are written whole in any case.

    Parameters
    ----------
    wait : whether to wait for other processes that hold a lock; if not, False is yielded when one does
    """
    with ExitStack() as held:
        is_ours = True
        for path in sorted({folder / LOCK for folder in folders}):  # sorted: no two processes wait for each other
            lock = FileLock(path, blocking=wait, fallback_to_soft=False)  # a soft lock would outlive a killed process
            try:
                lock.acquire()
            except Timeout:
                is_ours = False
                break
            except OSError:
                continue
            held.callback(_release, lock, path)
        yield is_ours


def _release(lock: BaseFileLock, path: Path) -> None:
    """Release a lock and remove its file; filelock takes no lock on a file that was removed while it waited."""
    with suppress(OSError):  # Windows keeps open files; filelock removes this one there
        path.unlink()
    lock.release()
