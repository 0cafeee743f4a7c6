"""What differs between two results folders: manifests, rows and AUROCs, and whether the AUROCs differ by chance.

Rows are matched by what was measured: category, backbone, epochs, level, score, mode, var and fold. Weights, padding
and key may differ, because those are what one compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from gaussad_cli.compare.sides import Pair, ResultsFilter, Side, find_pairs, listed, select_rows
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.manifests import Facts, cells_of, facts
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.tables.cells import MEAN, VARIANT, Variant

MATCH = ["category", "backbone", "epochs", "level", "score", "mode", "var", "fold"]
ROW = ["network", "level", "score", "mode", "var"]
OTHERS = ["n_train", "dim", "shrinkage", *results.RATES, *results.ADDED]  # the columns of numbers besides the AUROC


@dataclass(frozen=True)
class Change:
    """A fact that the two manifests state differently, for some categories or, if these are ("",), for all."""

    network: str
    what: str
    a: str
    b: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two folders.

    Attributes
    ----------
    changes : what the manifests state differently; where a side has none, only weights, padding and key are compared
    only_a, only_b : rows that are in one folder only, with their `network`
    matched : rows in both: MATCH, `network`, and every number twice, with the endings _a and _b
    cells : see :func:`compare_cells`
    tests : see :func:`compare_categories`
    """

    a: Side
    b: Side
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]
    only_a: pd.DataFrame
    only_b: pd.DataFrame
    matched: pd.DataFrame
    cells: pd.DataFrame
    tests: pd.DataFrame

    def beyond(self, points: float) -> pd.DataFrame:
        """Return the cells that differ by more than some percentage points, or at all if 0; the largest first."""
        cells = self.cells[self.cells["differs"] & ((self.cells["size"] > points) | (points == 0))]
        return cells.sort_values("size", ascending=False, kind="stable")

    @property
    def is_same(self) -> bool:
        """Whether nothing differs: no number, no row that is in one folder only, and nothing in the manifests."""
        if self.changes or len(self.only_a) or len(self.only_b):
            return False
        return not any(differing(self.matched, column).any() for column in ("auroc", *OTHERS))


def compare_sides(a: Side, b: Side, wanted: ResultsFilter) -> Comparison:
    """Compare what was measured in both folders.

    Raises
    ------
    UserError
        If nothing was measured in both, or it is not clear which variants to compare.
    """
    rows_a, rows_b = select_rows(a, b, wanted)
    networks = sorted(set(rows_a["network"]) & set(rows_b["network"]))
    pairs = [pair for network in networks for pair in find_pairs(network, rows_a, rows_b, wanted)]
    parts = [_match(pair, rows_a, rows_b) for pair in pairs]
    if not any(map(len, parts)):
        held = (f"{side.folder} holds {_held(rows)}." for side, rows in ((a, rows_a), (b, rows_b)))
        raise UserError(f"nothing was measured in both: {' '.join(held)}")
    changes = []
    for pair, rows in zip(pairs, parts, strict=True):
        manifest_a, manifest_b = a.manifest(pair.a), b.manifest(pair.b)
        facts_a, facts_b = _names(pair.a), _names(pair.b)
        if manifest_a and manifest_b:
            cells = {str(category): cells_of(of_category) for category, of_category in rows.groupby("category")}
            facts_a = facts_a | facts(manifest_a, cells) | facts_a  # the results' own come first, and win
            facts_b = facts_b | facts(manifest_b, cells) | facts_b
        changes += find_changes(pair.title, facts_a, facts_b)
    matched = pd.concat(parts, ignore_index=True)
    only_a, only_b = rows_a.drop(matched["row_a"]), rows_b.drop(matched["row_b"])
    cells = compare_cells(matched)
    tests = compare_categories(cells)
    return Comparison(a, b, tuple(pairs), tuple(changes), only_a, only_b, matched, cells, tests)


def _held(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"{network} ({listed(of_network['score'])} of {listed(of_network['category'])})"
        for network, of_network in rows.groupby("network")
    )


