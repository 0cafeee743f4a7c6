"""How results came about: ``<results>/<dataset>/manifests/<backbone>-<key>.json``, beside the rows it is of.

One file per extraction or training, with its recipe and folds. Per category it holds *records*: which cells (score,
mode, var, levels) came of which images and were computed by which versions; cells that were made alike share one. So an
evaluation of one more category, level or score adds to what is there, and one that is made again replaces its own
cells only, as with the rows. Nothing in it depends on when or where a run was made: no time, no path.
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
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.category import OpenCategory
from gaussad_cli.extraction import store
from gaussad_cli.files import write_json

SCHEMA = 1
FOLDER = "manifests"
KFOLD: dict[str, Any] = {"kind": "KFold", "n": N_FOLDS, "shuffle": True, "seed": FOLD_SEED}
STRATIFIED = {**KFOLD, "kind": "StratifiedKFold", "of": "training and test images pooled"}
SPLITS = ("train", "test")


class Cell(NamedTuple):
    """What tells a category's rows of one manifest apart: columns of the results."""

    score: str
    mode: str
    var: float | None
    level: str


@dataclass(frozen=True)
class Images:
    """The images of a split.

    Attributes
    ----------
    n : how many
    sha256 : digest of the list of their names, labels and files' hashes
    versions : of the libraries that extracted their features; none where networks were trained on the images
    """

    n: int
    sha256: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: Iterable[tuple[str, str, str]], versions: Mapping[str, str] | None = None) -> Images:
        """Digest the (name, label, SHA-256) of every image."""
        listed = [list(image) for image in images]
        return cls(len(listed), store.digest(listed), versions or {})


@dataclass(frozen=True)
class Origin:
    """What cells came of.

    Attributes
    ----------
    images : per split
    versions : of the libraries that computed the rows; what was fitted or trained before, and is in the cache, may be
        of older ones
    settings : what a comparator was set to in this category, JSON-able
    """

    images: Mapping[str, Images]
    versions: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """Cells that were made alike."""

    origin: Origin
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ResultsManifest:
    """What the rows of one backbone and key were made of; `recipe` and `folds` are JSON-able."""

    dataset: str
    backbone: str
    key: str
    recipe: Mapping[str, Any]
    folds: Mapping[str, Any]
    categories: Mapping[str, tuple[Record, ...]]


# --- making them ---


