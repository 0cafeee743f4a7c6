"""Images of one's own, in whatever order: a folder, the MVTec layout, or a list in a CSV file."""

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
    """Files to learn what is normal from, and others that are known to be anomalous, or none."""

    normal: tuple[Path, ...]
    anomalous: tuple[Path, ...] = ()


def find_images(folder: Path) -> tuple[Path, ...]:
    """Return every image below a folder, sorted.

    Raises
    ------
    UserError
        If it is no folder, or has no image.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}.")
    paths = images_below(folder)
    if not paths:
        raise UserError(f"no image below {folder}: wanted are {', '.join(sorted(SUFFIXES))}.")
    return paths


def images_below(folder: Path) -> tuple[Path, ...]:
    """Return every image below a folder, sorted; none if there is none. Hidden ones are somebody's unfinished files.

    A link to nowhere is one, so that it is not left out in silence: reading it says what is wrong.
    """
    return tuple(
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def of_folders(normal: Path, anomalous: Path | None) -> OwnImages:
    """Take every image below one folder for normal, and below another for anomalous."""
    return OwnImages(find_images(normal), () if anomalous is None else find_images(anomalous))


def of_category(data: Path, category: str) -> OwnImages:
    """Take a category in the MVTec layout: its training images, and the anomalous ones among its test images."""
    (found,) = find_categories(data, [category])
    anomalous = tuple(image.path for image in found.test if image.label != NORMAL)
    return OwnImages(tuple(image.path for image in found.train), anomalous)


def of_csv(path: Path, category: str | None = None) -> OwnImages:
    """Take the images that a CSV file lists.

    Columns: path (from the file's own folder), and as they are there: label (good, normal, ok, 0 or empty: normal),
    split (rows other than train or empty are left out unless anomalous), category.

    Raises
    ------
    UserError
        If the file cannot be read, lacks the column path, names no image of the category, or several categories and
        none is chosen.
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
            f"{path} lists no normal image: label good, normal, ok or 0, and split train, where it has these."
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
                f"{path}, line {number}: no path. Wanted are columns path, and label, split, category as you like."
            )
    if not rows:
        raise UserError(f"{path} lists no image: wanted is a line 'path,label' and a line for every image.")
    return rows


def _is_normal(row: dict[str, str]) -> bool:
    return row.get("label", "").lower() in _NORMAL_LABELS


def _check_there(path: Path, rows: Iterable[tuple[int, dict[str, str]]]) -> None:
    for number, row in rows:
        try:
            there = (path.parent / row["path"]).is_file()
        except ValueError:  # a name that no file can have
            there = False
        if not there:
            raise UserError(f"{path}, line {number}: no file {path.parent / row['path']!s:.200}.")
