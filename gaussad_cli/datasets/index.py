"""Index of a folder in the MVTec AD layout.

``<category>/train/good/*``, ``<category>/test/<good|defect>/*`` and, if the data set has masks,
``<category>/ground_truth/<defect>/<stem>_mask.png``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gaussad_cli.datasets.folds import N_FOLDS
from gaussad_cli.datasets.images import (
    FOLDER,
    IMAGE,
    LINK,
    LeftOut,
    describe,
    find_images,
    look_into,
    problem_with,
    readable_folders,
)
from gaussad_cli.errors import UserError, did_you_mean, escaped
from gaussad_cli.files import is_name

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

_SHOWN = 3  # categories named in a message
NORMAL = "good"  # MVTec's name of the normal class
NORMAL_NAMES = {NORMAL, "normal", "ok", "okay"}  # what others call it, in any case


@dataclass(frozen=True)
class ImageFile:
    """One image: its name below the category's folder (``test/crack/003.png``), its class folder, and its path."""

    name: str
    label: str
    path: Path

    @property
    def is_nested(self) -> bool:
        """Whether it lies in a folder below its class folder."""
        return self.name.count("/") > 2


@dataclass(frozen=True)
class Category:
    """The images of one category, in the protocol's order: class folders sorted, then file names sorted.

    Attributes
    ----------
    left_out : reason -> what was left out for it
    """

    name: str
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    left_out: LeftOut = field(default_factory=dict, compare=False)

    def split(self, split: Split) -> tuple[ImageFile, ...]:
        """Return the images of a split."""
        return self.train if split == "train" else self.test


def find_categories(root: Path, chosen: Sequence[str] | None = None) -> list[Category]:
    """Index the chosen categories of a data set, or all of them.

    Raises
    ------
    UserError
        If the folder does not exist, cannot be read or holds no category, a chosen category is missing, or a category
        lacks train/good, test, or enough images for the folds, or has another name than good for its normal class.
    """
    with readable_folders():
        if not root.is_dir():
            raise UserError(f"no such folder: {root}. Give the folder that holds the categories with --data.")
        names = [folder.name for folder in _folders(root) if is_category(folder)]
        if not names:
            raise UserError(_no_categories(root))
        for name in chosen or ():
            if name not in names:
                raise UserError(
                    f"no category '{name}' in {root}.{did_you_mean(name, names)} Known: {', '.join(names)}."
                )
        return [_index_category(root / name) for name in names if chosen is None or name in chosen]


def describe_categories(root: Path, categories: Sequence[Category]) -> str:
    """Say in one line which images of a data set are taken, what is left out, and what cannot be measured with them."""
    left_out: dict[str, list[Path]] = defaultdict(list)
    if others := [folder for folder in _folders(root) if not is_category(folder)]:
        left_out["folders without train and test"] += others
    for category in categories:
        for reason, paths in category.left_out.items():
            left_out[reason] += paths
    n_train, n_test = (sum(len(category.split(split)) for category in categories) for split in SPLITS)
    nested = sum(image.is_nested for category in categories for image in (*category.train, *category.test))
    return escaped(
        f"{root}: {len(categories)} categor{'y' if len(categories) == 1 else 'ies'}, "
        f"{n_train} training and {n_test} test images"
        f"{f', {nested} of them in nested folders' if nested else ''}{describe(left_out)}."
        f"{_one_sided(categories, True)}{_one_sided(categories, False)}"
    )


def _one_sided(categories: Sequence[Category], normal: bool) -> str:
    """Name the categories whose test images are all anomalous, or all normal: what is measured needs both."""
    names = [c.name for c in categories if not any((image.label == NORMAL) == normal for image in c.test)]
    lacking = f"image in test/{NORMAL}" if normal else f"test image outside of test/{NORMAL}"
    return f" There is no {lacking} of {', '.join(names)}, so AUROC will be undefined there." if names else ""


def dataset_name(root: Path, given: str | None = None) -> str:
    """Return the name of a data set in cache and results: the given name, or else the folder's.

    Raises
    ------
    UserError
        If it cannot be a folder's name, or cannot be written to a CSV file.
    """
    name = root.resolve().name if given is None else given
    if not is_name(name) or not _is_text(name):
        raise UserError(f"'{name!a}' cannot name a data set: give a plain name with --dataset.")
    return name


