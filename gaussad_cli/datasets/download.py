"""Data sets from where their owners publish them: resumed where it was interrupted, verified, in the MVTec layout."""

from __future__ import annotations

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gaussad_cli.datasets.archive import extract
from gaussad_cli.datasets.layouts import LAYOUTS, Layout
from gaussad_cli.errors import UserError, did_you_mean, interruptible
from gaussad_cli.files import sha256_of, write_json, writing


@dataclass(frozen=True)
class Source:
    """Where a data set is published, and under what terms.

    Attributes
    ----------
    sha256 : of the archive; "" where none was published that gaussad could verify
    """

    name: str
    holder: str
    licence: str
    terms: str
    url: str
    sha256: str
    layout: Layout


SOURCES = {
    "mvtec": Source(
        "MVTec AD",
        "MVTec Software GmbH",
        "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/",
        "Name the authors; no commercial use; pass it on under the same licence only.",
        "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
        "mvtec_anomaly_detection.tar.xz",
        "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        LAYOUTS["mvtec"],
    ),
    "visa": Source(
        "VisA",
        "Amazon.com, Inc. or its affiliates",
        "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
        "Name the authors.",
        "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
        "",
        LAYOUTS["visa"],
    ),
    "btad": Source(
        "BTAD",
        "beanTech srl; University of Udine, AVIRES lab",
        "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/",
        "Name the authors; no commercial use; pass it on under the same licence only.",
        "http://avires.dimi.uniud.it/papers/btad/btad.zip",
        "",
        LAYOUTS["btad"],
    ),
}
_ATTEMPTS = 5  # without a byte more, until the connection is given up
_PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 18


def find_source(name: str) -> Source:
    """Return the source of a data set.

    Raises
    ------
    UserError
        If it is unknown.
    """
    if name.lower() not in SOURCES:
        raise UserError(f"unknown data set '{name}'.{did_you_mean(name, SOURCES)} Known: {', '.join(SOURCES)}.")
    return SOURCES[name.lower()]


def download(
    source: Source,
    folder: Path,
    categories: Sequence[str] | None,
    url: str | None,
    sha256: str | None,
    say: Callable[[str], object],
) -> list[Path]:
    """Download a data set and put its categories into a folder, in the MVTec layout; return their folders.

    What is there is not fetched again. The archive stays until all that was wanted of it is extracted.

    Parameters
    ----------
    categories : only these; None for all
    url, sha256 : instead of the source's own
    say : is told what a person should know

    Raises
    ------
    UserError
        If it cannot be fetched, is not the archive that it should be, lacks a category, or there is no room.
    Interrupted
        On Ctrl-C: what was fetched is kept.
    """
    address, wanted = url or source.url, (sha256 or source.sha256).lower()
    if categories and all((folder / name).is_dir() for name in categories):
        return [folder / name for name in categories]
    archive = folder / address.rsplit("/", maxsplit=1)[-1].split("?", maxsplit=1)[0]
    with interruptible(f"interrupted. What was fetched is kept beside {archive}: run the same command again to go on."):
        if not archive.is_file():
            fetch(address, archive)
        _verify(archive, wanted, say)
        return _unpack(archive, folder, source.layout, categories)


def _verify(archive: Path, wanted: str, say: Callable[[str], object]) -> None:
    """Compare an archive with the published hash, or else with what the last download of it had."""
    got, record = sha256_of(archive), archive.with_name(f"{archive.name}.sha256")
    if not wanted:
        with suppress(OSError, ValueError):
            wanted = record.read_text("ascii").strip()
        say(f"No published hash of {archive.name} is known to gaussad. This one's SHA-256 is {got}.")
    if wanted and got != wanted:
        aside = archive.with_name(f"{archive.name}.wrong")
        with writing(aside):
            archive.replace(aside)
        raise UserError(
            f"{archive.name} has the SHA-256 {got}, not {wanted}: it is kept as {aside}. Download it again, or give "
            "the address of the right one with --url (and its --sha256)."
        )
    with writing(record):
        record.write_text(f"{got}\n", "ascii")