def _match(pair: Pair, rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a pair that are in both folders; `row_a` and `row_b` are their labels in the whole."""
    sides = []
    for rows, variant in ((rows_a, pair.a), (rows_b, pair.b)):
        of_variant = rows[(rows["network"] == pair.network) & (rows[VARIANT] == list(variant)).all(axis=1)]
        sides.append(of_variant.rename_axis("row").reset_index()[["row", *MATCH, "auroc", *OTHERS]])
    try:
        matched = sides[0].merge(sides[1], on=MATCH, suffixes=("_a", "_b"), validate="one_to_one")
    except pd.errors.MergeError:
        raise UserError(f"a metrics.csv holds the same row of {pair.title} twice. Evaluate it again.") from None
    return matched.assign(network=pair.title)


def _names(variant: Variant) -> Facts:
    """Return the facts that the results themselves hold."""
    return {(name, ""): value for name, value in variant._asdict().items() if name != "backbone"}


def find_changes(network: str, a: Facts, b: Facts) -> list[Change]:
    """Return the facts that differ; several categories with the same two values share one change."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for what, category in dict.fromkeys((*a, *b)):
        values = a.get((what, category), ""), b.get((what, category), "")
        if values[0] != values[1]:
            found.setdefault((what, *values), []).append(category)
    return [Change(network, *change, tuple(categories)) for change, categories in found.items()]


def differing(matched: pd.DataFrame, column: str = "auroc") -> pd.Series:
    """Return which rows differ in a column; a value that is undefined in both folders does not differ.

    An added column does not differ either where one side has no value: an earlier gaussad did not measure it.
    """
    a, b = matched[f"{column}_a"], matched[f"{column}_b"]
    return (a != b) & ~(a.isna() | b.isna() if column in results.ADDED else a.isna() & b.isna())


def compare_cells(matched: pd.DataFrame) -> pd.DataFrame:
    """Average the folds of every category, network, level and scoring.

    Returns
    -------
    Columns ROW, `category`, `a` and `b` (AUROC in percent), `difference` (b - a in percentage points; NaN if a fold is
    undefined in one folder only, or all are in both), `largest` (absolute difference of a fold), `differs` (to the bit,
    in any fold), and `size` (absolute difference; infinite if a fold is undefined in one folder only).
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


def compare_categories(cells: pd.DataFrame) -> pd.DataFrame:
    """Test for every network, level and scoring whether the differences of the categories are zero on average.

    The folds of a category share its test images and most of their training images, so a category counts as one
    observation.

    Returns
    -------
    Columns ROW, `category` (MEAN), `n` (categories whose difference is defined), `a`, `b` and `difference` (their
    means), `sem` (NaN for a single category), `p`, and `p_holm` (corrected for the number of these rows).
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


EXACT = 16  # pairs up to which all sign flips are tried
DRAWN = 2 ** (EXACT - 1)  # sign flips that are drawn for more pairs: as many as there are for 16


def sign_flip_p(differences: Array) -> float:
    """Return the two-sided p of the hypothesis that paired differences (k,) are symmetric about zero.

    The same as ``scipy.stats.permutation_test((differences,), np.mean, permutation_type="samples")``, which takes 0.3 s
    for 15 categories, while a comparison needs hundreds of such tests.
    """
    flips = _flips(len(differences))
    tolerance = 1e-9 * np.abs(differences).sum()  # AUROCs are fractions: equal sums in another order are ties
    return float((np.abs(flips @ differences) >= abs(differences.sum()) - tolerance).mean())


def smallest_p(k: int) -> float:
    """Return the smallest p that :func:`sign_flip_p` can give for k differences: 2 of 2^k sign flips."""
    return 1 / len(_flips(k))


@lru_cache
def _flips(k: int) -> Array:
    """Return signs (n, k), the first row all positive; the other half of all sign flips would only mirror these."""
    if k > EXACT:
        return np.vstack([np.ones(k), np.random.default_rng(0).choice([-1.0, 1.0], (DRAWN, k))])
    bits = np.arange(2 ** (k - 1))[:, None] >> np.arange(k)
    return np.where(bits & 1, -1.0, 1.0)


def holm(p: Array) -> Array:
    """Return p values (m,) corrected for as many tests by Holm's step-down variant of Bonferroni's method."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
