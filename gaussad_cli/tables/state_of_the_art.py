"""The state of the art, Tables V and VIII: every approach beside the others, measured beside published.

An approach that was not run has no measured value: a quoted number never stands where a measured one would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gaussad_cli.evaluation.rows import NETWORK, SUM
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
    general_notes,
    measure,
    publish,
    shared_categories,
    variants_of,
)
from gaussad_cli.tables.published import MVTEC_CATEGORIES


@dataclass(frozen=True)
class Approach:
    """A kind of row of Table V.

    Attributes
    ----------
    title : the paper's name for it, or gaussad's if the paper has none
    score, mode, var : columns of the results; mode None stands for any
    backbones : those of the paper's rows
    epochs : the paper's number of augmented epochs; None for networks trained on images
    quoted : the source, if the paper only quotes the value; gaussad does not run these
    """

    title: str
    score: str
    mode: str | None = ""
    var: float | None = None
    backbones: tuple[str, ...] = ()
    epochs: int | None = None
    quoted: str = ""


# In the order of Table V, with the sources that the paper refers to.
APPROACHES = (
    Approach("GeoTrans", "geotrans", backbones=("wide-resnet",), quoted="Golan, El-Yaniv 2018, by Huang et al. 2019"),
    Approach("GANomaly", "ganomaly", backbones=("dcgan",), quoted="Akcay et al. 2018, by Huang et al. 2019"),
    Approach("ITAE", "itae", backbones=("custom",), quoted="Huang et al. 2019"),
    Approach("SPADE", "spade", backbones=("wide-resnet50-2",), quoted="Cohen, Hoshen 2020"),
    Approach("k-NN (SPADE)", "knn", None, epochs=0),
    Approach("MSE AE, map-mean", "map-mean", backbones=("resnet-18",)),
    Approach("MSE AE, CCA", "cca", backbones=("resnet-18",)),
    Approach(
        "Fully supervised", "classifier", backbones=("resnet-18", "resnet-34", "efficientnet-b0", "efficientnet-b4")
    ),
    Approach("oc-SVM", "ocsvm", "all", None, ("efficientnet-b0", "efficientnet-b4"), 100),
    Approach("oc-SVM, Nystroem", "ocsvm", "nystroem", epochs=0),
    Approach("Gaussian mixture", "gmm", None, epochs=0),
    Approach("Lee et al. 2018 (learns from anomalies)", "ood", None, epochs=0),
    Approach("Mahalanobis", "mahalanobis", "all", None, ("efficientnet-b4",), 100),
    Approach("Mahalanobis, NPCA 1%", "mahalanobis", "npca", 0.01, ("efficientnet-b4",), 100),
)
_QUOTED = ""  # the level of what is only quoted
_LAST_LEVELS = {("knn", "wide-resnet50-2"): "5"}  # SPADE's features; all others are compared by sums over levels


@dataclass(frozen=True)
class _Line:
    """An approach as it was run, or as the paper ran it."""

    label: str
    source: CellSource
    level: str


def build_approaches(metrics: pd.DataFrame) -> Table | None:
    """Build Table V: a row per approach, those of the paper and whatever else was run; None if none was run."""
    lines = _all_lines(APPROACHES, metrics)
    if lines is None:
        return None
    published = comparable(5, metrics)
    cells = [publish(published, measure(metrics, TableCell(line.level, source=line.source))) for line in lines]
    kept = [(line.label, (cell,)) for line, cell in zip(lines, cells, strict=True) if _has_value(cell)]
    rows, by_row = zip(*kept, strict=True)
    table = Table(5, "Comparison with the state of the art", (Column("AUROC"),), rows, by_row, row_title="approach")
    return replace(table, notes=(*_notes(table, metrics), *_shared_notes(table)))


def build_per_category(metrics: pd.DataFrame) -> Table | None:
    """Build Table VIII: a row per category and the mean, a column per approach; None if no approach was run."""
    lines = _all_lines([approach for approach in APPROACHES if not approach.quoted], metrics)
    if lines is None:
        return None
    published = comparable(8, metrics)
    run = set(metrics["category"])
    rows = [*(sorted(run) if published.empty else filter(run.__contains__, MVTEC_CATEGORIES)), MEAN]
    columns = {}
    for line in lines:
        cells = [TableCell(line.level, category=name, source=line.source) for name in rows]
        cells = [publish(published, measure(metrics, cell)) for cell in cells]
        if any(map(_has_value, cells)):
            columns[Column(line.label, line.source)] = cells
    by_row = tuple(zip(*columns.values(), strict=True))
    table = Table(8, "AUROC per category", tuple(columns), tuple(rows), by_row, row_title="category")
    return replace(table, notes=_notes(table, metrics))


def _shared_notes(table: Table) -> list[str]:
    """Say where approaches that were run on unequal sets of categories can be compared."""
    shared = shared_categories(table.all_cells())
    if shared is None:
        return []
    common = f"All approaches were run on {', '.join(shared)}" if shared else "No category was run by all approaches"
    return [f"{common}: compare a marked mean with others by the same rows of Table VIII."]


def _all_lines(approaches: Sequence[Approach], metrics: pd.DataFrame) -> list[_Line] | None:
    """Return the lines of the approaches; None if none of them was run."""
    lines = [line for approach in approaches for line in _lines(approach, metrics)]
    was_run = any(not line.source.select(metrics).empty for line in lines)
    return lines if was_run else None


def _lines(approach: Approach, metrics: pd.DataFrame) -> list[_Line]:
    """Return an approach as it was run, followed by the paper's settings that were not run."""
    rows = metrics[metrics["score"] == approach.score]
    if approach.mode:
        rows = rows[rows["mode"] == approach.mode]
    rows = rows[rows["var"].isna() if approach.var is None else rows["var"] == approach.var]
    measured = []
    keys = rows[[*VARIANT, "mode", "epochs", "level"]].drop_duplicates().sort_values([*VARIANT, "epochs", "level"])
    for *names, mode, epochs, level in keys.itertuples(index=False, name=None):
        variant = Variant(*map(str, names))
        if not _stands_for_all_levels(approach.score, variant.backbone, level):
            continue
        count = None if pd.isna(epochs) else int(epochs)
        source = CellSource(variant, approach.score, str(mode), approach.var, count)
        measured.append(_Line(_label(approach, source, level), source, level))
    measured = _told_apart(measured)
    run = {(line.source.variant.backbone, line.source.epochs) for line in measured if ":" not in line.level}
    missing = [name for name in approach.backbones if (name, approach.epochs) not in run]
    return [*measured, *(_unmeasured(approach, name) for name in missing)]


