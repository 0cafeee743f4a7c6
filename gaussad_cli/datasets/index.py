"""Index of a folder in the MVTec AD layout.

``<category>/train/good/*``, ``<category>/test/<good|defect>/*`` and, if the data set has masks,
``<category>/ground_truth/<defect>/<stem>_mask.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaussad_cli.datasets.folds import N_FOLDS
from gaussad_cli.errors import UserError, did_you_mean

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

NORMAL = "good"  # MVTec's name of the normal class
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class ImageFile:
    """One image: its name below the category's folder (``test/crack/003.png``), its class folder, and its path."""

    name: str
    label: str
    path: Path


@dataclass(frozen=True)
class Category:
    """The images of one category, in the protocol's order: class folders sorted, then file names sorted."""

    name: str
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]

    def split(self, split: Split) -> tuple[ImageFile, ...]:
        """Return the images of a split."""
        return self.train if split == "train" else self.test


def find_categories(root: Path, chosen: Sequence[str] | None = None) -> list[Category]:
    """Index the chosen categories of a data set, or all of them.

    Raises
    ------
    UserError
        If the folder does not exist or holds no category, a chosen category is missing, or a category lacks
        train/good, test, or enough images for the folds.
    """
    if not root.is_dir():
        raise UserError(f"no such folder: {root}. Give the folder that holds the categories with --data.")
    names = _category_names(root)
    if not names:
        raise UserError(_no_categories(root))
    for name in chosen or ():
        if name not in names:
            raise UserError(f"no category '{name}' in {root}.{did_you_mean(name, names)} Known: {', '.join(names)}.")
    return [_index_category(root / name) for name in names if chosen is None or name in chosen]


def dataset_name(root: Path, given: str | None = None) -> str:
    """Return the name of a data set in cache and results: the given name, or else the folder's.

    Raises
    ------
    UserError
        If it cannot be a folder's name, or cannot be written to a CSV file.
    """
    name = root.resolve().name if given is None else given
    if name in ("", ".", "..") or set(name) & set("/\\") or not _is_text(name):
        raise UserError(f"'{name!a}' cannot name a data set: give a plain name with --dataset.")
    return name


def _is_text(name: str) -> bool:
    """Whether results can contain a file's name: it is valid UTF-8, and readers of CSV find no line end in it."""
    return "\r" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def _category_names(root: Path) -> list[str]:
    """Return the subfolders with a train or a test folder; others (licences, archives) are not categories."""
    return sorted(
        folder.name
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith(".") and any((folder / split).is_dir() for split in SPLITS)
    )


def _no_categories(root: Path) -> str:
    if any((root / split).is_dir() for split in SPLITS):
        return (
            f"{root} is itself a category: give its parent folder, --data {root.resolve().parent} "
            f"--categories {root.resolve().name}."
        )
    return f"no category in {root}: images must be <category>/train/{NORMAL}/*.png and <category>/test/<class>/*.png."


def _index_category(folder: Path) -> Category:
    for needed in (f"train/{NORMAL}", "test"):
        if not (folder / needed).is_dir():
            raise UserError(f"category '{folder.name}' has no {needed} folder ({folder / needed}). {_leave_out()}")
    train = _images(folder, [folder / "train" / NORMAL])
    test = _images(folder, _class_folders(folder / "test"))
    if len(train) < N_FOLDS:
        raise UserError(
            f"category '{folder.name}' has {len(train)} training images in {folder / 'train' / NORMAL}: "
            f"the {N_FOLDS} folds need at least {N_FOLDS}. {_leave_out()}"
        )
    if not test:
        raise UserError(f"category '{folder.name}' has no test image {folder / 'test'}/<class>/*.png. {_leave_out()}")
    return Category(folder.name, train, test)


def _class_folders(split: Path) -> list[Path]:
    return sorted(path for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(category: Path, class_folders: Sequence[Path]) -> tuple[ImageFile, ...]:
    paths = [
        (folder.name, path)
        for folder in class_folders
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    ]
    for _, path in paths:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a broken link: restore the image it points to, or remove the link.")
        if not _is_text(str(path)):
            raise UserError(
                f"the name of {str(path)!a} is not valid UTF-8, or has a carriage return: results cannot contain it. "
                "Rename it."
            )
    return tuple(ImageFile(path.relative_to(category).as_posix(), label, path) for label, path in paths)


def _leave_out() -> str:
    return "Fix it, or choose other categories with --categories."
