"""The user's own images: from a folder, from the MVTec layout, or from a list in a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gaussad_cli.datasets.images import MASKS, SUFFIXES, FoundImages, describe, find_images, is_folder
from gaussad_cli.datasets.index import NORMAL, NORMAL_NAMES, SPLITS, describe_categories, find_categories
from gaussad_cli.errors import UserError, did_you_mean, escaped

ANOMALOUS_NAMES = {"bad", "ng", "nok", "ko", "anomalous", "anomaly", "abnormal", "defect", "defective", "fail"}
_COLUMNS = ("path", "label", "split", "category")
_LABELS = {
    **dict.fromkeys((*NORMAL_NAMES, "pass", "false", ""), True),
    **dict.fromkeys((*ANOMALOUS_NAMES, "true"), False),
}  # label -> whether the image is normal
_TRAINING, _OTHER_SPLITS = ("", "train", "training"), ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class OwnImages:
    """Normal images to learn from, and anomalous images, if any are known.

    Attributes
    ----------
    skip_unreadable : whether images that cannot be read are left out; otherwise they end the training
    summary : says in one line what was taken and what was left out
    """

    normal: tuple[Path, ...]
    anomalous: tuple[Path, ...] = ()
    skip_unreadable: bool = False
    summary: str = field(default="", compare=False)


def find_class_images(folder: Path, normal: bool = True) -> FoundImages:
    """Find every image below a folder of normal images, or below one of anomalous images.

    Raises
    ------
    UserError
        If the folder does not exist, cannot be read, holds no image, or holds images of several classes or masks.
    """
    found = find_images(folder)
    if mixed := _other_classes(found, normal):
        what = "normal" if normal else "anomalous"
        raise UserError(
            f"{folder} is not a folder of {what} images alone, because of {mixed}. Give the folder of one class, such "
            f"as <category>/train/{NORMAL}, or take a category of a data set by --data DIR --category NAME of gaussad "
            "train."
        )
    if not found.paths:
        raise UserError(
            f"no image below {folder}: names must end in {', '.join(sorted(SUFFIXES))}{describe(found.left_out)}."
        )
    return found


def _other_classes(found: FoundImages, normal: bool) -> str:
    """Name a folder that shows that not all images are of the class; "" if there is none."""
    for place in found.places:  # the folder itself, or a linked one, may belong to a data set
        by_name = {folder.name.casefold(): folder for folder in (place.parent, place)}
        if MASKS in by_name:
            return f"the folder {by_name[MASKS]}, which holds masks"
        is_tested = "test" in by_name and is_folder(by_name["test"].with_name("train"))
        if normal and is_tested and place.name.casefold() not in NORMAL_NAMES:
            return f"the folder {by_name['test']}, which holds test images of a data set"
    folders = found.folders[1:]
    with_normal = {path.parent for path in folders if path.name.casefold() in NORMAL_NAMES}
    for path in (*folders, *found.masks):
        name = path.name.casefold()
        is_beside_normal = path.parent in with_normal and name not in NORMAL_NAMES
        if name in (*SPLITS, MASKS) or is_beside_normal or (normal and name in ANOMALOUS_NAMES):
            return f"the folder {path} in it"
    return ""


def of_folders(normal: Path, anomalous: Path | None) -> OwnImages:
    """Take all images below one folder as normal, and those below another as anomalous.

    Raises
    ------
    UserError
        See :func:`find_class_images`.
    """
    found = [find_class_images(normal)]
    found += [] if anomalous is None else [find_class_images(anomalous, normal=False)]
    others = found[1].paths if len(found) > 1 else ()
    return OwnImages(found[0].paths, others, summary=" ".join(map(str, found)))


def of_category(data: Path, category: str) -> OwnImages:
    """Take a category's images from the MVTec layout: the training images, and the anomalous test images."""
    (found,) = find_categories(data, [category])
    anomalous = tuple(image.path for image in found.test if image.label != NORMAL)
    normal = tuple(image.path for image in found.train)
    return OwnImages(normal, anomalous, summary=describe_categories(data, [found]))


