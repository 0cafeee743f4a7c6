"""Measured rows to the paper's tables: pivots of `metrics.csv` and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from gaussad_cli.evaluation.rows import SUM
from gaussad_cli.evaluation.scorings import MODES, Scoring, compression_name
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.thresholds import SIGMAS, target_fpr
from gaussad_cli.tables.cells import (
    VARIANT,
    Cell,
    Column,
    Source,
    Table,
    Variant,
    comparable,
    full_name,
    general_notes,
    measure,
    publish,
    variants_of,
)
from gaussad_cli.tables.comparison import build_comparison, build_per_category

_SCORE_NAMES = {"l2": "L2", "sed": "SED", "mahalanobis": "Mahalanobis"}


@dataclass(frozen=True)
class _Layout:
    """How a table of the paper is laid out: one table per backbone with scorings as columns, or the other way."""

    title: str
    scorings: tuple[Scoring, ...]
    heading: Callable[[Scoring], str] | None  # None: columns are backbones
    belongs: Callable[[str], bool]  # which backbones


def _mode_name(scoring: Scoring) -> str:
    return compression_name(scoring.compression)


LAYOUTS: dict[int, _Layout] = {
    1: _Layout(
        "AUROC per level under different normal distributions",
        (Scoring("l2"), Scoring("sed"), Scoring("mahalanobis")),
        lambda scoring: _SCORE_NAMES[scoring.score],
        lambda _: True,
    ),
    2: _Layout(
        "AUROC per level of EfficientNets with Mahalanobis distance",
        (Scoring("mahalanobis"),),
        None,
        lambda backbone: "resnet" not in backbone,
    ),
    3: _Layout(
        "AUROC per level of (negated) PCA compressed features with Mahalanobis distance",
        tuple(Scoring("mahalanobis", mode) for mode in MODES),
        _mode_name,
        lambda _: True,
    ),
    7: _Layout(
        "AUROC per level of ResNets with Mahalanobis distance",
        (Scoring("mahalanobis"),),
        None,
        lambda backbone: "resnet" in backbone,
    ),
}


def build_tables(number: int, metrics: pd.DataFrame, backbones: Sequence[str] | None = None) -> list[Table]:
    """Build what was measured of a table.

    Tables I and III come once per backbone, Table IV once per backbone and number of epochs; Tables II and VII have
    backbones as columns, Tables V and VIII all approaches.

    Parameters
    ----------
    number : 1, 2, 3, 4, 5, 7 or 8
    metrics : as :func:`gaussad_cli.evaluation.results.read_metrics` gives them
    backbones : only these

    Returns
    -------
    Possibly none, if nothing that belongs to the table was measured.
    """
    if backbones:
        metrics = metrics[metrics["backbone"].isin(backbones)]
    if number == 4:
        return _build_working_points(metrics)
    if number in (5, 8):
        table = (build_comparison if number == 5 else build_per_category)(metrics)
        return [] if table is None else [table]
    layout = LAYOUTS[number]
    rows = metrics[(metrics["epochs"] == 0) & metrics["backbone"].map(layout.belongs)]
    variants = variants_of(rows)
    if layout.heading is None:
        tables = [[Column(_short_name(v, variants), Source.of(v, layout.scorings[0])) for v in variants]]
    else:
        tables = [
            [Column(layout.heading(scoring), Source.of(v, scoring)) for scoring in layout.scorings] for v in variants
        ]
    built = (_build(number, layout, columns, rows) for columns in tables)
    return [table for table in built if table is not None]


def _build(number: int, layout: _Layout, wanted: Sequence[Column], rows: pd.DataFrame) -> Table | None:
    """Fill the table's cells; columns of which nothing was measured are left out and named in a note."""
    measured = {column.title: column.source.select(rows) for column in wanted if column.source}
    columns = tuple(column for column in wanted if not measured[column.title].empty)
    if not columns:
        return None
    levels = _levels(level for column in columns for level in measured[column.title]["level"].unique())
    published = comparable(number, rows)
    cells = tuple(
        tuple(publish(published, measure(rows, Cell(level, source=column.source))) for column in columns)
        for level in levels
    )
    variants = variants_of(rows)
    title = layout.title
    if layout.heading and columns[0].source:
        title = f"{title}: {full_name(columns[0].source.variant, variants)}"
    table = Table(number, title, columns, levels, cells)
    return replace(table, notes=(*_notes(table, wanted), *_networks(table, layout, variants)))


