"""Two results folders beside each other: what differs in their manifests, which AUROCs differ, and by chance or not.

Rows are matched by what was measured (category, backbone, epochs, level, score, mode, var, fold), not by weights,
padding or key: those are what one compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.manifests import Facts, ResultsManifest, cells_of, facts
from gaussad_cli.tables.cells import MEAN, VARIANT, Variant, variants_of
from gaussad_cli.tables.significance import holm, sign_flip_p

MATCH = ["category", "backbone", "epochs", "level", "score", "mode", "var", "fold"]
ROW = ["network", "level", "score", "mode", "var"]
OTHERS = ["n_train", "dim", "shrinkage", *results.RATES]  # what rows hold besides the AUROC


@dataclass(frozen=True)
class Side:
    """One of the two folders: `name` is A or B, `metrics` as read, `manifests` by backbone and key."""

    name: str
    folder: Path
    dataset: str
    metrics: pd.DataFrame
    manifests: Mapping[tuple[str, str], ResultsManifest]

    def manifest(self, variant: Variant) -> ResultsManifest | None:
        """Return the manifest of a variant's rows; results of before manifests have none."""
        return self.manifests.get((variant.backbone, variant.key))


@dataclass(frozen=True)
class Choice:
    """What is compared: only these backbones and scores (none: all), and heads of the keys of variants."""

    backbones: Sequence[str] = ()
    scores: Sequence[str] = ()
    key_a: str | None = None
    key_b: str | None = None


@dataclass(frozen=True)
class Pair:
    """A variant in A and one in B of the same network (backbone and epochs; of trained ones, backbone and score).

    `title` names the network, and the variant where several are compared.
    """

    network: str
    title: str
    a: Variant
    b: Variant


@dataclass(frozen=True)
class Change:
    """Something that the manifests say otherwise, of some categories or ("" alone) of all."""

    network: str
    what: str
    a: str
    b: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes
    ----------
    changes : differences of the manifests
    unknown : side and network of those without a manifest: weights, padding and key are compared
    only_a, only_b : rows that are in one folder only, with their `network`
    matched : rows in both: MATCH, `network`, and every number twice, ending in _a and _b
    cells : see :func:`compare_cells`
    tests : see :func:`compare_categories`
    """

    a: Side
    b: Side
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]
    unknown: tuple[tuple[str, str], ...]
    only_a: pd.DataFrame
    only_b: pd.DataFrame
    matched: pd.DataFrame
    cells: pd.DataFrame
    tests: pd.DataFrame

    def beyond(self, points: float) -> pd.DataFrame:
        """Return the cells that differ by more than some percentage points, largest first; 0: that differ at all."""
        cells = self.cells[self.cells["differs"] & ((self.cells["size"] > points) | (points == 0))]
        return cells.sort_values("size", ascending=False, kind="stable")


def compare_sides(a: Side, b: Side, choice: Choice) -> Comparison:
    """Compare what was measured in both.

    Raises
    ------
    UserError
        If that is nothing, or it is not clear which variants are meant.
    """
    rows_a, rows_b = (_chosen(side, (a, b), choice) for side in (a, b))
    networks = sorted(set(rows_a["network"]) & set(rows_b["network"]))
    pairs = [pair for network in networks for pair in find_pairs(network, rows_a, rows_b, choice)]
    parts = [_matched(pair, rows_a, rows_b) for pair in pairs]
    if not any(map(len, parts)):
        held = (f"{side.folder} holds {_held(rows)}." for side, rows in ((a, rows_a), (b, rows_b)))
        raise UserError(f"nothing was measured in both: {' '.join(held)}")
    changes, unknown = [], []
    for pair, rows in zip(pairs, parts, strict=True):
        missing = [side.name for side, one in ((a, pair.a), (b, pair.b)) if side.manifest(one) is None]
        unknown += [(name, pair.title) for name in missing]
        of_a, of_b = (_facts(side, one, None if missing else rows) for side, one in ((a, pair.a), (b, pair.b)))
        changes += find_changes(pair.title, of_a, of_b)
    matched = pd.concat(parts, ignore_index=True)
    cells = compare_cells(matched)
    return Comparison(
        a,
        b,
        tuple(pairs),
        tuple(changes),
        tuple(unknown),
        rows_a.drop(matched["row_a"]),
        rows_b.drop(matched["row_b"]),
        matched,
        cells,
        compare_categories(cells),
    )


def read_side(name: str, folder: Path, dataset: str | None) -> Side:
    """Read a results folder, or directly a data set's folder in it.

    Raises
    ------
    UserError
        If there are no results of the data set, or they are damaged.
    """
    if (folder / "metrics.csv").is_file():
        root, own = folder.resolve().parent, folder.resolve().name
    else:
        there = [path.parent.name for path in folder.glob("*/metrics.csv")]
        root, own = folder, dataset or (there[0] if len(there) == 1 else "")
    metrics = results.read_metrics(root, own or None)
    held = str(metrics["dataset"].iloc[0])
    if dataset not in (None, held):
        raise UserError(f"{folder} holds results of '{held}', not of '{dataset}': leave --dataset out, or change it.")
    manifests = results.read_manifests(root, own)
    return Side(name, folder, held, metrics, {(one.backbone, one.key): one for one in manifests})


# --- which rows ---


def _chosen(side: Side, both: Sequence[Side], choice: Choice) -> pd.DataFrame:
    """Return a side's rows of the wanted backbones and scores, each with its `network`."""
    rows = side.metrics
    key = choice.key_a if side is both[0] else choice.key_b
    if key is not None and not rows["key"].str.startswith(key).any():
        raise UserError(f"{side.folder} has no key that begins with '{key}'. There are: {_listed(rows['key'])}.")
    for column, wanted in (("backbone", choice.backbones), ("score", choice.scores)):
        known = pd.concat([one.metrics[column] for one in both])
        for name in set(wanted) - set(known):
            near = did_you_mean(name, set(known))
            raise UserError(f"--{column} {name} is in neither folder.{near} There are: {_listed(known)}.")
        rows = rows[rows[column].isin(wanted)] if wanted else rows
    names = [_network(*one) for one in zip(rows["backbone"], rows["epochs"], rows["score"], strict=True)]
    return rows.assign(network=names)