def of_csv(path: Path, category: str | None = None) -> OwnImages:
    """Take the images that a CSV file lists.

    Its columns are path (relative to the CSV file's folder) and, optionally, label, split and category, in any case.
    A label is one of normal images (good, normal, ok, pass, 0, false, or empty), or one of anomalous images (bad, ng,
    nok, ko, anomalous, anomaly, abnormal, defect, defective, fail, 1, true). Normal images are used if their split is
    train or empty.

    Raises
    ------
    UserError
        If the file cannot be read, lacks the column path, has another column, an unknown label or split, lists no image
        of the category, or lists several categories while none is chosen.
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
    files: dict[tuple[bool, bool], list[Path]] = {}  # (is it normal, is it to train with) -> images
    for number, row in chosen:
        kind = _is_normal(path, number, row), _is_for_training(path, number, row)
        files.setdefault(kind, []).append(path.parent / row["path"])
    _check_files(path, chosen)
    normal, others = files.get((True, True), []), files.get((True, False), [])
    anomalous = [*files.get((False, True), []), *files.get((False, False), [])]
    if not normal:
        raise UserError(
            f"{path} lists no normal image: label good, normal, ok or 0, and split train, where it has these."
        )
    left_out = f". Left out: {len(others)} normal images of other splits than train" if others else ""
    summary = escaped(f"{path}: {len(normal)} normal and {len(anomalous)} anomalous images{left_out}.")
    return OwnImages(tuple(normal), tuple(anomalous), summary=summary)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with their line numbers; names of columns are matched whatever their case and spaces."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = _columns(path, next(reader, []))
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file of text ({error}).") from None
    if not rows:
        raise UserError(f"{path} lists no image: write a line 'path,label', then a line for every image.")
    for number, cells in rows:
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            raise UserError(f"{path}, line {number}: {len(cells)} cells, but the file has {len(columns)} columns.")
    named = [(number, dict(zip(columns, cells, strict=False))) for number, cells in rows]
    for number, row in named:
        if not row["path"]:
            raise UserError(f"{path}, line {number}: no path.")
    return named


def _columns(path: Path, header: list[str]) -> list[str]:
    columns = [name.strip().casefold() for name in header]
    for name, given in zip(columns, header, strict=True):
        if name not in _COLUMNS or columns.count(name) > 1:
            problem = "several columns" if columns.count(name) > 1 else "an unknown column"
            raise UserError(
                f"{path} has {problem} '{given:.80}'.{did_you_mean(name, _COLUMNS)} Columns are path and, optionally, "
                "label, split and category, with commas between them: rename or remove the others."
            )
    if "path" not in columns:
        raise UserError(f"{path} has no column path. label, split and category are optional.")
    return columns


def _is_normal(path: Path, number: int, row: dict[str, str]) -> bool:
    label = row.get("label", "").casefold()
    with suppress(ValueError, KeyError):
        label = {0.0: "false", 1.0: "true"}[float(label)]
    if label not in _LABELS:
        raise UserError(
            f"{path}, line {number}: unknown label '{row['label']:.80}'. Write {NORMAL} or 0 for normal images, and "
            "anomalous or 1 for anomalous ones."
        )
    return _LABELS[label]


def _is_for_training(path: Path, number: int, row: dict[str, str]) -> bool:
    split = row.get("split", "").casefold()
    if split not in (*_TRAINING, *_OTHER_SPLITS):
        raise UserError(f"{path}, line {number}: unknown split '{row['split']:.80}'. Write train or test.")
    return split in _TRAINING


def _check_files(path: Path, rows: Iterable[tuple[int, dict[str, str]]]) -> None:
    for number, row in rows:
        try:
            exists = (path.parent / row["path"]).is_file()
        except (OSError, ValueError):  # a name that no file can have, or a folder that cannot be read
            exists = False
        if not exists:
            raise UserError(f"{path}, line {number}: there is no file {path.parent / row['path']!s:.200}.")
