"""How results were made: ``<results>/<dataset>/manifests/<backbone>-<key>.json``, next to the rows.

There is one file per extraction or training, with its recipe and folds. For each category it holds *records*: they say
which cells (score, mode, var, levels) were computed from which images and by which versions; cells made alike share a
record. Evaluating another category, level or score adds cells; repeating an evaluation replaces only its own cells,
as with the rows. Nothing in a manifest depends on when or where a run was made: it holds no time and no path.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gaussad_cli.datasets.folds import FOLD_SEED, N_FOLDS
from gaussad_cli.datasets.index import SPLITS
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.category import OpenCategory
from gaussad_cli.extraction import store
from gaussad_cli.files import write_json

SCHEMA = 1
FOLDER = "manifests"
KFOLD: dict[str, Any] = {"kind": "KFold", "n": N_FOLDS, "shuffle": True, "seed": FOLD_SEED}
STRATIFIED = {**KFOLD, "kind": "StratifiedKFold", "of": "training and test images pooled"}


class Cell(NamedTuple):
    """The columns of the results that distinguish a category's rows in one manifest."""

    score: str
    mode: str
    var: float | None
    level: str


@dataclass(frozen=True)
class Images:
    """The images of a split.

    Attributes
    ----------
    n : their number
    sha256 : digest of the list of their names, labels and files' hashes; empty if a hash is unknown
    versions : of the libraries that extracted their features; empty if networks were trained on the images
    """

    n: int
    sha256: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: Iterable[tuple[str, str, str]], versions: Mapping[str, str] | None = None) -> Images:
        """Digest the (name, label, SHA-256) of every image."""
        listed = [list(image) for image in images]
        return cls(len(listed), store.digest(listed) if all(sha for *_, sha in listed) else "", versions or {})


@dataclass(frozen=True)
class Origin:
    """What cells were computed from.

    Attributes
    ----------
    images : the images of each split
    versions : of the libraries that computed the rows; cached spectra or trained networks may be of older versions
    settings : a comparator's settings in this category, JSON-able
    """

    images: Mapping[str, Images]
    versions: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """Cells with the same origin."""

    origin: Origin
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ResultsManifest:
    """How the rows of one backbone and key were made; `recipe` and `folds` are JSON-able."""

    dataset: str
    backbone: str
    key: str
    recipe: Mapping[str, Any]
    folds: Mapping[str, Any]
    categories: Mapping[str, tuple[Record, ...]]


# --- making manifests ---


def of_extraction(
    category: OpenCategory, metrics: pd.DataFrame, settings: Mapping[str, Any] | None = None
) -> ResultsManifest:
    """Return the manifest of a category's rows (`metrics`), which were computed from extracted features.

    Parameters
    ----------
    settings : what the rows' mode leaves out, because it is the default
    """
    images = {
        split: Images.of(((i.name, i.label, i.sha256) for i in manifest.images), _texts(manifest.versions))
        for split, manifest in (("train", category.train), ("test", category.test))
    }
    extraction = category.extraction
    recipe = extraction.recipe.content
    origin = Origin(images, store.versions(), settings or {})
    records = {category.name: (Record(origin, cells_of(metrics)),)}
    return ResultsManifest(
        extraction.dataset, extraction.recipe.backbone, extraction.recipe.key, recipe, KFOLD, records
    )


def of_training(
    identity: Mapping[str, object],
    recipe_file: Path,
    labels: Mapping[str, str],
    metrics: pd.DataFrame,
    folds: Mapping[str, Any],
) -> ResultsManifest:
    """Return the manifest of a category's rows from networks that were trained on its images.

    Parameters
    ----------
    identity : the columns that the rows share
    recipe_file : the training's recipe, stored next to its states
    labels : image name -> class folder
    metrics : the rows
    folds : how images were split
    """
    content = json.loads(recipe_file.read_text("utf-8"))
    category, hashes = str(content.pop("category")), [(str(name), str(sha)) for name, sha in content.pop("images")]
    del content["folds"]  # image numbers: they follow from the images and the kind of split
    images: dict[str, Images] = {
        split: Images.of((name, labels[name], sha) for name, sha in hashes if name.startswith(f"{split}/"))
        for split in SPLITS
    }
    settings = {name: content.pop(name) for name in ("objective", "augmentation")}
    recipe = {name: identity[name] for name in ("backbone", "weights", "padding")} | content
    records = {category: (Record(Origin(images, store.versions(), settings), cells_of(metrics)),)}
    return ResultsManifest(
        str(identity["dataset"]), str(identity["backbone"]), str(identity["key"]), recipe, folds, records
    )


