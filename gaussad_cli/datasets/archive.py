"""Archives from strangers: regular files only, inside one folder only, and no more than is reasonable."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

from tqdm import tqdm

from gaussad_cli.errors import UserError
from gaussad_cli.files import writing

MOST_BYTES = 20_000_000_000  # of all files together, unpacked; MVTec AD has 5 GB
MOST_MEMBERS = 100_000  # files and folders; VisA, the largest, has some 12,000
MOST_LETTERS = 500  # of a name; deeper folders than anybody's
MOST_HEADERS = 1 << 20  # bytes between a file of a tar archive and the next; a header is 512, a long name's some more
MOST_DIRECTORY = 64 << 20  # bytes of a zip archive's table of contents; some 100 a file
_CHUNK = 1 << 20
_DAMAGED = (  # what the decoders of the standard library raise
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, OSError, ValueError, OverflowError, RuntimeError),  # NotImplementedError is a RuntimeError
)
_COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], Any]] = {  # of tar archives, by how they begin
    b"\xfd7zXZ\0": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}
_ZIP = b"PK\3\4"
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # Windows

Kind = Literal["file", "folder", "other"]


class _Refused(Exception):  # noqa: N818 (turned into a UserError where the archive is known)
    """An archive has what no honest one has."""


@dataclass(frozen=True)
class _Member:
    """What an archive says it holds.

    Attributes
    ----------
    size : bytes, unpacked
    open : what reads it, while it is the present one
    behind : bytes of the archive that are behind it
    """

    name: str
    kind: Kind
    size: int
    open: Callable[[], IO[bytes] | None]
    behind: int


def extract(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Write the wanted files of a tar (plain, xz, gzip, bzip2) or zip archive below a folder; return their names.

    The archive is read once, from its beginning to its end; every name is looked at, and nothing is written of one that
    could lead out of the folder.

    Parameters
    ----------
    wanted : says of a name whether to write it; what it leaves out is only looked at

    Raises
    ------
    UserError
        If the archive is damaged or ends early, or has a link, a device, a name that leads out of the folder or that
        some system takes for another's, or more than :data:`MOST_MEMBERS` files and folders or :data:`MOST_BYTES`.
    """
    names: list[str] = []
    seen: dict[str, tuple[str, bool]] = {}
    room = MOST_BYTES
    try:
        with closing(_members(archive)) as members, bytes_bar(f"extract {archive.name}", archive.stat().st_size) as bar:
            for number, member in enumerate(members):
                room -= _check_amount(number, member, room)
                name = _checked_name(member, seen)
                if member.kind == "file" and wanted(name):
                    _write(member, folder / name, archive)
                    names.append(name)
                bar.update(member.behind - bar.n)
    except _Refused as reason:
        raise UserError(
            f"{archive} {reason}. This is not the archive as published, and nothing of it is used: remove it, and give "
            "the address of the right one with --url."
        ) from None
    return names


@contextmanager
def _decoding(archive: Path) -> Iterator[None]:
    """Turn what decoders raise into a clear error."""
    try:
        yield
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{archive} is damaged or no archive ({reason}): remove it, and run again to download it again."
        ) from None


def bytes_bar(what: str, total: int | None, start: int = 0) -> tqdm[None]:
    """Return a progress bar of bytes, on stderr; none where that is no terminal."""
    return tqdm(desc=what, total=total, initial=start, unit="B", unit_scale=True, disable=None, dynamic_ncols=True)


