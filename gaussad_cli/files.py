"""Whole files only: written to a temporary name, fsynced, renamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gaussad_cli.errors import UserError


def write_whole(path: Path, write: Callable[[IO[bytes]], object], scratch: Path | None = None) -> None:
    """Call `write` on a temporary file, then put it in place: a file that is there is whole.

    Parameters
    ----------
    scratch : folder of the temporary file, on the same disk; beside `path` if None. What a killed process leaves, it
        leaves there.

    Raises
    ------
    UserError
        If the folder cannot be written or is full; nothing is left behind.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{os.getpid()}.tmp"
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