def cells_of(metrics: pd.DataFrame) -> tuple[Cell, ...]:
    """Return the cells of rows, sorted."""
    rows = metrics[list(Cell._fields)].drop_duplicates().itertuples(index=False, name=None)
    cells = {Cell(str(s), str(m), None if pd.isna(v) else float(v), str(level)) for s, m, v, level in rows}
    return tuple(sorted(cells, key=_order))


def _order(cell: Cell) -> tuple[str, str, float, bool, int, str]:
    number = int(cell.level) if cell.level.isdecimal() else 0
    return cell.score, cell.mode, -(cell.var or 0.0), not number, number, cell.level


def merge(old: ResultsManifest | None, new: ResultsManifest) -> ResultsManifest:
    """Return the union of both manifests; new cells replace old ones."""
    if old is None:
        return dataclasses.replace(new, categories={name: _alike(r) for name, r in new.categories.items()})
    categories = dict(old.categories)
    for name, records in new.categories.items():
        categories[name] = _alike([*categories.get(name, ()), *records])
    return dataclasses.replace(new, categories=dict(sorted(categories.items())))


def _alike(records: Iterable[Record]) -> tuple[Record, ...]:
    """Group cells by origin, in an order that does not depend on the order of runs; later cells replace earlier."""
    origins = {cell: record.origin for record in records for cell in record.cells}
    groups: dict[str, list[Cell]] = {}
    for cell in sorted(origins, key=_order):
        groups.setdefault(store.digest(dataclasses.asdict(origins[cell])), []).append(cell)
    return tuple(Record(origins[cells[0]], tuple(cells)) for cells in groups.values())


# --- files ---


def path_of(folder: Path, manifest: ResultsManifest) -> Path:
    """Return the path of a manifest; `folder` is the data set's folder in the results."""
    return folder / FOLDER / f"{store.backbone_folder(manifest.backbone)}-{manifest.key}.json"


def paths(folder: Path) -> set[Path]:
    """Return the paths of all manifests; `folder` is the data set's folder in the results."""
    return set((folder / FOLDER).glob("*.json"))


def add(folder: Path, new: ResultsManifest) -> ResultsManifest:
    """Return the existing manifest with new cells added; `folder` is the data set's folder in the results.

    Raises
    ------
    UserError
        If the existing manifest is damaged.
    """
    path = path_of(folder, new)
    return merge(read(path) if path.exists() else None, new)