def _networks(table: Table, layout: _Layout, variants: Sequence[Variant]) -> list[str]:
    """Say which weights and padding a table has whose columns are backbones."""
    if layout.heading:
        return []
    names = [full_name(column.source.variant, variants) for column in table.columns if column.source]
    return [f"Networks: {'; '.join(names)}."]


_WORKING_POINT_LEVEL = "7"
_WORKING_POINT_MODES = (
    Compression("pca", 0.99),
    NO_COMPRESSION,
    Compression("npca", 0.01),
    Compression("npca", 0.0001),
)


def _build_working_points(metrics: pd.DataFrame) -> list[Table]:
    """Build Table IV: rates beyond n sigma by the chi-square law; with and without augmentation."""
    rows = metrics[(metrics["level"] == _WORKING_POINT_LEVEL) & (metrics["score"] == "mahalanobis")]
    tables = []
    for (*names, epochs), of_variant in rows.groupby([*VARIANT, "epochs"]):
        variant = Variant(*map(str, names))
        wanted = [
            Column(f"{compression_name(mode)} {quantity}", Source.of(variant, scoring, int(epochs)))
            for mode in _WORKING_POINT_MODES
            for scoring in (Scoring("mahalanobis", mode),)
            for quantity in ("FPR", "TPR")
        ]
        columns = tuple(column for column in wanted if column.source and not column.source.select(of_variant).empty)
        if columns:
            name = full_name(variant, variants_of(rows[rows["epochs"] == epochs]))
            tables.append(_build_working_point(of_variant, columns, wanted, name, int(epochs)))
    return tables


def _build_working_point(
    rows: pd.DataFrame, columns: tuple[Column, ...], wanted: Sequence[Column], name: str, epochs: int
) -> Table:
    published = comparable(4, rows)
    published = published[published["epochs"].isin(["0"] if epochs == 0 else ["100", ""])]
    targets = 100 * target_fpr(SIGMAS)
    lines: list[tuple[str, Callable[[str], Cell]]] = [
        (f"{n} sigma, {target:.3g}%", partial(_rate_of, n)) for n, target in zip(SIGMAS, targets, strict=True)
    ]
    lines += [("AUROC", partial(_first_of_two, "auroc")), ("dimensions", partial(_first_of_two, "dim"))]
    cells = tuple(
        tuple(
            publish(published, measure(rows, replace(what(column.title[-3:].lower()), source=column.source)))
            for column in columns
        )
        for _, what in lines
    )
    how = f"{epochs} augmented epochs" if epochs else "not augmented"
    title = f"Wanted FPR, and FPR and TPR achieved, at level {_WORKING_POINT_LEVEL}: {name}, {how}"
    table = Table(4, title, columns, tuple(label for label, _ in lines), cells, row_title="wanted")
    notes = [*_notes(table, wanted), "AUROC and dimensions, of both rates alike, stand in the column of the FPR."]
    if epochs not in (0, 100) and any(cell.published_mean is not None for row in cells for cell in row):
        notes.append("The paper's cells are of 100 augmented epochs.")
    return replace(table, notes=tuple(notes))


def _rate_of(sigma: int, quantity: str) -> Cell:
    return Cell(_WORKING_POINT_LEVEL, quantity, sigma)


def _first_of_two(what: str, quantity: str) -> Cell:
    """Return the cell of something that both columns of a mode share: it stands in the first."""
    return Cell(_WORKING_POINT_LEVEL, what if quantity == "fpr" else "")


def _levels(names: Iterable[str]) -> tuple[str, ...]:
    """Levels in order, sums last."""
    return tuple(sorted(set(names), key=lambda name: (name.startswith(SUM), name)))


def _short_name(variant: Variant, variants: Sequence[Variant]) -> str:
    alike = [other for other in variants if other.backbone == variant.backbone]
    return variant.backbone if len(alike) == 1 else full_name(variant, variants)


def _notes(table: Table, wanted: Sequence[Column]) -> list[str]:
    notes = general_notes(table)
    if any(level.startswith(f"{SUM}:") for level in table.rows):
        notes.append("A sum over part of the levels has no published counterpart.")
    if left_out := [column.title for column in wanted if column not in table.columns]:
        notes.append(f"Not evaluated: {', '.join(left_out)}.")
    return notes