def _stands_for_all_levels(score: str, backbone: str, level: str) -> bool:
    """Whether approaches are compared by this level: a trained network's only one, or the sum over the levels."""
    return level == NETWORK or level == _LAST_LEVELS.get((score, backbone)) or level.startswith(SUM)


def _label(approach: Approach, source: CellSource, level: str) -> str:
    parts = [
        approach.title,
        source.mode if approach.mode is None and source.mode != "all" else "",
        source.variant.backbone,
        "" if level in (SUM, NETWORK, _QUOTED) else f"level {level}",
        f"{source.epochs} epochs" if source.epochs else "",
    ]
    return ", ".join(filter(None, parts))


def _told_apart(lines: Sequence[_Line]) -> list[_Line]:
    """Add weights, padding and key to labels that would otherwise be the same."""
    labels = Counter(line.label for line in lines)
    variants = [line.source.variant for line in lines]
    return [
        line if labels[line.label] == 1 else replace(line, label=f"{line.label}, {full_name(variant, variants)}")
        for line, variant in zip(lines, variants, strict=True)
    ]


def _unmeasured(approach: Approach, backbone: str) -> _Line:
    variant = Variant(backbone, "", "", "")
    source = CellSource(variant, approach.score, approach.mode or "", approach.var, approach.epochs)
    quoted = f" (quoted: {approach.quoted})" if approach.quoted else ""
    level = _QUOTED if approach.quoted else NETWORK if approach.epochs is None else SUM
    return _Line(_label(approach, source, level) + quoted, source, level)


def _has_value(cell: TableCell) -> bool:
    return cell.mean is not None or bool(cell.undefined) or cell.published_mean is not None


def _notes(table: Table, metrics: pd.DataFrame) -> tuple[str, ...]:
    sources = {cell.source for cell in table.all_cells() if cell.source and cell.mean is not None}
    variants = variants_of(metrics)
    names = sorted({full_name(source.variant, variants) for source in sources})
    notes = [*general_notes(table), f"Networks: {'; '.join(names)}."]
    if any(source.score == "classifier" for source in sources):
        notes.append(
            "Fully supervised networks learn from anomalous images, of training and test set pooled: an upper bound, "
            "tested on other folds than all others are."
        )
    return tuple(notes)
