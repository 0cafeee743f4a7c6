"""Archives from strangers: regular files only, inside one folder only, and no more than is reasonable."""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from gaussad_cli.errors import UserError
from gaussad_cli.files import writing

MOST_BYTES = 40_000_000_000  # of all files together, unpacked; MVTec AD has 5 GB
MOST_FILES = 100_000  # MVTec AD has 6,600
_CHUNK = 1 << 20
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error),
    *(EOFError, OSError, NotImplementedError, RuntimeError),
)  # what decoders raise
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # Windows


@dataclass(frozen=True)
class _Member:
    """A file of an archive: its name, whether it is a regular one, and what opens it."""

    name: str
    is_regular: bool
    open: Callable[[], IO[bytes] | None]


def extract(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Write the wanted files of a tar (of any compression) or zip archive below a folder; return their names.

    Every name is looked at before anything of that name is written.

    Parameters
    ----------
    wanted : says of a name whether to write it; what it leaves out is only looked at

    Raises
    ------
    UserError
        If the archive is damaged, or has a name that leads out of the folder, a link, a device, names that differ in
        case only, or more than :data:`MOST_FILES` files or :data:`MOST_BYTES` bytes. Nothing outside the folder is
        ever written.
    """
    names: dict[str, str] = {}
    room = MOST_BYTES
    try:
        with _members(archive) as members, _bar(archive) as bar:
            for member in members:
                name = _checked(member, archive, names)
                if wanted(name):
                    room -= _write(member, folder / name, room, archive)
                    bar.update()
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{archive} is damaged or no archive ({reason}): remove it and download it again.") from None
    return [name for name in names.values() if wanted(name)]


def _bar(archive: Path) -> tqdm[None]:
    return tqdm(desc=f"extract {archive.name}", unit="file", disable=None, dynamic_ncols=True)


class _Members:
    """The files of an open archive, as a context."""

    def __init__(self, archive: Path) -> None:
        self._is_zip = zipfile.is_zipfile(archive)
        self._file: zipfile.ZipFile | tarfile.TarFile = (
            zipfile.ZipFile(archive) if self._is_zip else tarfile.open(archive, "r:*")  # noqa: SIM115 (closed below)
        )

    def __enter__(self) -> Iterator[_Member]:
        return self._of_zip(self._file) if isinstance(self._file, zipfile.ZipFile) else self._of_tar(self._file)

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @staticmethod
    def _of_tar(file: tarfile.TarFile) -> Iterator[_Member]:
        for info in file:
            if not info.isdir():
                yield _Member(info.name, info.isreg(), lambda info=info: file.extractfile(info))  # type: ignore[misc]

    @staticmethod
    def _of_zip(file: zipfile.ZipFile) -> Iterator[_Member]:
        for info in file.infolist():
            if not info.is_dir():
                kind = stat.S_IFMT(info.external_attr >> 16)
                regular = kind in (0, stat.S_IFREG) and not info.flag_bits & 1  # 1: encrypted
                yield _Member(info.orig_filename, regular, lambda info=info: file.open(info))  # type: ignore[misc]


def _members(archive: Path) -> _Members:
    return _Members(archive)


def _checked(member: _Member, archive: Path, names: dict[str, str]) -> str:
    """Return a member's name in one form; note it among those seen."""
    if not member.is_regular:
        raise UserError(
            f"{archive}: '{member.name!a}' is a link, a device or encrypted, which no data set needs. {_DISTRUST}"
        )
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    bad = path.is_absolute() or not parts or any(map(_is_bad, parts))
    if bad:
        raise UserError(f"{archive}: {member.name!a} would be written outside, or cannot be a file's name. {_DISTRUST}")
    name = "/".join(parts)
    if name.casefold() in names:
        raise UserError(f"{archive}: {name!a} is there twice, or differs from another name in case only. {_DISTRUST}")
    names[name.casefold()] = name
    if len(names) > MOST_FILES:
        raise UserError(f"{archive} has more than {MOST_FILES} files. {_DISTRUST}")
    return name


def _is_bad(part: str) -> bool:
    """Whether a part of a name means something else on some system."""
    return (
        part == ".."
        or part != part.rstrip(". ")
        or part.split(".", maxsplit=1)[0].casefold() in _RESERVED
        or any(
            character in '\\:*?"<>|' or ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in part
        )
    )


def _write(member: _Member, path: Path, room: int, archive: Path) -> int:
    """Write one file, as long as there is room; return its bytes."""
    source = member.open()
    if source is None:
        raise UserError(f"{archive}: {member.name!a} is no regular file. {_DISTRUST}")
    written = 0
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.open("xb")
    with source, target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > room:
                raise UserError(f"{archive} unpacks to more than {MOST_BYTES} bytes. {_DISTRUST}")
            with writing(path):
                target.write(chunk)
    return written


_DISTRUST = "This is not the published archive: nothing of it is used."
