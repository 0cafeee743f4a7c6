"""One archive from the web: download it, going on where an earlier attempt stopped, and extract it within limits."""

from __future__ import annotations

import http.client
import lzma
import shutil
import stat
import struct
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tqdm import tqdm

from gaussad_cli.errors import UserError
from gaussad_cli.files import writing

Say = Callable[[str], object]  # shows the user a message

MOST_BYTES = 20_000_000_000  # of an archive, packed or unpacked; MVTec AD has 5 GB
MOST_MEMBERS = 100_000  # files and folders; VisA, the largest data set, has about 12,000
_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 18
_MAY_PASS = (408, 416, 425, 429)  # client errors that another attempt may not meet; server errors count, too
_DAMAGED = (  # what the standard library raises when it reads a damaged archive
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, ValueError, OverflowError, RuntimeError),
)


# --- download ---


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https only, and never from https down to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith("https://" if req.type == "https" else ("https://", "http://")):
            raise UserError(f"{req.full_url} redirects to {newurl!a:.200}, which is not safe to download from.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, path: Path, say: Say, page: str, spare: float = 0.0) -> None:
    """Download a file; if an earlier download of it was interrupted, request only the rest.

    Parameters
    ----------
    page : where the user can look for a newer address
    spare : disk space needed besides the file, as a multiple of the file's size

    Raises
    ------
    UserError
        If the server refuses, the disk is too small, or the connection fails again and again.
    """
    part = path.with_name(f"{path.name}.part")
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    for pause in (*_PAUSES, None):
        try:
            _fetch_rest(url, part, spare)
            break
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            code = error.code if isinstance(error, urllib.error.HTTPError) else None
            if code == 416:  # the part is longer than the file, so it belongs to another one
                part.unlink(missing_ok=True)
            if pause is None or (code and code < 500 and code not in _MAY_PASS):
                raise UserError(
                    f"cannot download {url} ({reason}). Run the same command again to go on, or look for a newer "
                    f"address on {page} and pass it with --url."
                ) from None
        say(f"{reason}: trying again in {pause:.0f} s.")
        time.sleep(pause)
    with writing(path):
        part.replace(path)
        _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    """Return the file that says which version of the archive a part belongs to: the server's ETag or date."""
    return part.with_name(f"{part.name}.version")


def _fetch_rest(url: str, part: Path, spare: float) -> None:
    """Request what is missing of a file and append it; start over if the server sends the whole file."""
    version = _version_file(part).read_text("latin-1").strip() if _version_file(part).is_file() else ""
    start = part.stat().st_size if version and part.is_file() else 0
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
    request = urllib.request.Request(url, headers={"User-Agent": "gaussad", **headers})
    with urllib.request.build_opener(_SafeRedirects).open(request, timeout=_TIMEOUT) as response:
        if response.headers.get_content_type() == "text/html":
            raise UserError(f"{url} is a page for a browser, not an archive: pass the archive's address with --url.")
        is_rest = str(response.headers.get("Content-Range")).startswith(f"bytes {start}-")
        if response.status != 206 or not is_rest:
            with writing(part):
                part.unlink(missing_ok=True)  # first: an old part must never be paired with the new version
                _version_file(part).write_text(_version(response), "latin-1")
            if response.status == 206:
                raise ConnectionError("the server sent another part of the file than the requested one")
        _receive(response, part, spare)


def _version(response: Any) -> str:
    """Return what an If-Range header may name: a strong ETag or else the date; "" if the server sends neither."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _receive(response: Any, part: Path, spare: float) -> None:
    """Append a response to a part, if there is room for it."""
    with writing(part):
        file = part.open("ab", buffering=0)  # a buffer that a full disk refuses would fail again on closing
    with file:
        start = file.tell()
        total = None if response.length is None else start + response.length
        free = shutil.disk_usage(part.parent).free
        if total and total - start + total * spare > free:
            raise UserError(
                f"{part.parent} has {free / 1e9:.1f} GB free, but {(total - start) / 1e9:.1f} GB are needed for the "
                f"archive and about {total * spare / 1e9:.1f} GB for its images: make room, or choose another folder."
            )
        with tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read1(_CHUNK):
                if file.tell() + len(chunk) > MOST_BYTES:
                    raise UserError(f"{part.stem} has more than {MOST_BYTES:,} bytes, which no data set needs.")
                with writing(part):
                    file.write(chunk)
                bar.update(len(chunk))
        if total and file.tell() < total:
            raise ConnectionError("the connection ended early")


# --- extract ---


class _Member(NamedTuple):
    """A file, a folder, or else (a link, a device) neither; `extract` writes it below a folder."""

    name: str
    is_file: bool
    is_folder: bool
    size: int  # bytes, unpacked
    extract: Callable[[Path], object]


def extract(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Write the wanted files of a tar archive (plain, xz, gzip or bzip2) or zip archive below a folder.

    Returns the names of the files written, with ``/`` between folders. Every member is checked, wanted or not.

    Raises
    ------
    UserError
        If the archive is damaged, has anything but regular files and folders, a name that leads out of the folder, or
        more than :data:`MOST_MEMBERS` members or :data:`MOST_BYTES` bytes; or if the folder cannot be written.
    """
    names: list[str] = []
    total = 0
    with _decoding(archive, folder):
        for number, member in enumerate(tqdm(_members(archive), f"extract {archive.name}", unit="file", disable=None)):
            total += abs(member.size)  # a forged header may have a negative size
            if number >= MOST_MEMBERS or total > MOST_BYTES:
                raise _refusal(archive, f"unpacks to more than {MOST_MEMBERS:,} files or {MOST_BYTES:,} bytes")
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise _refusal(archive, f"has {member.name[:200]!a}, which leads out of the folder")
            if not (member.is_file or member.is_folder):
                raise _refusal(archive, f"has {member.name[:200]!a}, a link or a device")
            if member.is_file and wanted(str(path)):
                member.extract(folder)
                names.append(str(path))
    return names


def _refusal(archive: Path, reason: str) -> UserError:
    return UserError(
        f"{archive} {reason}. This is not the archive as published, so nothing of it is used: remove it, and pass the "
        "address of the right one with --url."
    )


@contextmanager
def _decoding(archive: Path, folder: Path) -> Iterator[None]:
    """Turn the errors of reading an archive and of writing its files into clear messages."""
    try:
        with writing(folder):
            try:
                yield
            except OSError as error:
                if error.errno is not None:  # the decompressors' own errors have none
                    raise
                raise tarfile.ReadError(str(error)) from None
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{archive} is damaged or not an archive ({reason}): remove it, and run again to download it again."
        ) from None


def _members(archive: Path) -> Iterator[_Member]:
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.3 has none
            for entry in tar:
                write = partial(tar.extract, entry, set_attrs=False)
                yield _Member(entry.name, entry.isreg(), entry.isdir(), entry.size, write)
            # Archives end with two blocks of zeros. tarfile has read one, or a missing or broken header instead of it.
            if tar.fileobj is None or tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early or has a broken header")
    else:
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                expected = stat.S_IFDIR if info.is_dir() else stat.S_IFREG
                is_plain = stat.S_IFMT(info.external_attr >> 16) in (0, expected)  # 0 if not packed on Unix
                is_file, is_folder = is_plain and not info.is_dir(), is_plain and info.is_dir()
                yield _Member(info.filename, is_file, is_folder, info.file_size, partial(file.extract, info))