def _network(backbone: str, epochs: float, score: str) -> str:
    if np.isnan(epochs):
        return f"{backbone}, {score}"
    return f"{backbone}, {epochs:.0f} epochs" if epochs else backbone


def _held(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"{network} ({_listed(of_network['score'])} of {_listed(of_network['category'])})"
        for network, of_network in rows.groupby("network")
    )


def _listed(names: pd.Series) -> str:
    return ", ".join(sorted(set(names)))


def find_pairs(network: str, rows_a: pd.DataFrame, rows_b: pd.DataFrame, choice: Choice) -> list[Pair]:
    """Pair the variants of a network: those that are in both with themselves, else the only one of either folder.

    Raises
    ------
    UserError
        If several are left; it lists them.
    """
    of_a = _of_key(variants_of(rows_a[rows_a["network"] == network]), choice.key_a)
    of_b = _of_key(variants_of(rows_b[rows_b["network"] == network]), choice.key_b)
    pairs = [(one, twin) for one in of_a if (twin := _twin(one, of_b))]
    if not pairs and len(of_a) == len(of_b) == 1:
        pairs = [(of_a[0], of_b[0])]
    if not pairs:
        lists = "; ".join(f"{side}: {' or '.join(map(_named, of))}" for side, of in (("A", of_a), ("B", of_b)))
        options = " and ".join(f"--key-{side}" for side, of in (("a", of_a), ("b", of_b)) if len(of) > 1)
        raise UserError(f"{network} has several variants, and none is in both. {lists}. Choose with {options} KEY.")
    several = len(pairs) > 1
    return [Pair(network, f"{network} ({_named(one)})" if several else network, one, twin) for one, twin in pairs]


def _named(variant: Variant) -> str:
    return f"weights {variant.weights}, padding {variant.padding}, key {variant.key}"


def _of_key(variants: list[Variant], key: str | None) -> list[Variant]:
    """Return the variants of a key; all where there is none, since a key is of one network only."""
    return [one for one in variants if key is not None and one.key.startswith(key)] or variants


def _twin(one: Variant, others: Sequence[Variant]) -> Variant | None:
    """Return the same variant among others; of the same key, weight files differ in their names only."""
    return one if one in others else next((other for other in others if one.key and other.key == one.key), None)


