"""A comparison of two results folders as text and CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pandas as pd

from gaussad_cli.tables.compare import OTHERS, ROW, Change, Comparison, differing
from gaussad_cli.tables.significance import EXACT, smallest_p

SHOWN = 30  # rows of a table in text; CSV has all
_ALPHA = 0.05
_DIFFERENCE = "B - A"
_NOISE = 1e-9  # percentage points: what is left of folds that cancel
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def as_text(comparison: Comparison, points: float = 0.0) -> str:
    """Say what differs in the manifests, then how many AUROCs, which cells, and whether it is more than chance.

    Parameters
    ----------
    points : cells that differ by no more percentage points are not listed
    """
    parts = [summary(comparison)]
    if is_same(comparison):
        return f"{parts[0]}\n\nThe same: no row and nothing that is known of their making differs.\n"
    cells = comparison.beyond(points)
    by_more = f" by more than {points:g} percentage points" if points else ""
    if cells.empty:
        parts.append(f"No cell differs{by_more}.")
    else:
        heading = f"Cells that differ{by_more}: {len(cells)}. AUROC in percent, mean over folds, largest first"
        parts.append(f"{heading}\n{_cell_table(cells)}")
    if (comparison.tests["difference"].abs() > _NOISE).any():
        parts.append(_test_section(comparison.tests))
    return "\n\n".join(parts) + "\n"


def summary(comparison: Comparison) -> str:
    """Say which folders, what differs in their manifests, and how many AUROCs."""
    sides = [f"{side.name}  {side.folder} ({side.dataset})" for side in (comparison.a, comparison.b)]
    return "\n\n".join(["\n".join(sides), _manifest_section(comparison), _count_section(comparison)])


def is_same(comparison: Comparison) -> bool:
    """Whether nothing at all differs: rows, what is in one only, manifests."""
    matched = comparison.matched
    only = len(comparison.only_a) + len(comparison.only_b)
    return not (comparison.changes or only or any(differing(matched, name).any() for name in ("auroc", *OTHERS)))


def as_csv(comparison: Comparison, points: float = 0.0) -> str:
    """Write the cells that differ by more than so many points, then the means over categories with their tests.

    The latter are the rows of category "mean". AUROCs in percent, differences in percentage points, full precision.
    """
    columns = [*ROW, "category", "n", "a", "b", "difference", "largest", "sem", "p", "p_holm"]
    rows = pd.concat([comparison.beyond(points), comparison.tests]).reindex(columns=columns)
    return str(rows.astype({"n": "Int64"}).to_csv(index=False, lineterminator="\n"))


# --- manifests ---


def _manifest_section(comparison: Comparison) -> str:
    lines = []
    for pair in comparison.pairs:
        changes = [_change(change) for change in comparison.changes if change.network == pair.title]
        missing = [name for name, network in comparison.unknown if network == pair.title]
        same = [] if changes else ["the same"]
        same += [f"({' and '.join(missing)} without manifest: only weights, padding, key)"] if missing else []
        lines.append(" ".join([f"  {pair.title}:", *same]))
        lines += [f"    {change}" for change in changes]
    return "\n".join(["Manifests, A | B", *lines])


def _change(change: Change) -> str:
    names = ", ".join(filter(None, change.categories))
    values = (_HASH.sub(r"\1...", value) or "-" for value in (change.a, change.b))
    return f"{change.what}{f' ({names})' if names else ''}: {' | '.join(values)}"


# --- rows ---


def _count_section(comparison: Comparison) -> str:
    matched = comparison.matched
    different = int(differing(matched).sum())
    lines = [
        "AUROCs, one per category, network, level, scoring and fold",
        f"  in both: {len(matched)}, of which {len(matched) - different} equal to the bit, {different} different",
        f"  only in A: {_only(comparison.only_a)}",
        f"  only in B: {_only(comparison.only_b)}",
    ]
    others = [(name, int(differing(matched, name).sum())) for name in OTHERS]
    if said := [f"{name} in {n}" for name, n in others if n]:
        lines.append(f"  other columns that differ, rows: {', '.join(said)}")
    return "\n".join(lines)


def _only(rows: pd.DataFrame) -> str:
    networks = [
        f"    {len(of_network)} of {network} ({', '.join(sorted(set(of_network['category'])))})"
        for network, of_network in rows.groupby("network")
    ]
    return "\n".join([str(len(rows)), *networks])


def _cell_table(cells: pd.DataFrame) -> str:
    table = cells.rename(columns={"a": "A", "b": "B", "difference": _DIFFERENCE, "largest": "largest of a fold"})
    return _table(table, [*ROW, "category", "A", "B", _DIFFERENCE, "largest of a fold"])


def _table(rows: pd.DataFrame, columns: list[str]) -> str:
    """Lay out the first rows."""
    shown = rows[columns].head(SHOWN)
    texts = {name: shown[name].map(partial(_text, style=_STYLES.get(name, small))) for name in columns}
    lines = [pd.DataFrame(texts).to_string(index=False)]
    if len(rows) > SHOWN:
        lines.append(f"and {len(rows) - SHOWN} more (--format csv has all)")
    return "\n".join(lines)


def _text(value: object, style: Callable[[float], str]) -> str:
    if isinstance(value, str):
        return value
    return "-" if pd.isna(value) else style(value)  # type: ignore[arg-type]


def small(points: float) -> str:
    """Write percentage points with two decimals, or as many as a smaller number needs for two digits."""
    return "0" if abs(points) < _NOISE else f"{points:.2f}" if abs(points) >= 0.1 else f"{points:.2g}"


def _signed(points: float) -> str:
    return f"{'+' if points >= _NOISE else ''}{small(points)}"


_STYLES: dict[str, Callable[[float], str]] = {
    "var": "{:g}".format,
    "categories": "{:.0f}".format,
    "A": "{:.2f}".format,
    "B": "{:.2f}".format,
    _DIFFERENCE: _signed,
    "p": "{:.3g}".format,
    "p (Holm)": "{:.3g}".format,
}


# --- tests ---


def _test_section(tests: pd.DataFrame) -> str:
    """Lay out the rows that differ, the least probable first; all are corrected for."""
    differ = tests.assign(size=tests["difference"].abs())
    differ = differ[differ["size"] > _NOISE]
    ordered = differ.sort_values(["p", "size"], ascending=[True, False], kind="stable")
    table = ordered.rename(columns={"n": "categories", "difference": _DIFFERENCE, "sem": "SEM", "p_holm": "p (Holm)"})
    lines = [
        "Mean over categories: AUROC in percent, B - A in percentage points",
        _table(table, [*ROW, "categories", _DIFFERENCE, "SEM", "p", "p (Holm)"]),
        "p: exact sign-flip permutation test, two-sided, of the categories' mean differences. The folds of a category",
        "share test images and most training images: they are one observation, and are flipped together.",
        f"p (Holm) is corrected for all rows compared: {len(tests)}, of which {len(ordered)} differ.",
        *_limits(tests),
    ]
    return "\n".join(lines)


def _limits(tests: pd.DataFrame) -> list[str]:
    """Say how small p can be, where that keeps it from ever being small."""
    k = int(tests["n"].max())
    least = smallest_p(k)
    corrected = min(1.0, least * len(tests))
    said = []
    if corrected > _ALPHA:
        fewer = " Compare fewer rows, by --backbone and --score." if least <= _ALPHA else ""
        said.append(
            f"With {k} categor{'y' if k == 1 else 'ies'} no p can be below {least:.3g}, and no corrected one of "
            f"{len(tests)} below {corrected:.3g}: whatever the difference, this test cannot show it.{fewer}"
        )
    if k > EXACT:
        said.append(f"Of more than {EXACT} categories, {2 ** (EXACT - 1)} sign flips are drawn, with a fixed seed.")
    return said
