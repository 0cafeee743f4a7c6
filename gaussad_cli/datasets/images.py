"""The images of a folder: the one rule that every command follows.

An image is a file whose name ends in one of `SUFFIXES`, in the folder or in any folder below it. Links to folders are
followed, and every folder is taken once. What is left out is counted by its reason, so that a command can say so.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.errors import UserError, escaped

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
MASKS = "ground_truth"  # MVTec's folder of masks, which are not images of the object
MOST_BYTES = 8192 * 8192 * 8  # of a file: the most pixels that are read, at four channels of 16 bits

_SYSTEM = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "$recycle.bin", "system volume information"),
    *("__macosx", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini"),
}  # of Synology, QNAP, Windows, macOS and Linux; those that begin with a dot are hidden anyway

IMAGE, FOLDER, LINK = "image", "folder", "link to a folder"
_HIDDEN = "hidden or system"
_MASKED = f"{MASKS} (masks)"
_AGAIN = "links to folders that are taken already"
_BROKEN = "broken links"
_UNREADABLE = "folders that cannot be read"
_SPECIAL = "pipes, sockets and devices"

_NAMED = 2  # names that are given of a reason

LeftOut = Mapping[str, Sequence[Path]]  # reason -> what is left out for it


@dataclass(frozen=True)
class FoundImages:
    """The images of a folder.

    Attributes
    ----------
    folders : all that were looked into, the given one first
    places : where on the disk the given folder is, and the folders that links below it lead to
    paths : of the images, sorted
    left_out : reason -> what was left out for it
    """

    folder: Path
    folders: tuple[Path, ...]
    places: tuple[Path, ...]
    paths: tuple[Path, ...]
    left_out: LeftOut

    def __str__(self) -> str:
        return escaped(f"{self.folder}: {count_images(self.paths, self.nested)}{describe(self.left_out)}.")

    @property
    def masks(self) -> Sequence[Path]:
        """The folders of masks, which are left out."""
        return self.left_out.get(_MASKED, ())

    @property
    def nested(self) -> int:
        """How many of the images lie in folders below the given one."""
        return sum(path.parent != self.folder for path in self.paths)


def find_images(folder: Path, strict: bool = True) -> FoundImages:
    """Find every image in a folder and in the folders below it.

    Parameters
    ----------
    strict : whether a folder below that cannot be read is an error; otherwise it is left out

    Raises
    ------
    UserError
        If it is not a folder, or a folder cannot be read.
    """
    with readable_folders():
        if not folder.is_dir():
            raise UserError(f"no such folder: {folder}.")
        found = _walk(folder)
    if strict and (unreadable := found.left_out.get(_UNREADABLE)):
        raise UserError(f"cannot read the folder {unreadable[0]}: make it readable, or move it away.")
    return found


@contextmanager
def readable_folders() -> Iterator[None]:
    """Turn the error of a folder that cannot be read into one that the user can put right."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot read the folder {error.filename}: {error.strerror}. Make it readable, or move it away."
        ) from None


def problem_with(path: Path) -> str:
    """Say why a file cannot be read as an image, before it is opened; "" if it can.

    Raises
    ------
    OSError
        If there is no such file.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        return "it is a folder"
    if not stat.S_ISREG(found.st_mode):
        return "it is a pipe, socket or device, not a file"
    if found.st_size > MOST_BYTES:
        return f"it has {found.st_size / 1e6:.0f} MB, more than the {MOST_BYTES / 1e6:.0f} MB that are allowed"
    return ""


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; not if that cannot be found out."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # not allowed, too long, or a name that no file can have
        return False


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file or folder, or of one that operating systems and network disks make."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def count_images(paths: Sequence[Path], nested: int) -> str:
    """Say how many images there are, and how many of them lie in folders below."""
    return f"{len(paths)} image{'' if len(paths) == 1 else 's'}" + (f", {nested} of them nested" if nested else "")


def describe(left_out: LeftOut) -> str:
    """Say what was left out and why; nothing if nothing was."""
    reasons = [_reason(reason, paths) for reason, paths in sorted(left_out.items())]
    return f". Left out: {'; '.join(reasons)}" if reasons else ""


def _reason(reason: str, paths: Sequence[Path]) -> str:
    more = ", ..." if len(paths) > _NAMED else ""
    names = ", ".join(str(path) for path in paths[:_NAMED])
    return f"{reason}: {len(paths)} ({names}{more})"


def _walk(folder: Path) -> FoundImages:
    """Look into real folders first and follow links after that, so that a link never takes a real folder's place."""
    images: list[Path] = []
    places: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    waiting, links = deque([folder]), deque[Path]()
    seen: dict[Path, Path] = {}  # where a folder is on the disk -> the path that it was found by
    while waiting or links:
        is_link = not waiting
        path = links.popleft() if is_link else waiting.popleft()
        real = path.resolve()
        if real in seen or (is_link and _leads_back(path, real, folder)):
            left_out.setdefault(_AGAIN, []).append(path)
            continue
        seen[real] = path
        places += [real] if is_link or path == folder else []
        try:
            held = list(look_into(path))
        except OSError:
            left_out.setdefault(_UNREADABLE, []).append(path)
            continue
        for below, kind in held:
            group = {IMAGE: images, FOLDER: waiting, LINK: links}.get(kind)
            (left_out.setdefault(kind, []) if group is None else group).append(below)
    return FoundImages(folder, tuple(seen.values()), tuple(places), tuple(sorted(images)), left_out)


def _leads_back(link: Path, target: Path, folder: Path) -> bool:
    """Whether a link leads to a folder that it lies in, or that the folder we began with lies in."""
    return any(place.resolve().is_relative_to(target) for place in (link.parent, folder))


def look_into(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what a folder holds, sorted, each with its kind: `IMAGE`, `FOLDER`, `LINK`, or why it is left out.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            held = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:  # removed since its parent was looked into
        return
    for entry in held:
        yield folder / entry.name, _kind(entry)


def _kind(entry: os.DirEntry[str]) -> str:
    if is_hidden(entry.name):
        return _HIDDEN
    try:
        mode = entry.stat().st_mode
    except OSError:  # a broken link, or a file that was just removed
        mode = 0
    if stat.S_ISDIR(mode):
        return _MASKED if entry.name.casefold() == MASKS else LINK if entry.is_symlink() else FOLDER
    if mode and not stat.S_ISREG(mode):
        return _SPECIAL
    suffix = Path(entry.name).suffix.lower()
    if suffix in SUFFIXES:  # also a broken link: reading it says what is wrong
        return IMAGE
    return (suffix or "no suffix") if mode else _BROKEN
