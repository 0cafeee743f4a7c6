"""The two results folders of a comparison: which rows and which variants of a network are set beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.manifests import ResultsManifest
from gaussad_cli.evaluation.rows import JOINT
from gaussad_cli.tables.cells import Variant, variants_of


@dataclass(frozen=True)
class Side:
    """One of the two folders: `name` is A or B, `metrics` are its rows, `manifests` are by backbone and key."""

    name: str
    folder: Path
    dataset: str
    metrics: pd.DataFrame
    manifests: Mapping[tuple[str, str], ResultsManifest]

    def manifest(self, variant: Variant) -> ResultsManifest | None:
        """Return the manifest of a variant's rows; results older than manifests have none."""
        return self.manifests.get((variant.backbone, variant.key))


@dataclass(frozen=True)
class ResultsFilter:
    """Which results to compare: backbones and scores (all if empty), and how the keys of the variants begin."""

    backbones: Sequence[str] = ()
    scores: Sequence[str] = ()
    key_a: str | None = None
    key_b: str | None = None


@dataclass(frozen=True)
class Pair:
    """A variant in A and one in B of the same network.

    A network is a backbone and a number of epochs, with "places" for features of these, or a backbone and a score if it
    was trained on images. `title` names it, and the variant too where several are compared.
    """

    network: str
    title: str
    a: Variant
    b: Variant


def read_side(name: str, folder: Path, dataset: str | None) -> Side:
    """Read a results folder, or the folder of a data set inside one.

    Raises
    ------
    UserError
        If there are no results of the data set, or they are damaged.
    """
    if (folder / "metrics.csv").is_file():
        root, subfolder = folder.resolve().parent, folder.resolve().name
    else:
        names = [path.parent.name for path in folder.glob("*/metrics.csv")]
        root, subfolder = folder, dataset or (names[0] if len(names) == 1 else "")
    metrics = results.read_metrics(root, subfolder or None)
    held = str(metrics["dataset"].iloc[0])
    if dataset not in (None, held):
        raise UserError(f"{folder} holds results of '{held}', not of '{dataset}': leave --dataset out, or change it.")
    manifests = results.read_manifests(root, subfolder)
    return Side(name, folder, held, metrics, {(manifest.backbone, manifest.key): manifest for manifest in manifests})


def select_rows(a: Side, b: Side, wanted: ResultsFilter) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of A and of B that are to be compared, each with its `network`.

    Raises
    ------
    UserError
        If neither folder has a wanted backbone or score, or a folder has no key that begins as wanted.
    """
    for side, key in ((a, wanted.key_a), (b, wanted.key_b)):
        keys = side.metrics["key"]
        if key is not None and not keys.str.startswith(key).any():
            raise UserError(f"{side.folder} has no key that begins with '{key}'. It has: {listed(keys)}.")
    rows_a, rows_b = a.metrics, b.metrics
    for column, names in (("backbone", wanted.backbones), ("score", wanted.scores)):
        known = pd.concat([a.metrics[column], b.metrics[column]])
        for name in set(names) - set(known):
            near = did_you_mean(name, set(known))
            raise UserError(f"--{column} {name} is in neither folder.{near} They have: {listed(known)}.")
        if names:
            rows_a, rows_b = rows_a[rows_a[column].isin(names)], rows_b[rows_b[column].isin(names)]
    return _with_network(rows_a), _with_network(rows_b)


def _with_network(rows: pd.DataFrame) -> pd.DataFrame:
    columns = zip(rows["backbone"], rows["epochs"], rows["score"], rows["level"], strict=True)
    return rows.assign(network=[_network(*values) for values in columns])


def _network(backbone: str, epochs: float, score: str, level: str) -> str:
    if level.startswith(JOINT):  # another extraction, with a grid
        return f"{_network(backbone, epochs, score, '')}, places"
    if np.isnan(epochs):
        return f"{backbone}, {score}"
    return f"{backbone}, {epochs:.0f} epochs" if epochs else backbone


def listed(names: pd.Series) -> str:
    """Return every name once, in order."""
    return ", ".join(sorted(set(names)))


def find_pairs(network: str, rows_a: pd.DataFrame, rows_b: pd.DataFrame, wanted: ResultsFilter) -> list[Pair]:
    """Pair the variants of a network: those in both folders with themselves, otherwise the only one of each folder.

    Raises
    ------
    UserError
        If the choice is not clear; the message lists the variants.
    """
    in_a = _with_key(variants_of(rows_a[rows_a["network"] == network]), wanted.key_a)
    in_b = _with_key(variants_of(rows_b[rows_b["network"] == network]), wanted.key_b)
    pairs = [(variant, twin) for variant in in_a if (twin := _twin(variant, in_b))]
    if not pairs and len(in_a) == len(in_b) == 1:
        pairs = [(in_a[0], in_b[0])]
    if not pairs:
        lists = "; ".join(
            f"{side}: {' or '.join(map(_described, found))}" for side, found in (("A", in_a), ("B", in_b))
        )
        options = " and ".join(f"--key-{side}" for side, found in (("a", in_a), ("b", in_b)) if len(found) > 1)
        raise UserError(f"{network} has several variants, and none is in both. {lists}. Choose with {options} KEY.")
    several = len(pairs) > 1
    return [Pair(network, f"{network} ({_described(a)})" if several else network, a, b) for a, b in pairs]


def _described(variant: Variant) -> str:
    return f"weights {variant.weights}, padding {variant.padding}, key {variant.key}"


def _with_key(variants: list[Variant], key: str | None) -> list[Variant]:
    """Return the variants whose key begins so; all of them if none does, since a key belongs to one network only."""
    return [variant for variant in variants if key is not None and variant.key.startswith(key)] or variants


def _twin(variant: Variant, others: Sequence[Variant]) -> Variant | None:
    """Return the same variant among others; with the same key, weight files differ in their names only."""
    if variant in others:
        return variant
    return next((other for other in others if variant.key and other.key == variant.key), None)
