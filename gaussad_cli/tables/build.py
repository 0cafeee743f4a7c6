"""From measured rows to the paper's tables: every table is a pivot of `metrics.csv` and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gaussad_cli.evaluation.rows import JOINT, SUM
from gaussad_cli.evaluation.scorings import MAHALANOBIS, SCORES, TABLE_I, TABLE_III, Scoring, compression_name
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.thresholds import SIGMAS, target_fpr
from gaussad_cli.tables.cells import (
    VARIANT,
    CellSource,
    Column,
    Table,
    TableCell,
    Variant,
    comparable,
    full_name,
    general_notes,
    measure,
    publish,
    shared_categories,
    short_name,
    variants_of,
)
from gaussad_cli.tables.known import PLACES
from gaussad_cli.tables.places import build_places
from gaussad_cli.tables.state_of_the_art import build_approaches, build_per_category


@dataclass(frozen=True)
class _Layout:
    """How a table of AUROCs per level is laid out.

    With a `heading`, there is a table per backbone and its columns are scorings; without, the columns are backbones.
    """

    title: str
    scorings: tuple[Scoring, ...]
    heading: Callable[[Scoring], str] | None
    belongs: Callable[[str], bool]  # which backbones


LAYOUTS: dict[int, _Layout] = {
    1: _Layout(
        "AUROC per level under different normal distributions",
        TABLE_I,
        lambda scoring: SCORES[scoring.score].title,
        lambda _: True,
    ),
    2: _Layout(
        "AUROC per level of EfficientNets with Mahalanobis distance",
        (Scoring(MAHALANOBIS),),
        None,
        lambda backbone: "resnet" not in backbone,
    ),
    3: _Layout(
        "AUROC per level of (negated) PCA compressed features with Mahalanobis distance",
        TABLE_III,
        lambda scoring: compression_name(scoring.compression),
        lambda _: True,
    ),
    7: _Layout(
        "AUROC per level of ResNets with Mahalanobis distance",
        (Scoring(MAHALANOBIS),),
        None,
        lambda backbone: "resnet" in backbone,
    ),
}


def build_tables(number: int, metrics: pd.DataFrame, backbones: Sequence[str] | None = None) -> list[Table]:
    """Build a table, as far as it was measured.

    Tables I and III come once per backbone, Table IV once per backbone and number of epochs. Tables II and VII have
    backbones as columns. Tables V and VIII compare all approaches. The table of places is not the paper's.

    Parameters
    ----------
    number : of the table, see :data:`gaussad_cli.tables.known.NAMES`
    metrics : as :func:`gaussad_cli.evaluation.results.read_metrics` returns them
    backbones : only these; None for all

    Returns
    -------
    An empty list if nothing that belongs to the table was measured.
    """
    if backbones:
        metrics = metrics[metrics["backbone"].isin(backbones)]
    if number == PLACES:
        table = build_places(metrics)
        return [] if table is None else [table]
    metrics = metrics[~metrics["level"].str.startswith(JOINT)]  # the paper has no features of places
    if metrics.empty:
        return []
    if number == 4:
        return _build_working_points(metrics)
    if number in (5, 8):
        table = (build_approaches if number == 5 else build_per_category)(metrics)
        return [] if table is None else [table]
    layout = LAYOUTS[number]
    rows = metrics[(metrics["epochs"] == 0) & metrics["backbone"].map(layout.belongs)]
    variants = variants_of(rows)
    if layout.heading is None:
        columns = [Column(short_name(v, variants), CellSource.of(v, layout.scorings[0])) for v in variants]
        built = [_build(number, layout.title, columns, rows)]
        if built[0] and (shared := shared_categories(built[0].all_cells())):
            title = f"{layout.title}, over the categories that all columns share"
            built.append(_build(number, title, columns, rows[rows["category"].isin(shared)]))
    else:
        built = []
        for variant in variants:
            columns = [Column(layout.heading(s), CellSource.of(variant, s)) for s in layout.scorings]
            built.append(_build(number, f"{layout.title}: {full_name(variant, variants)}", columns, rows))
    return [table for table in built if table is not None]


def _build(number: int, title: str, wanted: Sequence[Column], rows: pd.DataFrame) -> Table | None:
    """Build a table of AUROCs per level; notes name what was not measured, and networks that share the table."""
    columns, found = _measured(wanted, rows)
    if not columns:
        return None
    levels = sorted(set(found["level"]), key=lambda name: (name.startswith(SUM), name))  # sums last
    published = comparable(number, rows)
    cells = tuple(
        tuple(publish(published, measure(rows, TableCell(level, source=column.source))) for column in columns)
        for level in levels
    )
    table = Table(number, title, columns, tuple(levels), cells)
    notes = _notes(table, wanted)
    if LAYOUTS[number].heading is None:
        variants = variants_of(rows)
        names = [full_name(column.source.variant, variants) for column in columns if column.source]
        notes.append(f"Networks: {'; '.join(names)}.")
    return replace(table, notes=tuple(notes))


def _measured(wanted: Sequence[Column], rows: pd.DataFrame) -> tuple[tuple[Column, ...], pd.DataFrame]:
    """Return the columns of which something was measured, and those rows."""
    selected = {column: column.source.select(rows) for column in wanted if column.source}
    columns = tuple(column for column, found in selected.items() if not found.empty)
    return columns, pd.concat([selected[column] for column in columns]) if columns else rows[:0]


_WORKING_POINT_LEVEL = "7"
_WORKING_POINT_MODES = (
    Compression("pca", 0.99),
    NO_COMPRESSION,
    Compression("npca", 0.01),
    Compression("npca", 0.0001),
)


def _build_working_points(metrics: pd.DataFrame) -> list[Table]:
    """Build Table IV, the rates beyond n sigma by the chi-square law: a table per variant and number of epochs."""
    rows = metrics[(metrics["level"] == _WORKING_POINT_LEVEL) & (metrics["score"] == MAHALANOBIS)]
    tables = []
    for (*names, epochs), of_variant in rows.groupby([*VARIANT, "epochs"]):
        variant = Variant(*map(str, names))
        wanted = [
            Column(f"{compression_name(mode)} {rate}", CellSource.of(variant, Scoring(MAHALANOBIS, mode), int(epochs)))
            for mode in _WORKING_POINT_MODES
            for rate in ("FPR", "TPR")
        ]
        name = full_name(variant, variants_of(rows[rows["epochs"] == epochs]))
        table = _build_working_point(of_variant, wanted, name, int(epochs))
        tables += [] if table is None else [table]
    return tables


def _build_working_point(rows: pd.DataFrame, wanted: Sequence[Column], name: str, epochs: int) -> Table | None:
    columns, _ = _measured(wanted, rows)
    if not columns:
        return None
    published = comparable(4, rows)
    published = published[published["epochs"].isin(["0"] if epochs == 0 else ["100", ""])]
    lines: dict[str, tuple[str, int | None]] = {
        f"{sigma} sigma, {100 * target:.3g}%": ("", sigma)
        for sigma, target in zip(SIGMAS, target_fpr(SIGMAS), strict=True)
    }
    lines |= {"AUROC": ("auroc", None), "dimensions": ("dim", None)}
    cells = tuple(
        tuple(publish(published, measure(rows, _working_point_cell(column, *line))) for column in columns)
        for line in lines.values()
    )
    how = f"{epochs} augmented epochs" if epochs else "not augmented"
    title = f"Wanted FPR, and FPR and TPR achieved, at level {_WORKING_POINT_LEVEL}: {name}, {how}"
    table = Table(4, title, columns, tuple(lines), cells, row_title="wanted")
    notes = [*_notes(table, wanted), "AUROC and dimensions, of both rates alike, stand in the column of the FPR."]
    if epochs not in (0, 100) and any(cell.published_mean is not None for cell in table.all_cells()):
        notes.append("The paper's cells are of 100 augmented epochs.")
    return replace(table, notes=tuple(notes))


def _working_point_cell(column: Column, quantity: str, sigma: int | None) -> TableCell:
    """Return a cell of a rate at a sigma, or of a quantity that the first of a mode's two columns shows for both."""
    rate = column.title[-3:].lower()
    shown = rate if sigma else quantity if rate == "fpr" else ""
    return TableCell(_WORKING_POINT_LEVEL, shown, sigma, source=column.source)


def _notes(table: Table, wanted: Sequence[Column]) -> list[str]:
    notes = general_notes(table)
    if any(level.startswith(f"{SUM}:") for level in table.rows):
        notes.append("A sum over part of the levels has no published counterpart.")
    if left_out := [column.title for column in wanted if column not in table.columns]:
        notes.append(f"Not evaluated: {', '.join(left_out)}.")
    return notes
