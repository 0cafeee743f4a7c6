"""Tables V and VIII: every approach beside the others, measured beside published.

A row or column whose approach was not run is empty: nothing that is quoted ever stands where a measured number would.
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
from gaussad_cli.tables.published import MVTEC_CATEGORIES


@dataclass(frozen=True)
class Approach:
    """A kind of row of Table V.

    Attributes
    ----------
    title : what the paper, or else gaussad, calls it
    score, mode, var : columns of the results; mode None: any
    backbones : those of the paper's rows
    epochs : the paper's augmented epochs; None for networks trained on images
    quoted : who reported it, if the paper only quotes it, and gaussad too
    """

    title: str
    score: str
    mode: str | None = ""
    var: float | None = None
    backbones: tuple[str, ...] = ()
    epochs: int | None = None
    quoted: str = ""


# In the order of Table V; sources are the paper's references.
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
_LAST_LEVELS = {("knn", "wide-resnet50-2"): "5"}  # SPADE's features; all others are sums over levels


@dataclass(frozen=True)
class _Line:
    """One approach as it was run, or as the paper ran it."""

    label: str
    source: Source
    level: str


def build_comparison(metrics: pd.DataFrame) -> Table | None:
    """Build Table V: a row per approach, those of the paper and whatever else was run.

    Returns
    -------
    None if no approach was run.
    """
    lines = [line for approach in APPROACHES for line in _lines(approach, metrics)]
    if not _was_run(lines, metrics):
        return None
    published = comparable(5, metrics)
    cells = tuple((publish(published, measure(metrics, Cell(line.level, source=line.source))),) for line in lines)
    kept = [(line, row) for line, row in zip(lines, cells, strict=True) if _is_worth_a_line(row[0])]
    table = Table(
        5,
        "Comparison with the state of the art",
        (Column("AUROC"),),
        tuple(line.label for line, _ in kept),
        tuple(row for _, row in kept),
        row_title="approach",
    )
    return replace(table, notes=_notes(table, metrics))


def build_per_category(metrics: pd.DataFrame) -> Table | None:
    """Build Table VIII: a column per approach of the paper or that was run, a row per category, and the mean.

    Returns
    -------
    None if no approach was run.
    """
    lines = [line for approach in APPROACHES if not approach.quoted for line in _lines(approach, metrics)]
    if not _was_run(lines, metrics):
        return None
    published = comparable(8, metrics)
    of_paper = published["category"].unique().tolist()
    run = sorted(set(metrics["category"]))
    categories = [name for name in MVTEC_CATEGORIES if name in run] if len(of_paper) else run
    rows = [*categories, MEAN]
    columns, by_column = [], []
    for line in lines:
        cells = [
            publish(published, measure(metrics, Cell(line.level, category=name, source=line.source))) for name in rows
        ]
        if any(_is_worth_a_line(cell) for cell in cells):
            columns.append(Column(line.label, line.source))
            by_column.append(cells)
    table = Table(
        8,
        "AUROC per category",
        tuple(columns),
        tuple(rows),
        tuple(zip(*by_column, strict=True)),
        row_title="category",
    )
    return replace(table, notes=_notes(table, metrics))


def _lines(approach: Approach, metrics: pd.DataFrame) -> list[_Line]:
    """Return an approach's rows: as it was run, and as the paper ran it where that was not."""
    rows = metrics[metrics["score"] == approach.score]
    if approach.mode:
        rows = rows[rows["mode"] == approach.mode]
    rows = rows[rows["var"].isna() if approach.var is None else rows["var"] == approach.var]
    whole = [_is_whole(*one) for one in zip(rows["score"], rows["backbone"], rows["level"], strict=True)]
    rows = rows.loc[pd.Series(whole, index=rows.index, dtype=bool)]
    measured = []
    keys = rows[[*VARIANT, "mode", "epochs", "level"]].drop_duplicates().sort_values([*VARIANT, "epochs", "level"])
    for *names, mode, epochs, level in keys.itertuples(index=False, name=None):
        count = None if pd.isna(epochs) else int(epochs)
        source = Source(Variant(*map(str, names)), approach.score, str(mode), approach.var, count)
        label = ", ".join(filter(None, (approach.title, _setting(approach, str(mode)), _where(source, str(level)))))
        measured.append(_Line(label, source, str(level)))
    measured = _told_apart(measured)
    there = {(line.source.variant.backbone, line.source.epochs) for line in measured if ":" not in line.level}
    missing = [name for name in approach.backbones if (name, approach.epochs) not in there]
    return [*measured, *(_unmeasured(approach, name) for name in missing)]


def _told_apart(lines: Sequence[_Line]) -> list[_Line]:
    """Name weights, padding and key where lines would have the same label."""
    labels = Counter(line.label for line in lines)
    variants = [line.source.variant for line in lines]
    return [
        line if labels[line.label] == 1 else replace(line, label=f"{line.label}, {full_name(variant, variants)}")
        for line, variant in zip(lines, variants, strict=True)
    ]


def _is_whole(score: str, backbone: str, level: str) -> bool:
    """Whether a level is the one by which an approach is compared: the network, or the sum over the levels."""
    return level == NETWORK or level == _LAST_LEVELS.get((score, backbone)) or str(level).startswith(SUM)


def _setting(approach: Approach, mode: str) -> str:
    return mode if approach.mode is None and mode != "all" else ""


def _where(source: Source, level: str) -> str:
    epochs = f", {source.epochs} epochs" if source.epochs else ""
    return source.variant.backbone + ("" if level in (SUM, NETWORK) else f", level {level}") + epochs


def _unmeasured(approach: Approach, backbone: str) -> _Line:
    source = Source(Variant(backbone, "", "", ""), approach.score, approach.mode or "", approach.var, approach.epochs)
    quoted = f" (quoted: {approach.quoted})" if approach.quoted else ""
    level = "" if approach.quoted else NETWORK if approach.epochs is None else SUM
    epochs = f", {approach.epochs} epochs" if approach.epochs else ""
    return _Line(f"{approach.title}, {backbone}{epochs}{quoted}", source, level)


def _was_run(lines: Sequence[_Line], metrics: pd.DataFrame) -> bool:
    return any(not line.source.select(metrics).empty for line in lines)


def _is_worth_a_line(cell: Cell) -> bool:
    return cell.mean is not None or bool(cell.undefined) or cell.published_mean is not None


def _notes(table: Table, metrics: pd.DataFrame) -> tuple[str, ...]:
    cells = [cell for row in table.cells for cell in row]
    sources = {cell.source for cell in cells if cell.source and cell.mean is not None}
    variants = variants_of(metrics)
    names = sorted({full_name(source.variant, variants) for source in sources})
    notes = [*general_notes(table), f"Networks: {'; '.join(names)}."]
    if any(source.score == "classifier" for source in sources):
        notes.append(
            "Fully supervised networks learn from anomalous images, of training and test set pooled: an upper bound, "
            "tested on other folds than all others are."
        )
    return tuple(notes)