def _unpack(archive: Path, folder: Path, layout: Layout, categories: Sequence[str] | None) -> list[Path]:
    """Extract into a temporary folder, arrange there, and rename category by category: what is there is whole."""
    scratch = folder / f".{archive.name}.extracted"
    shutil.rmtree(scratch, ignore_errors=True)
    there = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    needed = None if categories is None else set(categories) - there
    try:
        names = extract(archive, scratch, lambda name: layout.belongs(name, needed))
        arranged = layout.arrange(scratch, names, needed)
        found = sorted({target.split("/", maxsplit=1)[0] for target in arranged.values()} | there)
        if missing := sorted(set(categories or ()) - set(found)):
            raise UserError(f"{archive.name} has no category {', '.join(missing)}. It has: {', '.join(found)}.")
        done = _put_in_place(scratch, folder, arranged)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [folder / name for name in (categories or done)]


def _put_in_place(scratch: Path, folder: Path, arranged: Mapping[str, str]) -> list[str]:
    """Move files to where the MVTec layout has them."""
    for name, target in arranged.items():
        path = scratch / ".arranged" / target
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).replace(path)
    categories = sorted({target.split("/", maxsplit=1)[0] for target in arranged.values()})
    for name in categories:
        if not (folder / name).exists():
            with writing(folder / name):
                (scratch / ".arranged" / name).rename(folder / name)
    return categories


# --- fetching ---


def fetch(url: str, path: Path) -> None:
    """Fetch a file, going on where an attempt before ended, if the server still has the same file.

    Raises
    ------
    UserError
        If the server says no, there is no room, or the connection fails again and again.
    """
    part = path.with_name(f"{path.name}.part")
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(part)
        try:
            if _attempt(url, part):
                break
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise UserError(f"{url} answers {error.code} {error.reason}. {_ELSEWHERE}") from None
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures >= _ATTEMPTS:
            raise UserError(f"cannot fetch {url} ({reason}). What was fetched is kept: run again. {_ELSEWHERE}")
        time.sleep(_PAUSE * 2 ** max(0, failures - 1))
    with writing(path):
        part.replace(path)
        _note_of(part).unlink(missing_ok=True)


_ELSEWHERE = "Addresses of data sets move: give the present one with --url."


def _attempt(url: str, part: Path) -> bool:
    """Fetch what is missing; return whether the file is complete now."""
    if not url.lower().startswith(("http://", "https://", "ftp://")):
        raise UserError(f"{url} is no address to download from: wanted is https://...")
    start, note = _size(part), _read_note(part)
    validator = note.get("validator") if note.get("url") == url else None
    headers = {"User-Agent": "gaussad"}
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": str(validator)}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # what is there is longer than the file: it is another's
            part.unlink(missing_ok=True)
            return False
        raise
    with response:
        start = _resumed_at(response, start)
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        usable = validator if validator and not validator.startswith("W/") else None
        write_json(_note_of(part), {"url": url, "validator": usable})
        if total is not None:
            _check_room(part, total - start)
        return _copy(response, part, start, total)


def _resumed_at(response: Any, start: int) -> int:
    """Return from which byte on the server sends: one that ignores the request sends the whole file."""
    if response.status != 206:
        return 0
    sent = str(response.headers.get("Content-Range", ""))
    return start if sent.startswith(f"bytes {start}-") else 0


def _copy(response: Any, part: Path, start: int, total: int | None) -> bool:
    with writing(part):
        file = part.open("r+b" if start else "wb")
    with (
        file,
        tqdm(
            desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None, dynamic_ncols=True
        ) as bar,
    ):
        file.seek(start)
        file.truncate()
        while chunk := response.read(_CHUNK):
            with writing(part):
                file.write(chunk)
            bar.update(len(chunk))
        return total is None or file.tell() == total


def _check_room(part: Path, missing: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise UserError(
            f"{part.parent} has {free / 1e9:.1f} GB free, and {missing / 1e9:.1f} GB are missing: make room."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(_note_of(part).read_text("utf-8"))
        if isinstance(content, dict):
            return content
    return {}
