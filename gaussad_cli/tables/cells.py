"""Cells of the paper's tables: what they are of, measured means over categories, and the paper's beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pandas as pd

from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.tables.published import MVTEC_CATEGORIES, read_published

MEAN = "mean"  # the category that stands for the mean over all


class Variant(NamedTuple):
    """What tells one network's results from another's."""

    backbone: str
    weights: str
    padding: str
    key: str


VARIANT = list(Variant._fields)


@dataclass(frozen=True)
class Source:
    """What a cell is of.

    `score`, `mode` and `var` are the results' columns (`mode` "" and `var` None: whatever was run, there is one only);
    `epochs` None is that of networks that were trained on images, whose results have none.
    """

    variant: Variant
    score: str
    mode: str = ""
    var: float | None = None
    epochs: int | None = 0

    @classmethod
    def of(cls, variant: Variant, scoring: Scoring, epochs: int = 0) -> Source:
        """Return the source of a scoring's cells."""
        return cls(variant, scoring.score, scoring.mode, scoring.var, epochs)

    def select(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the metrics' rows that it stands for."""
        var = rows["var"].isna() if self.var is None else rows["var"] == self.var
        epochs = rows["epochs"].isna() if self.epochs is None else rows["epochs"] == self.epochs
        variant = (rows[VARIANT] == list(self.variant)).all(axis=1)
        return rows[variant & epochs & var & (rows["score"] == self.score) & (rows["mode"] == self.mode)]


@dataclass(frozen=True)
class Cell:
    """Mean over categories and its SEM, measured and published; None where there is none.

    `quantity` is "auroc", "fpr" or "tpr" in percent, or "dim", a count; empty where there is nothing to show.
    `category` is one category, or the mean over all.
    `categories` are the ones the measured mean is over; `undefined` those that were run and where it is undefined.
    """

    level: str = ""
    quantity: str = "auroc"
    sigma: int | None = None
    category: str = MEAN
    source: Source | None = None
    mean: float | None = None
    sem: float | None = None
    categories: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    published_mean: float | None = None
    published_sem: float | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percentage points."""
        if self.mean is None or self.published_mean is None:
            return None
        return self.mean - self.published_mean


@dataclass(frozen=True)
class Column:
    """A column: its title and what its cells are of, if that is the same for all."""

    title: str
    source: Source | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper, as far as it was measured."""

    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]  # by row, by column
    notes: tuple[str, ...] = field(default=())
    row_title: str = "level"

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories that were run, whether their AUROC is defined or not."""
        cells = [cell for row in self.cells for cell in row]
        return tuple(sorted({name for cell in cells for name in (*cell.categories, *cell.undefined)}))


def measure(rows: pd.DataFrame, cell: Cell) -> Cell:
    """Average folds, then categories; the SEM is over categories (ddof 1), so one category has none.

    Parameters
    ----------
    rows : metrics, of any source
    cell : with its source
    """
    if not cell.quantity or cell.source is None:
        return cell
    measured = cell.source.select(rows)
    measured = measured[measured["level"] == cell.level]
    if cell.category != MEAN:
        measured = measured[measured["category"] == cell.category]
    column = cell.quantity if cell.sigma is None else f"{cell.quantity}_{cell.sigma}s"
    folds = measured.groupby("category")[column]
    per_category = (1 if cell.quantity == "dim" else 100) * folds.mean()
    per_category[folds.count() < folds.size()] = float("nan")  # undefined in a fold: undefined
    defined = per_category.dropna()
    n = len(defined)
    return replace(
        cell,
        mean=float(defined.mean()) if n else None,
        sem=float(defined.std(ddof=1) / n**0.5) if n > 1 and cell.quantity == "auroc" else None,
        categories=tuple(map(str, defined.index)),
        undefined=tuple(map(str, per_category.index[per_category.isna()])),
    )


def comparable(number: int, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's cells of a table, none if the rows are of other data."""
    published = read_published()
    return published[(published["table"] == number) & (set(rows["category"]) <= set(MVTEC_CATEGORIES))]


def publish(cells: pd.DataFrame, cell: Cell) -> Cell:
    """Put the paper's mean and SEM beside a cell's, where the paper has them.

    Parameters
    ----------
    cells : of :func:`comparable`
    """
    if not cell.quantity or cell.source is None:
        return cell
    source = cell.source
    var = cells["var"].isna() if source.var is None else cells["var"] == source.var
    sigma = cells["sigma"].isna() if cell.sigma is None else cells["sigma"] == cell.sigma
    match = cells[
        var
        & sigma
        & (cells["quantity"] == cell.quantity)
        & (cells["backbone"] == source.variant.backbone)
        & (cells["level"] == cell.level)
        & (cells["score"] == source.score)
        & (cells["mode"] == source.mode)
        & (cells["category"] == cell.category)
    ]
    if match.empty:
        return cell
    mean, sem = match[["mean", "sem"]].iloc[0]
    return replace(cell, published_mean=float(mean), published_sem=None if pd.isna(sem) else float(sem))


def variants_of(rows: pd.DataFrame) -> list[Variant]:
    """Return the variants in metrics, sorted."""
    return sorted(Variant(*map(str, one)) for one in set(rows[VARIANT].itertuples(index=False, name=None)))


def full_name(variant: Variant, variants: Sequence[Variant]) -> str:
    """Name a variant with its weights and padding; by its key too where others are alike."""
    alike = [other for other in variants if other[:3] == variant[:3]]
    key = f", key {variant.key[:8]}" if len(alike) > 1 else ""
    return f"{variant.backbone} ({variant.weights}, padding {variant.padding}{key})"


def general_notes(table: Table) -> list[str]:
    """Say what every reader of the table must know."""
    notes = [f"Mean{'' if table.number == 4 else ' ± SEM'} in percent over {_categories_named(table.categories)}."]
    cells = [cell for row in table.cells for cell in row]
    means = [cell for cell in cells if cell.category == MEAN]
    if any(cell.published_mean is not None for cell in means) and len(table.categories) < len(MVTEC_CATEGORIES):
        notes.append(
            "The paper's cells are means over all 15 MVTec AD categories: the differences are between unequal sets."
        )
    if any(is_partial(cell, table) for cell in cells):
        notes.append("†: a mean over fewer categories than the table's.")
    if undefined := sorted({name for cell in cells for name in cell.undefined}):
        notes.append(
            f"AUROC is undefined in some cells for {', '.join(undefined)}: SED fails where a feature has no variance, "
            "every score where the training images are all alike or the test set has one class only."
        )
    return notes


def is_partial(cell: Cell, table: Table) -> bool:
    """Whether a cell is a mean over fewer categories than the table's."""
    return cell.category == MEAN and cell.mean is not None and len(cell.categories) < len(table.categories)


def _categories_named(names: Sequence[str]) -> str:
    if set(names) == set(MVTEC_CATEGORIES):
        return "all 15 categories"
    return f"{len(names)} categor{'y' if len(names) == 1 else 'ies'}: {', '.join(names)}"
