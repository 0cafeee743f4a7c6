"""One large file over HTTP: resumed where an attempt before ended, if the server still has the same file."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gaussad_cli.datasets.archive import bytes_bar
from gaussad_cli.errors import UserError
from gaussad_cli.files import write_json, writing

Say = Callable[[str], object]  # is told what a person should know

_ATTEMPTS = 5  # in a row without a byte more than ever before, until the connection is given up
_PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 18
_TRY_AGAIN = (408, 425, 429)  # refusals that may be others in a moment; and all from 500 on


def checked_url(url: str) -> str:
    """Return an address if one can download from it.

    Raises
    ------
    UserError
        If it is of another kind than http or https, or is none at all.
    """
    with suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and re.fullmatch("[!-~]+", url):
            return url
    raise UserError(f"{url!a:.200} is no address to download from: wanted is https://...")


class _Broken(Exception):  # noqa: N818 (of no concern to the user, until there were too many)
    """A connection failed; another one may do better."""


def fetch(url: str, path: Path, say: Say, page: str, spare: float = 0.0) -> None:
    """Fetch a file, going on where an attempt before ended, if the server still has the same file.

    Parameters
    ----------
    page : where to find a better address
    spare : room needed on the disk besides the file's, as a multiple of it

    Raises
    ------
    UserError
        If the server says no, there is no room, or the connection fails again and again.
    """
    part = path.with_name(f"{path.name}.part")
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = f"Addresses of data sets move: look at {page}, and give the present one with --url."
    furthest, failures = 0, 0
    while True:
        try:
            _attempt(url, part, spare, elsewhere)
            break
        except _Broken as error:
            reason = str(error)
        failures = 0 if _size(part) > furthest else failures + 1
        furthest = max(furthest, _size(part))
        if failures >= _ATTEMPTS:
            raise UserError(f"cannot fetch {url} ({reason}). What was fetched is kept: run again. {elsewhere}")
        pause = _PAUSE * 2 ** max(0, failures - 1)
        say(f"{reason}: trying again in {pause:.0f} s, from {_size(part) / 1e6:.1f} MB on.")
        time.sleep(pause)
    with writing(path):
        part.replace(path)
        _note_of(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, spare: float, elsewhere: str) -> None:
    """Fetch what is missing."""
    start, note = _size(part), _read_note(part, url)
    if start and start == note.get("total"):
        return
    headers = {}
    if start and note.get("validator"):
        headers = {"Range": f"bytes={start}-", "If-Range": note["validator"]}
    with _open(url, headers, part, elsewhere) as response:
        if response.status == 206:
            _check_continues(response, part, start, note)
        elif response.headers.get_content_type() == "text/html":
            raise UserError(f"{url} is a page to be read in a browser, not an archive. {elsewhere}")
        else:
            with writing(part):
                part.unlink(missing_ok=True)  # first: a head of another file must never go with this one's note
            start, note = 0, {"url": url, "validator": _validator(response), "total": _number(response)}
            write_json(_note_of(part), note)
        _receive(response, part, start, note.get("total"), spare)


def _open(url: str, headers: Mapping[str, str], part: Path, elsewhere: str) -> Any:
    """Send a request; say of a refusal whether another attempt may do better."""
    request = urllib.request.Request(url, headers={"User-Agent": "gaussad", **headers})
    try:
        return urllib.request.build_opener().open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is there is longer than the file: it is another's
            part.unlink(missing_ok=True)
        elif error.code < 500 and error.code not in _TRY_AGAIN:
            raise UserError(f"{url} answers {error.code} {error.reason}. {elsewhere}") from None
        raise _Broken(f"the server answers {error.code} {error.reason}") from None
    except http.client.InvalidURL as error:
        raise UserError(f"{url} is no address to download from ({error}).") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(getattr(error, "reason", None) or error) or type(error).__name__) from None


def _check_continues(response: Any, part: Path, start: int, note: Mapping[str, Any]) -> None:
    """See that what the server sends follows what is there; if it does not, what is there is given up."""
    sent = re.match(r"bytes (\d+)-\d+/(\d+|\*)", str(response.headers.get("Content-Range", "")))
    same_file = _validator(response) in (None, note.get("validator"))
    same_size = sent is not None and (sent[2] == "*" or note.get("total") in (None, int(sent[2])))
    if sent is None or int(sent[1]) != start or not same_file or not same_size:
        part.unlink(missing_ok=True)
        raise _Broken("the file on the server is another one meanwhile")


def _validator(response: Any) -> str | None:
    """Return what tells a file from a later one of the same address, if the server says something that does."""
    tag = response.headers.get("ETag")
    return str(tag) if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _number(response: Any) -> int | None:
    length = str(response.headers.get("Content-Length", ""))
    return int(length) if length.isdecimal() else None


def _receive(response: Any, part: Path, start: int, total: int | None, spare: float) -> None:
    if total is not None:
        _check_room(part.parent, total - start, total * spare)
    with writing(part), part.open("ab") as file, bytes_bar(part.stem, total, start) as bar:
        for chunk in _chunks(response):
            file.write(chunk)
            bar.update(len(chunk))
        end = file.tell()
    if total is not None and end < total:
        raise _Broken("the connection ended early")


def _chunks(response: Any) -> Iterator[bytes]:
    """Read an answer; what is wrong with the connection is not taken for what is wrong with the disk."""
    try:
        while chunk := response.read1(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection ended early ({str(error) or type(error).__name__})") from None


def _check_room(folder: Path, missing: float, unpacked: float) -> None:
    free = shutil.disk_usage(folder).free
    if missing + unpacked > free:
        raise UserError(
            f"{folder} has {free / 1e9:.1f} GB free; wanted are {missing / 1e9:.1f} GB for the archive and about "
            f"{unpacked / 1e9:.1f} GB for its images: make room, or choose another folder with --data."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path, url: str) -> dict[str, Any]:
    """Return what the server said of the file whose head is there; nothing if it is not this address's."""
    with suppress(OSError, ValueError, TypeError, LookupError):
        note: dict[str, Any] = json.loads(_note_of(part).read_text("utf-8"))
        if note["url"] == url and isinstance(note["total"], int | None) and isinstance(note["validator"], str | None):
            return note
    return {}
