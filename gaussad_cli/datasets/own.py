"""The user's own images: from a folder, from the MVTec layout, or from a list in a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.datasets.index import NORMAL, SUFFIXES, find_categories
from gaussad_cli.errors import UserError

_COLUMNS = ("path", "label", "split", "category")
_NORMAL_LABELS = {NORMAL, "normal", "ok", "0", ""}


@dataclass(frozen=True)
class OwnImages:
    """Normal images to learn from, and anomalous images, if any are known."""

    normal: tuple[Path, ...]
    anomalous: tuple[Path, ...] = ()


def find_images(folder: Path) -> tuple[Path, ...]:
    """Return every image below a folder, sorted.

    Raises
    ------
    UserError
        If the folder does not exist, or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}.")
    paths = images_below(folder)
    if not paths:
        raise UserError(f"no image below {folder}: names must end in {', '.join(sorted(SUFFIXES))}.")
    return paths


def images_below(folder: Path) -> tuple[Path, ...]:
    """Return every image below a folder, sorted; there may be none. Hidden files are skipped: they may be unfinished.

    A broken link is returned too, so that it is not skipped silently: reading it says what is wrong.
    """
    return tuple(
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def of_folders(normal: Path, anomalous: Path | None) -> OwnImages:
    """Take all images below one folder as normal, and those below another as anomalous."""
    return OwnImages(find_images(normal), () if anomalous is None else find_images(anomalous))


def of_category(data: Path, category: str) -> OwnImages:
    """Take a category's images from the MVTec layout: the training images, and the anomalous test images."""
    (found,) = find_categories(data, [category])
    anomalous = tuple(image.path for image in found.test if image.label != NORMAL)
    return OwnImages(tuple(image.path for image in found.train), anomalous)


def of_csv(path: Path, category: str | None = None) -> OwnImages:
    """Take the images that a CSV file lists.

    Its columns are path (relative to the CSV file's folder) and, optionally, label (normal if good, normal, ok, 0 or
    empty), split (normal images are used if it is train or empty) and category.

    Raises
    ------
    UserError
        If the file cannot be read, lacks the column path, lists no image of the category, or lists several categories
        while none is chosen.
    """
    rows = _rows(path)
    categories = sorted({row.get("category", "") for _, row in rows})
    if category is not None and category not in categories:
        raise UserError(
            f"{path} has no category '{category}'. It has: {', '.join(filter(None, categories)) or 'none'}."
        )
    if category is None and len(categories) > 1:
        raise UserError(
            f"{path} has several categories: choose with --category {' or '.join(filter(None, categories))}."
        )
    chosen = [(n, row) for n, row in rows if category in (None, row.get("category", ""))]
    normal = [
        path.parent / row["path"] for _, row in chosen if _is_normal(row) and row.get("split", "") in ("", "train")
    ]
    anomalous = [path.parent / row["path"] for _, row in chosen if not _is_normal(row)]
    _check_there(path, chosen)
    if not normal:
        raise UserError(
            f"{path} lists no normal image: give at least one the label good, normal, ok or 0, and the split train."
        )
    return OwnImages(tuple(normal), tuple(anomalous))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [
                (reader.line_num, {k: (v or "").strip() for k, v in row.items() if k in _COLUMNS}) for row in reader
            ]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file of text ({error}).") from None
    for number, row in rows:
        if not row.get("path"):
            raise UserError(
                f"{path}, line {number}: no path. The file needs a column path; label, split and category are optional."
            )
    if not rows:
        raise UserError(f"{path} lists no image: write a line 'path,label', then a line for every image.")
    return rows


def _is_normal(row: dict[str, str]) -> bool:
    return row.get("label", "").lower() in _NORMAL_LABELS


def _check_there(path: Path, rows: Iterable[tuple[int, dict[str, str]]]) -> None:
    for number, row in rows:
        try:
            exists = (path.parent / row["path"]).is_file()
        except ValueError:  # a name that no file can have
            exists = False
        if not exists:
            raise UserError(f"{path}, line {number}: no file {path.parent / row['path']!s:.200}.")