def _matched(pair: Pair, rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> pd.DataFrame:
    one, other = _of_variant(rows_a, pair.network, pair.a), _of_variant(rows_b, pair.network, pair.b)
    try:
        both = one.merge(other, on=MATCH, suffixes=("_a", "_b"), validate="one_to_one")
    except pd.errors.MergeError:
        raise UserError(f"a metrics.csv holds the same row of {pair.title} twice. Evaluate it again.") from None
    return both.assign(network=pair.title)


def _of_variant(rows: pd.DataFrame, network: str, variant: Variant) -> pd.DataFrame:
    """Return a variant's rows: MATCH, numbers, and `row`, their name in the whole."""
    rows = rows[rows["network"] == network]
    rows = rows[(rows[VARIANT] == list(variant)).all(axis=1)]
    return rows.rename_axis("row").reset_index()[["row", *MATCH, "auroc", *OTHERS]]


# --- what differs ---


def _facts(side: Side, variant: Variant, rows: pd.DataFrame | None) -> Facts:
    """Return what the results say of a variant, and if there are rows, what its manifest says of these."""
    names: Facts = {(name, ""): value for name, value in variant._asdict().items() if name != "backbone"}
    manifest = side.manifest(variant)
    if manifest is None or rows is None:
        return names
    cells = {str(category): cells_of(of_category) for category, of_category in rows.groupby("category")}
    return names | facts(manifest, cells) | names


def find_changes(network: str, a: Facts, b: Facts) -> list[Change]:
    """Return what two manifests say otherwise; one change of several categories where they have the same."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for what, category in dict.fromkeys((*a, *b)):
        values = a.get((what, category), ""), b.get((what, category), "")
        if values[0] != values[1]:
            found.setdefault((what, *values), []).append(category)
    return [Change(network, *change, tuple(categories)) for change, categories in found.items()]


def differing(matched: pd.DataFrame, column: str = "auroc") -> pd.Series:
    """Return which rows differ in a column; undefined in both is the same."""
    a, b = matched[f"{column}_a"], matched[f"{column}_b"]
    return (a != b) & ~(a.isna() & b.isna())


def compare_cells(matched: pd.DataFrame) -> pd.DataFrame:
    """Average the folds of every category, network, level and scoring.

    Returns
    -------
    Columns ROW, `category`, `a`, `b` (AUROC in percent), `difference` (b - a, percentage points; NaN where a fold is
    undefined in one only, or all in both), `largest` (of a fold), `differs` (to the bit, in any fold), and `size`: of
    the difference, infinite where a fold is undefined in one only.
    """
    a, b = 100 * matched["auroc_a"], 100 * matched["auroc_b"]
    folds = matched.assign(
        a=a, b=b, difference=b - a, apart=(b - a).abs(), differs=differing(matched), lost=a.isna() ^ b.isna()
    )
    cells = folds.groupby([*ROW, "category"], dropna=False, sort=False).agg(
        a=("a", "mean"),
        b=("b", "mean"),
        difference=("difference", "mean"),
        largest=("apart", "max"),
        differs=("differs", "any"),
        lost=("lost", "any"),
    )
    cells["difference"] = cells["difference"].mask(cells["lost"])
    cells["size"] = cells["difference"].abs().mask(cells["lost"], np.inf)
    return cells.drop(columns="lost").reset_index()


# --- by chance or not ---


def compare_categories(cells: pd.DataFrame) -> pd.DataFrame:
    """Test, per network, level and scoring, whether the categories' mean differences are zero on average.

    Returns
    -------
    Columns ROW, `category` (MEAN), `n` categories where the difference is defined, `a`, `b`, `difference` (their
    means), `sem` (NaN of one category), `p` and `p_holm` (corrected for the number of these rows). A category's folds
    share its test images and most of their training images: they are one observation, flipped together.
    """
    defined = cells[cells["difference"].notna()]
    by_row = defined.groupby(ROW, dropna=False, sort=False)
    tests = by_row.agg(
        n=("difference", "size"),
        a=("a", "mean"),
        b=("b", "mean"),
        difference=("difference", "mean"),
        sem=("difference", "sem"),
    )
    tests["p"] = [sign_flip_p(of_row["difference"].to_numpy()) for _, of_row in by_row]
    return tests.assign(p_holm=holm(tests["p"].to_numpy()), category=MEAN).reset_index()