def check_holds(data: Path, names: Iterable[str], where: Path) -> None:
    """Check that a data set's folder holds the categories that a folder in cache or results holds under its name.

    Raises
    ------
    UserError
        If it does not: it is another data set, or a category was renamed, which would then count twice.
    """
    if missing := [name for name in sorted(names) if not (data / name).is_dir()]:
        raise UserError(
            f"{where} holds {', '.join(missing[:_SHOWN])}{', ...' if missing[_SHOWN:] else ''}, which {data} does not, "
            "and results of different data must not share a mean. If this is another data set, name it with --dataset "
            f"NAME; if you have renamed or removed a category, move {where} away."
        )


def _is_text(name: str) -> bool:
    """Whether results can contain a file's name: it is valid UTF-8, and readers of CSV find no line end in it."""
    return "\r" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def is_category(folder: Path) -> bool:
    """Whether a folder has a train or a test folder; others (licences, archives) are not categories."""
    return any((folder / split).is_dir() for split in SPLITS)


def _folders(folder: Path) -> list[Path]:
    return [path for path, kind in look_into(folder) if kind in (FOLDER, LINK)]


def _no_categories(root: Path) -> str:
    if any((root / split).is_dir() for split in SPLITS):
        return (
            f"{root} is itself a category: give its parent folder, --data {root.resolve().parent} "
            f"--categories {root.resolve().name}."
        )
    return f"no category in {root}: images must be <category>/train/{NORMAL}/*.png and <category>/test/<class>/*.png."


def _index_category(folder: Path) -> Category:
    for split in SPLITS:
        if (folder / split).is_dir():
            _check_normal_class(folder / split)
    for needed in (f"train/{NORMAL}", "test"):
        if not (folder / needed).is_dir():
            raise UserError(f"category '{folder.name}' has no {needed} folder ({folder / needed}). {_leave_out()}")
    left_out: dict[str, list[Path]] = defaultdict(list)
    for path, kind in look_into(folder):
        if kind == IMAGE or (kind in (FOLDER, LINK) and path.name not in SPLITS):
            left_out["neither in train nor in test"].append(path)
    train = _images(folder, _train_folders(folder / "train", left_out), left_out)
    test = _images(folder, _class_folders(folder / "test", left_out), left_out)
    if len(train) < N_FOLDS:
        raise UserError(
            f"category '{folder.name}' has {len(train)} training images in {folder / 'train' / NORMAL}: "
            f"the {N_FOLDS} folds need at least {N_FOLDS}. {_leave_out()}"
        )
    if not test:
        raise UserError(f"category '{folder.name}' has no test image {folder / 'test'}/<class>/*.png. {_leave_out()}")
    return Category(folder.name, train, test, dict(left_out))


def _check_normal_class(split: Path) -> None:
    """Check that no class folder has another name for what is normal, because its images would count as anomalous."""
    for folder in _folders(split):
        if folder.name != NORMAL and folder.name.strip().casefold() in NORMAL_NAMES:
            raise UserError(
                f"{folder} looks like a folder of normal images, but only '{NORMAL}' is taken for one: rename it to "
                f"{NORMAL}. All other class folders count as anomalous. {_leave_out()}"
            )


def _train_folders(split: Path, left_out: dict[str, list[Path]]) -> list[Path]:
    folders = _class_folders(split, left_out)
    if others := [folder for folder in folders if folder.name != NORMAL]:
        left_out[f"training folders other than {NORMAL}"] += others
    return [split / NORMAL]


def _class_folders(split: Path, left_out: dict[str, list[Path]]) -> list[Path]:
    folders = []
    for path, kind in look_into(split):
        if kind in (FOLDER, LINK):
            folders.append(path)
        else:
            left_out["images outside of a class folder" if kind == IMAGE else kind].append(path)
    return folders


def _images(category: Path, class_folders: Sequence[Path], left_out: dict[str, list[Path]]) -> tuple[ImageFile, ...]:
    images = []
    for folder in class_folders:
        found = find_images(folder)
        for reason, paths in found.left_out.items():
            left_out[reason] += paths
        for path in found.paths:
            _check_image(path)
            images.append(ImageFile(path.relative_to(category).as_posix(), folder.name, path))
    return tuple(images)


def _check_image(path: Path) -> None:
    try:
        problem = problem_with(path)
    except OSError:
        raise UserError(f"{path} is a broken link: restore the image it points to, or remove the link.") from None
    if problem:
        raise UserError(f"cannot use the image {path}: {problem}. Replace or remove it.")
    if not _is_text(str(path)):
        raise UserError(
            f"the name of {str(path)!a} is not valid UTF-8, or has a carriage return, so results cannot contain it: "
            "rename it."
        )


def _leave_out() -> str:
    return "Fix it, or choose other categories with --categories."
