"""The table of places: one Gaussian per place, measured, beside what others report of PaDiM and PatchCore.

Quoted cells come from other implementations on other crops of the images. They have columns of their own, and no
difference is taken between them and a measured one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gaussad_cli.evaluation.rows import JOINT
from gaussad_cli.evaluation.scorings import PLACES_GREATEST, PLACES_SCALED, PLACES_TOP, Setting, choose_scorings
from gaussad_cli.tables.cells import (
    MEAN,
    VARIANT,
    CellSource,
    Column,
    Table,
    TableCell,
    Variant,
    comparable,
    full_name,
    mean_note,
    measure,
    partial_notes,
    publish,
    short_name,
    variants_of,
)
from gaussad_cli.tables.known import PLACES
from gaussad_cli.tables.published import MVTEC_CATEGORIES

ALL = f"Mean of all {len(MVTEC_CATEGORIES)}"
_QUOTED = (
    ("PaDiM, ResNet-18", "resnet-18", "padim"),
    ("PaDiM, Wide-ResNet50-2", "wide-resnet50-2", "padim"),
    ("PatchCore, Wide-ResNet50-2", "wide-resnet50-2", "patchcore"),
)  # title, and the columns backbone and score of published.csv
_QUANTITIES = {"auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
_MEASURED = (
    (PLACES_SCALED, "auroc", "image AUROC, scaled"),
    (PLACES_GREATEST, "auroc", "image AUROC, maximum"),
    (PLACES_TOP, "auroc", "image AUROC, greatest 1 %"),
    (PLACES_GREATEST, "pixel_auroc", "pixel AUROC"),
    (PLACES_GREATEST, "aupro", "AUPRO"),
)
_NOTES = (
    "Quoted, never measured here: PaDiM from the results of a widely used re-implementation, PatchCore (224 pixels) "
    "from its authors. They crop the middle 224 of 256 pixels, gaussad does not crop: the images differ in part.",
    "Other means of all 15 in these sources: PaDiM with EfficientNet-B5 97.9 image and 97.5 pixel AUROC; an ensemble "
    "of PatchCore 99.6 and 98.2, AUPRO 94.9.",
)


@dataclass(frozen=True)
class _Line:
    """A row of the table: its name, and the category, or mean, of its measured and of its quoted cells."""

    name: str
    measured: str
    quoted: str


def build_places(metrics: pd.DataFrame) -> Table | None:
    """Build the table: a row per category and the mean, columns per network and setting; None if none was run.

    Where fewer than the 15 categories were run, quoted means are over those, if all their cells are quoted, and a row
    of its own has the quoted means of all 15.
    """
    rows = metrics[metrics["level"].str.startswith(JOINT)]
    if rows.empty:
        return None
    published, run = comparable(PLACES, rows), set(rows["category"])
    names = sorted(run) if published.empty else [name for name in MVTEC_CATEGORIES if name in run]
    lines = [*(_Line(name, name, name) for name in names), _Line(MEAN, MEAN, MEAN)]
    is_part = not published.empty and len(names) < len(MVTEC_CATEGORIES)
    lines += [_Line(ALL, "", ALL)] if is_part else []
    columns = {**_measured_columns(rows, lines), **_quoted_columns(published, lines, names)}
    by_row = tuple(zip(*columns.values(), strict=True))
    titles = tuple(line.name for line in lines)
    title = "One Gaussian per place, beside quoted results" if not published.empty else "One Gaussian per place"
    table = Table(PLACES, title, tuple(columns), titles, by_row, row_title="category")
    return replace(table, notes=_notes(table, rows, names if is_part else ()))


def _measured_columns(rows: pd.DataFrame, lines: Sequence[_Line]) -> dict[Column, list[TableCell]]:
    columns = {}
    variants = variants_of(rows)
    keys = [*VARIANT, "epochs", "level", "mode", "var"]
    for *names, epochs, level, mode, var in rows[keys].drop_duplicates().sort_values(keys).itertuples(index=False):
        variant = Variant(*map(str, names))
        share = None if pd.isna(var) else float(var)
        head = ", ".join(filter(None, [short_name(variant, variants), *_setting(level, epochs, mode, share)]))
        for score, quantity, title in _MEASURED:
            source = CellSource(variant, score, mode, share, int(epochs))
            cells = [
                _measure(rows, TableCell(level, quantity, category=line.measured, source=source)) for line in lines
            ]
            if any(cell.mean is not None for cell in cells) or quantity == "auroc":
                columns[Column(f"{head}: {title}", source)] = cells
    return columns


def _measure(rows: pd.DataFrame, cell: TableCell) -> TableCell:
    return measure(rows, cell) if cell.category else replace(cell, quantity="")


def _setting(level: str, epochs: float, mode: str, var: float | None) -> list[str]:
    """Name what a column was computed with; the default compression is not named."""
    (default,) = choose_scorings(PLACES_GREATEST, Setting())
    kept, _, others = mode.partition(" ")
    share = "" if var is None else f" {100 * var:g}%"
    compression = "" if (kept, var) == (default.mode, default.var) else f"{kept.upper()}{share}"
    return [
        f"levels {level.removeprefix(f'{JOINT}:')}",
        f"{epochs:.0f} epochs" if epochs else "",
        "all directions" if kept == "all" and compression else compression,
        others,
    ]


def _quoted_columns(
    published: pd.DataFrame, lines: Sequence[_Line], names: Sequence[str]
) -> dict[Column, list[TableCell]]:
    columns = {}
    for title, backbone, score in _QUOTED:
        source = CellSource(Variant(backbone, "", "", ""), score, epochs=None)
        for quantity, metric in _QUANTITIES.items():
            cells = [_quote(published, TableCell("", quantity, category=x.quoted, source=source), names) for x in lines]
            if any(cell.published_mean is not None for cell in cells):
                columns[Column(f"{title}: {metric}", source, quoted=True)] = cells
    return columns


def _quote(published: pd.DataFrame, cell: TableCell, names: Sequence[str]) -> TableCell:
    """Return a quoted cell; a mean over some categories only is computed from theirs, if all of them are quoted."""
    if cell.category == ALL or (cell.category == MEAN and len(names) == len(MVTEC_CATEGORIES)):
        return replace(publish(published, replace(cell, category=MEAN)), category=cell.category)
    if cell.category != MEAN:
        return publish(published, cell)
    values = [publish(published, replace(cell, category=name)).published_mean for name in names]
    known = pd.Series([value for value in values if value is not None], dtype=float)
    if len(known) < len(names):
        return cell
    return replace(
        cell, published_mean=float(known.mean()), published_sem=float(known.sem()) if len(known) > 1 else None
    )


def _notes(table: Table, rows: pd.DataFrame, part: Sequence[str]) -> tuple[str, ...]:
    """Say what the table's means are over, what is quoted, and what is missing.

    Parameters
    ----------
    part : the categories, if they are only some of those that others report means of
    """
    notes = [mean_note(table), *partial_notes(table)]
    if part:
        notes.append(
            f"'{ALL}' is over other categories than the means above it. The quoted means above it are over "
            f"{', '.join(part)} too, where all of these are quoted."
        )
    notes += _NOTES if any(column.quoted for column in table.columns) else []
    without = sorted(set(rows["category"]) - set(rows.dropna(subset=["pixel_auroc"])["category"]))
    notes += [f"No metrics of pixels, for lack of masks: {', '.join(without)}."] if without else []
    variants = variants_of(rows)
    return (*notes, f"Networks: {'; '.join(full_name(variant, variants) for variant in variants)}.")
