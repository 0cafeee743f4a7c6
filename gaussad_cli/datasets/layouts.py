"""How the public data sets are laid out in their archives, and how that maps to the MVTec layout."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gaussad_cli.datasets.images import MASKS
from gaussad_cli.datasets.index import NORMAL, SPLITS
from gaussad_cli.errors import UserError


@dataclass(frozen=True)
class Layout:
    """The layout of one data set's archive.

    Attributes
    ----------
    belongs : (name, categories) -> whether the file is needed for these categories
    arrange : (folder of the extracted files, their names, categories) -> {name: name in the MVTec layout}
    """

    belongs: Callable[[str, Collection[str]], bool]
    arrange: Callable[[Path, Sequence[str], Collection[str]], dict[str, str]]


# --- MVTec AD: <category>/{train,test,ground_truth}/... ---

_FOLDERS = (*SPLITS, MASKS)


def _mvtec_parts(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name).parts
    return parts[1:] if parts[0] == "mvtec_anomaly_detection" else parts


def _belongs_to_mvtec(name: str, categories: Collection[str]) -> bool:
    parts = _mvtec_parts(name)
    return len(parts) > 2 and parts[1] in _FOLDERS and parts[0] in categories


def _arrange_mvtec(_folder: Path, names: Sequence[str], _categories: Collection[str]) -> dict[str, str]:
    return {name: "/".join(_mvtec_parts(name)) for name in names}


# --- VisA: <category>/Data/{Images/{Normal,Anomaly},Masks/Anomaly}/..., split by split_csv/1cls.csv ---

_VISA_SPLIT = "split_csv/1cls.csv"


def _visa_category(name: str) -> str | None:
    """Return the category of an image or mask, which may be in an outer folder; None for other files."""
    parts = PurePosixPath(name).parts
    return parts[parts.index("Data") - 1] if "Data" in parts[1:] else None


def _belongs_to_visa(name: str, categories: Collection[str]) -> bool:
    return name.endswith(_VISA_SPLIT) or _visa_category(name) in categories


def _arrange_visa(folder: Path, names: Sequence[str], categories: Collection[str]) -> dict[str, str]:
    """Follow the data set's own one-class split, in which all anomalies are test images."""
    lists = [name for name in names if name.endswith(_VISA_SPLIT)]
    if not lists:
        raise UserError(f"the archive has no {_VISA_SPLIT}, so it is not VisA as published.")
    root = lists[0].removesuffix(_VISA_SPLIT)
    extracted, arranged = set(names), {}
    with (folder / lists[0]).open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                category, split, label = row["object"], row["split"], row["label"]
                image, mask = root + row["image"], root + (row["mask"] or "")
            except (KeyError, TypeError):
                raise UserError(f"{lists[0]}, line {number}: this is not a line of VisA's split.") from None
            if category not in categories or split not in SPLITS or image not in extracted:
                continue
            kind = NORMAL if label == "normal" else "bad"
            arranged[image] = f"{category}/{split}/{kind}/{PurePosixPath(image).name}"
            if kind != NORMAL and mask in extracted:
                arranged[mask] = f"{category}/ground_truth/{kind}/{PurePosixPath(image).stem}_mask.png"
    return arranged


# --- BTAD: BTech_Dataset_transformed/<category>/{train/ok,test/{ok,ko},ground_truth/ko}/... ---

_BTAD_KINDS = {"ok": NORMAL, "ko": "defect"}


def _btad_parts(name: str) -> tuple[str, ...]:
    """Return category, split, kind and file name."""
    return PurePosixPath(name).parts[-4:]


def _belongs_to_btad(name: str, categories: Collection[str]) -> bool:
    parts = _btad_parts(name)
    return len(parts) == 4 and parts[1] in _FOLDERS and parts[2] in _BTAD_KINDS and parts[0] in categories


def _arrange_btad(_folder: Path, names: Sequence[str], _categories: Collection[str]) -> dict[str, str]:
    arranged = {}
    for name in names:
        category, split, kind, file = _btad_parts(name)
        path = PurePosixPath(file)
        if split == MASKS:
            file = f"{path.stem}_mask{path.suffix}"
        arranged[name] = f"{category}/{split}/{_BTAD_KINDS[kind]}/{file}"
    return arranged


LAYOUTS = {
    "mvtec": Layout(_belongs_to_mvtec, _arrange_mvtec),
    "visa": Layout(_belongs_to_visa, _arrange_visa),
    "btad": Layout(_belongs_to_btad, _arrange_btad),
}