def of_extraction(category: OpenCategory, metrics: pd.DataFrame) -> ResultsManifest:
    """Return the manifest of a category's rows (`metrics`) that were computed from extracted features."""
    images = {
        split: Images.of(((i.name, i.label, i.sha256) for i in manifest.images), _texts(manifest.versions))
        for split, manifest in (("train", category.train), ("test", category.test))
    }
    extraction = category.extraction
    recipe = dataclasses.asdict(extraction.recipe)
    records = {category.name: (Record(Origin(images, store.versions()), cells_of(metrics)),)}
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
    """Return the manifest of a category's rows by networks that were trained on its images.

    Parameters
    ----------
    identity : the columns that the rows share
    recipe_file : what the training's states are the result of, which lies beside them
    labels : image name -> class folder
    metrics : the rows
    folds : how images were split
    """
    content = json.loads(recipe_file.read_text("utf-8"))
    category, hashes = str(content.pop("category")), [(str(name), str(sha)) for name, sha in content.pop("images")]
    del content["folds"]  # numbers of images: they follow from the images and how they are split
    images = {
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
    """Return which cells rows are of, in order."""
    rows = metrics[list(Cell._fields)].drop_duplicates().itertuples(index=False, name=None)
    cells = {Cell(str(s), str(m), None if pd.isna(v) else float(v), str(level)) for s, m, v, level in rows}
    return tuple(sorted(cells, key=_order))


def _order(cell: Cell) -> tuple[str, str, float, bool, int, str]:
    number = int(cell.level) if cell.level.isdecimal() else 0
    return cell.score, cell.mode, -(cell.var or 0.0), not number, number, cell.level


def merge(old: ResultsManifest | None, new: ResultsManifest) -> ResultsManifest:
    """Return both; where they hold the same cells, the new ones."""
    if old is None:
        return dataclasses.replace(new, categories={name: _alike(r) for name, r in new.categories.items()})
    categories = dict(old.categories)
    for name, records in new.categories.items():
        categories[name] = _alike([*categories.get(name, ()), *records])
    return dataclasses.replace(new, categories=dict(sorted(categories.items())))


def _alike(records: Iterable[Record]) -> tuple[Record, ...]:
    """Group cells by what they came of, in an order that does not depend on that of the runs; later ones win."""
    origins = {cell: record.origin for record in records for cell in record.cells}
    groups: dict[str, list[Cell]] = {}
    for cell in sorted(origins, key=_order):
        groups.setdefault(store.digest(dataclasses.asdict(origins[cell])), []).append(cell)
    return tuple(Record(origins[cells[0]], tuple(cells)) for cells in groups.values())


# --- files ---


def path_of(folder: Path, manifest: ResultsManifest) -> Path:
    """Return where a manifest belongs; `folder` is the data set's in the results."""
    return folder / FOLDER / f"{store.backbone_folder(manifest.backbone)}-{manifest.key}.json"


def add(folder: Path, new: ResultsManifest) -> ResultsManifest:
    """Return what a manifest will be with new cells; `folder` is the data set's in the results.

    Raises
    ------
    UserError
        If the one that is there is damaged.
    """
    path = path_of(folder, new)
    return merge(read(path) if path.exists() else None, new)


def write(folder: Path, manifest: ResultsManifest) -> None:
    """Write a manifest; `folder` is the data set's in the results.

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
        If it cannot be read, is damaged, edited, or of another schema.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise UserError(f"{path} has schema {content['schema']}, this gaussad reads {SCHEMA}. {_REMEDY}")
        if content != store.sealed(content):
            raise UserError(f"{path} was edited: it does not match its own digest. {_REMEDY}")
        return ResultsManifest(
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


_REMEDY = "Move it away and run the evaluation again."


def _to_json(record: Record) -> dict[str, Any]:
    """Write the levels of a scoring in one line: a line per level would be a long file."""
    levels: dict[tuple[str, str, float | None], list[str]] = {}
    for score, mode, var, level in record.cells:
        levels.setdefault((score, mode, var), []).append(level)
    cells = [{"score": s, "mode": m, "var": v, "levels": " ".join(names)} for (s, m, v), names in levels.items()]
    return {"cells": cells, **dataclasses.asdict(record.origin)}


def _from_json(content: Mapping[str, Any]) -> Record:
    cells = [
        Cell(str(one["score"]), str(one["mode"]), None if one["var"] is None else float(one["var"]), level)
        for one in content["cells"]
        for level in one["levels"].split()
    ]
    images = {
        str(split): Images(int(one["n"]), str(one["sha256"]), _texts(one["versions"]))
        for split, one in content["images"].items()
    }
    return Record(Origin(images, _texts(content["versions"]), dict(content["settings"])), tuple(cells))


def _texts(versions: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(version) for name, version in versions.items()}


# --- what they say ---

Facts = dict[tuple[str, str], str]  # what, category ("" for all) -> value


def facts(manifest: ResultsManifest, cells: Mapping[str, Sequence[Cell]]) -> Facts:
    """Return everything that a manifest says of these cells, by category, one short text per fact.

    Where cells of a category came of different images or versions, the fact names all of them.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for what, value in (*_flat(manifest.recipe), *_flat(manifest.folds, "folds")):
        found[what, ""] = {value}
    for category, wanted in cells.items():
        for record in manifest.categories.get(category, ()):
            if not set(wanted).isdisjoint(record.cells):
                for what, value in _origin_facts(record.origin):
                    found.setdefault((what, category), set()).add(value)
    return {key: " and ".join(sorted(values)) for key, values in found.items()}


def _origin_facts(origin: Origin) -> list[tuple[str, str]]:
    said = _flat(origin.settings, "setting")
    for split, images in origin.images.items():
        said += [(f"{split} images", str(images.n)), (f"{split} images, sha256", images.sha256)]
        said += [(f"{split} features by {name}", version) for name, version in images.versions.items()]
    return said + [(f"evaluated by {name}", version) for name, version in origin.versions.items()]


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Name every value of nested objects by its path."""
    said = []
    for name, value in content.items():
        path = f"{prefix} {name}".strip().replace("_", " ")
        said += _flat(value, path) if isinstance(value, Mapping) else [(path, "" if value is None else str(value))]
    return said
