"""A comparison of two results folders, as text and as CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pandas as pd

from gaussad_cli.compare.differences import DRAWN, EXACT, OTHERS, ROW, Comparison, differing, smallest_p
from gaussad_cli.compare.sides import listed

SHOWN = 30  # rows of a table in text; CSV has all of them
_ALPHA = 0.05
_DIFFERENCE = "B - A"
_NOISE = 1e-9  # percentage points that rounding leaves where folds cancel
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def as_text(comparison: Comparison, points: float = 0.0) -> str:
    """Say what differs in the manifests, how many AUROCs differ, which cells, and whether it is more than chance.

    Parameters
    ----------
    points : only cells that differ by more percentage points are listed
    """
    parts = [summary(comparison)]
    if comparison.is_same:
        return f"{parts[0]}\n\nThe same: neither the rows nor the manifests differ.\n"
    cells = comparison.beyond(points)
    by_more = f" by more than {points:g} percentage points" if points else ""
    if cells.empty:
        parts.append(f"No cell differs{by_more}.")
    else:
        heading = f"Cells that differ{by_more}: {len(cells)}. AUROC in percent, mean over folds, largest first"
        table = cells.rename(columns={"a": "A", "b": "B", "difference": _DIFFERENCE, "largest": "largest of a fold"})
        columns = [*ROW, "category", "A", "B", _DIFFERENCE, "largest of a fold"]
        parts.append(f"{heading}\n{_table(table, columns)}")
    if (comparison.tests["difference"].abs() > _NOISE).any():
        parts.append(_test_section(comparison.tests))
    return "\n\n".join(parts) + "\n"


def as_csv(comparison: Comparison, points: float = 0.0) -> str:
    """Write the cells that differ by more than so many points, then the means over categories with their tests.

    The latter are the rows of category "mean". AUROCs are in percent, differences in percentage points, all at full
    precision.
    """
    columns = [*ROW, "category", "n", "a", "b", "difference", "largest", "sem", "p", "p_holm"]
    rows = pd.concat([comparison.beyond(points), comparison.tests]).reindex(columns=columns)
    return str(rows.astype({"n": "Int64"}).to_csv(index=False, lineterminator="\n"))


def summary(comparison: Comparison) -> str:
    """Name the folders, and say what differs in their manifests and how many AUROCs differ."""
    sides = [f"{side.name}  {side.folder} ({side.dataset})" for side in (comparison.a, comparison.b)]
    return "\n\n".join(["\n".join(sides), _manifest_section(comparison), _count_section(comparison)])


def _manifest_section(comparison: Comparison) -> str:
    lines = ["Manifests, A | B"]
    for pair in comparison.pairs:
        changes = [change for change in comparison.changes if change.network == pair.title]
        sides = ((comparison.a, pair.a), (comparison.b, pair.b))
        missing = [side.name for side, variant in sides if side.manifest(variant) is None]
        heading = [f"  {pair.title}:", *([] if changes else ["the same"])]
        heading += [f"({' and '.join(missing)} without manifest: only weights, padding, key)"] if missing else []
        lines.append(" ".join(heading))
        for change in changes:
            names = ", ".join(filter(None, change.categories))
            values = (_HASH.sub(r"\1...", value) or "-" for value in (change.a, change.b))
            lines.append(f"    {change.what}{f' ({names})' if names else ''}: {' | '.join(values)}")
    return "\n".join(lines)


def _count_section(comparison: Comparison) -> str:
    matched = comparison.matched
    different = int(differing(matched).sum())
    lines = [
        "AUROCs, one per category, network, level, scoring and fold",
        f"  in both: {len(matched)}, of which {len(matched) - different} equal to the bit, {different} different",
        f"  only in A: {_only(comparison.only_a)}",
        f"  only in B: {_only(comparison.only_b)}",
    ]
    counts = {column: int(differing(matched, column).sum()) for column in OTHERS}
    if others := [f"{column} in {n}" for column, n in counts.items() if n]:
        lines.append(f"  other columns that differ, rows: {', '.join(others)}")
    return "\n".join(lines)


def _only(rows: pd.DataFrame) -> str:
    networks = [
        f"    {len(of_network)} of {network} ({listed(of_network['category'])})"
        for network, of_network in rows.groupby("network")
    ]
    return "\n".join([str(len(rows)), *networks])


def _table(rows: pd.DataFrame, columns: list[str]) -> str:
    """Lay out the first rows, and say how many more there are."""
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


def _test_section(tests: pd.DataFrame) -> str:
    """Lay out the rows that differ, the smallest p first; p (Holm) is corrected for all rows."""
    differ = tests.assign(size=tests["difference"].abs())
    differ = differ[differ["size"] > _NOISE]
    ordered = differ.sort_values(["p", "size"], ascending=[True, False], kind="stable")
    table = ordered.rename(columns={"n": "categories", "difference": _DIFFERENCE, "sem": "SEM", "p_holm": "p (Holm)"})
    lines = [
        "Mean over categories: AUROC in percent, B - A in percentage points",
        _table(table, [*ROW, "categories", _DIFFERENCE, "SEM", "p", "p (Holm)"]),
        "p is from an exact two-sided sign-flip permutation test of the categories' mean differences. The folds of a",
        "category share test images and most training images: they count as one observation and are flipped together.",
        f"p (Holm) is corrected for all rows compared: {len(tests)}, of which {len(ordered)} differ.",
        *_limits(tests),
    ]
    return "\n".join(lines)


def _limits(tests: pd.DataFrame) -> list[str]:
    """Say so if no p can be small, or not all sign flips are tried."""
    k = int(tests["n"].max())
    least = smallest_p(k)
    corrected = min(1.0, least * len(tests))
    limits = []
    if corrected > _ALPHA:
        fewer = " Compare fewer rows with --backbone and --score." if least <= _ALPHA else ""
        limits.append(
            f"With {k} categor{'y' if k == 1 else 'ies'}, p is at least {least:.3g}, or {corrected:.3g} when corrected "
            f"for {len(tests)} rows: this test cannot show any difference, however large.{fewer}"
        )
    if k > EXACT:
        limits.append(f"With more than {EXACT} categories, {DRAWN} random sign flips are drawn, with a fixed seed.")
    return limits