def _write(member: _Member, path: Path, archive: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            for chunk in _chunks(member, archive):
                target.write(chunk)


def _chunks(member: _Member, archive: Path) -> Iterator[bytes]:
    """Read a file of an archive; what is wrong with the archive is not taken for what is wrong with the disk."""
    with _decoding(archive):
        source = member.open()
        assert source is not None  # it is a regular file
        with source:
            while chunk := source.read(_CHUNK):
                yield chunk


# --- what is refused ---


def _check_amount(number: int, member: _Member, room: int) -> int:
    """Return a member's bytes, if there may be so many."""
    if number >= MOST_MEMBERS:
        raise _Refused(f"has more than {MOST_MEMBERS:,} files and folders")
    if not 0 <= member.size <= room:
        raise _Refused(f"would unpack to more than {MOST_BYTES:,} bytes")
    return member.size


def _checked_name(member: _Member, seen: dict[str, tuple[str, bool]]) -> str:
    """Return a member's name in one form; note it, and the folders it is in, among those seen.

    Parameters
    ----------
    seen : names as systems that ignore case and Unicode's form see them -> the name, whether it is a folder's
    """
    said = f"{member.name[:MOST_LETTERS]!a}"
    if member.kind == "other":
        raise _Refused(f"has {said}, a link, a device, a sparse or an encrypted file, which no data set needs")
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or any(map(_is_bad, parts)) or len(member.name) > MOST_LETTERS:
        raise _Refused(f"has {said}, which would be written outside, or can be no file's name on some system")
    if not parts and member.kind == "file":
        raise _Refused("has a file without a name")
    for depth in range(1, len(parts) + 1):
        entry = ("/".join(parts[:depth]), depth < len(parts) or member.kind == "folder")
        before = seen.setdefault(_as_seen(entry[0]), entry)
        if before != entry or (before is not entry and not entry[1]):
            raise _Refused(f"has {said} twice, or beside a name that some systems take for the same")
    return "/".join(parts)


def _is_bad(part: str) -> bool:
    """Whether a part of a name means something else on some system."""
    return (
        part == ".."
        or part != part.rstrip(". ")
        or part.split(".", maxsplit=1)[0].rstrip().casefold() in _RESERVED
        or any(letter in '\\:*?"<>|' or ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in part)
    )


def _as_seen(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


# --- what archives hold ---


def _members(archive: Path) -> Generator[_Member, None, None]:
    with _decoding(archive), archive.open("rb") as file:
        head = file.read(len(max(_COMPRESSIONS, key=len)))
        file.seek(0)
        if head.startswith(_ZIP):
            yield from _of_zip(archive)
            return
        for magic, decompress in _COMPRESSIONS.items():
            if head.startswith(magic):
                with decompress(file) as stream:
                    yield from _of_tar(stream, file.tell)
                return
        yield from _of_tar(file, file.tell)


class _Forward:
    """What tarfile reads from: only forward, and not beyond a limit, whatever a header says.

    A name or a table in a header is read into memory, whole: a few compressed bytes can claim gigabytes of it.

    Attributes
    ----------
    limit : the last position that may be read, in bytes
    last : what was read last
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.limit, self.last = stream, MOST_HEADERS, b""

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        self._allow(size, self.tell() + size)
        self.last = self._stream.read(size)
        return self.last

    def seek(self, position: int) -> None:
        self._allow(position - self.tell(), position)
        self._stream.seek(position)

    def _allow(self, step: int, end: int) -> None:
        if step < 0 or end > self.limit:
            raise tarfile.ReadError(f"a header that leads back, or takes more than {MOST_HEADERS} bytes")


def _of_tar(stream: IO[bytes], behind: Callable[[], int]) -> Iterator[_Member]:
    forward = _Forward(stream)
    with tarfile.open(fileobj=cast(IO[bytes], forward), mode="r:") as tar:
        for info in tar:
            forward.limit = info.offset_data + info.size + MOST_HEADERS
            yield _Member(info.name, _kind_in_tar(info), info.size, partial(tar.extractfile, info), behind())
    if forward.last != bytes(tarfile.BLOCKSIZE):  # tarfile takes a broken header for the end
        raise tarfile.ReadError("it ends early, or has a broken header")
    forward.limit = forward.tell() + MOST_HEADERS  # only zeros follow, and what decompression ends with: a check sum
    while forward.read(tarfile.RECORDSIZE):
        pass


def _kind_in_tar(info: tarfile.TarInfo) -> Kind:
    if info.isdir():
        return "folder"
    return "file" if info.isreg() and not info.issparse() else "other"


class _Sized(io.BufferedReader):
    """What zipfile reads from: no more at once than a table of contents has."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_DIRECTORY:
            raise zipfile.BadZipFile(f"a table of contents of more than {MOST_DIRECTORY} bytes")
        return super().read(size)


def _of_zip(path: Path) -> Iterator[_Member]:
    behind = 0
    with _Sized(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            behind += info.compress_size
            # As it is in the archive: zipfile cuts a name at a zero byte, and on Windows mends backslashes.
            name = info.orig_filename
            yield _Member(name, _kind_in_zip(info), info.file_size, partial(archive.open, info), behind)


def _kind_in_zip(info: zipfile.ZipInfo) -> Kind:
    kind, encrypted = stat.S_IFMT(info.external_attr >> 16), bool(info.flag_bits & 1)
    if info.is_dir():
        return "folder" if kind in (0, stat.S_IFDIR) else "other"
    return "file" if kind in (0, stat.S_IFREG) and not encrypted else "other"


# --- masks ---


def write_mask(source: Path, target: Path) -> None:
    """Write a mask as MVTec AD has them: a PNG file, 255 wherever the mask's value is any but 0.

    VisA numbers the kinds of defect from 1 on; gaussad, like others, takes a pixel for masked from 128 on.

    Raises
    ------
    UserError
        If it is no image, or cannot be written.
    """
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(source.read_bytes() or b"\0", np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError(f"the mask {target.name} is no image: the archive is damaged, or not the published one.")
    _, png = cv2.imencode(".png", np.where(pixels.any(axis=2), 255, 0).astype(np.uint8))
    with writing(target):
        target.write_bytes(png.tobytes())