def write(folder: Path, manifest: ResultsManifest) -> None:
    """Write a manifest; `folder` is the data set's folder in the results.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    content = {"schema": SCHEMA, **dataclasses.asdict(manifest)}
    content["categories"] = {name: list(map(_to_json, records)) for name, records in manifest.categories.items()}
    write_json(path_of(folder, manifest), store.sealed(content))


def read(path: Path) -> ResultsManifest:
    """Read a manifest.

    Raises
    ------
    UserError
        If it cannot be read, is damaged, edited, of another schema, or has the name of another one.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise UserError(f"{path} has schema {content['schema']}, this gaussad reads {SCHEMA}. {_REMEDY}")
        if content != store.sealed(content):
            raise UserError(f"{path} was edited: it does not match its own digest. {_REMEDY}")
        manifest = ResultsManifest(
            dataset=str(content["dataset"]),
            backbone=str(content["backbone"]),
            key=str(content["key"]),
            recipe=dict(content["recipe"]),
            folds=dict(content["folds"]),
            categories={name: tuple(map(_from_json, records)) for name, records in content["categories"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UserError(f"cannot read {path} ({reason}). {_REMEDY}") from None
    if path.name != (own := path_of(Path(), manifest).name):
        raise UserError(f"{path} belongs to another extraction or training: its name was {own}. {_REMEDY}")
    return manifest


_REMEDY = "Move it away and run the evaluation again."


# --- one data set in one folder ---

Content = tuple[tuple[str, int, str], ...]  # split, number and digest of its images, sorted


def content_of(images: Mapping[str, Images]) -> Content:
    """Return what tells the images of a category (by split) from others."""
    return tuple((split, images[split].n, images[split].sha256) for split in sorted(images))


def contents(manifests: Iterable[ResultsManifest]) -> dict[str, set[Content]]:
    """Return the images that the rows of each category come from, if their hashes are known; only one set is valid."""
    found: dict[str, set[Content]] = {}
    for manifest in manifests:
        for category, records in manifest.categories.items():
            known = {content_of(record.origin.images) for record in records}
            found.setdefault(category, set()).update(c for c in known if all(sha for _, _, sha in c))
    return found


def check_images(folder: Path, manifests: Iterable[ResultsManifest]) -> None:
    """Check that the rows of a folder can be compared and averaged.

    Raises
    ------
    UserError
        If rows of a category come from different images, or two categories have the same training images.
    """
    owners: dict[str, str] = {}  # digest of training images -> category
    for category, found in sorted(contents(manifests).items()):
        if len(found) > 1:
            raise UserError(
                f"{folder}: rows of category '{category}' would come from different images "
                f"({' or '.join(map(_describe, sorted(found)))}), so their means and differences would be wrong. If "
                "this is another data set, name it with --dataset NAME or choose another --out; if you have changed "
                "its images, move the folder away and evaluate again."
            )
        for digest in [sha for split, _, sha in next(iter(found), ()) if split == "train"]:
            if owners.setdefault(digest, category) != category:
                raise UserError(
                    f"{folder}: categories '{owners[digest]}' and '{category}' have the same training images, which "
                    "would count twice in every mean. If you have renamed the category, move the folder away and "
                    "evaluate again; otherwise choose another --out for one of them."
                )


def _describe(content: Content) -> str:
    return ", ".join(f"{n} {split} images {digest[:8]}" for split, n, digest in content)


def _to_json(record: Record) -> dict[str, Any]:
    """Convert a record; the levels of a scoring share one line, so that the file stays short."""
    levels: dict[tuple[str, str, float | None], list[str]] = {}
    for score, mode, var, level in record.cells:
        levels.setdefault((score, mode, var), []).append(level)
    cells = [{"score": s, "mode": m, "var": v, "levels": " ".join(names)} for (s, m, v), names in levels.items()]
    return {"cells": cells, **dataclasses.asdict(record.origin)}


def _from_json(content: Mapping[str, Any]) -> Record:
    cells = [
        Cell(str(cell["score"]), str(cell["mode"]), None if cell["var"] is None else float(cell["var"]), level)
        for cell in content["cells"]
        for level in cell["levels"].split()
    ]
    images = {
        str(split): Images(int(entry["n"]), str(entry["sha256"]), _texts(entry["versions"]))
        for split, entry in content["images"].items()
    }
    return Record(Origin(images, _texts(content["versions"]), dict(content["settings"])), tuple(cells))


def _texts(versions: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(version) for name, version in versions.items()}


# --- facts of manifests ---

Facts = dict[tuple[str, str], str]  # what, category ("" for all) -> value


def facts(manifest: ResultsManifest, cells: Mapping[str, Sequence[Cell]]) -> Facts:
    """Return all facts that a manifest holds about these cells, by category, one short text per fact.

    If cells of a category have different images or versions, the fact names all of them.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for what, value in (*_flat(manifest.recipe), *_flat(manifest.folds, "folds")):
        found[what, ""] = {value}
    for category, chosen in cells.items():
        for record in manifest.categories.get(category, ()):
            if not set(chosen).isdisjoint(record.cells):
                for what, value in _origin_facts(record.origin):
                    found.setdefault((what, category), set()).add(value)
    return {key: " and ".join(sorted(values)) for key, values in found.items()}


def _origin_facts(origin: Origin) -> list[tuple[str, str]]:
    listed = _flat(origin.settings, "setting")
    for split, images in origin.images.items():
        listed += [(f"{split} images", str(images.n)), (f"{split} images, sha256", images.sha256)]
        listed += [(f"{split} features by {name}", version) for name, version in images.versions.items()]
    return listed + [(f"evaluated by {name}", version) for name, version in origin.versions.items()]


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Name every value of nested objects by its path."""
    listed = []
    for name, value in content.items():
        path = f"{prefix} {name}".strip().replace("_", " ")
        listed += _flat(value, path) if isinstance(value, Mapping) else [(path, "" if value is None else str(value))]
    return listed
