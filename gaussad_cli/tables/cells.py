"""The cells of the paper's tables: what each shows, its measured mean over categories, and the paper's value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.tables.published import MVTEC_CATEGORIES, read_published

MEAN = "mean"  # stands for the mean over all categories where a category is named


class Variant(NamedTuple):
    """The columns that tell the results of one network from those of another."""

    backbone: str
    weights: str
    padding: str
    key: str


VARIANT = list(Variant._fields)


@dataclass(frozen=True)
class CellSource:
    """The rows of metrics.csv that a cell is computed from.

    `score`, `mode` and `var` are columns of the results. `epochs` is None for networks that were trained on images:
    their rows have none.
    """

    variant: Variant
    score: str
    mode: str = ""
    var: float | None = None
    epochs: int | None = 0

    @classmethod
    def of(cls, variant: Variant, scoring: Scoring, epochs: int = 0) -> CellSource:
        """Return the source of a scoring's cells."""
        return cls(variant, scoring.score, scoring.mode, scoring.var, epochs)

    def select(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return those of the rows that belong to this source."""
        variant = (rows[VARIANT] == list(self.variant)).all(axis=1)
        scoring = (rows["score"] == self.score) & (rows["mode"] == self.mode) & _equals(rows["var"], self.var)
        return rows[variant & scoring & _equals(rows["epochs"], self.epochs)]


@dataclass(frozen=True)
class TableCell:
    """A mean over categories and its SEM, measured and published; None where there is none.

    `quantity` is "auroc", "pixel_auroc", "aupro", "fpr" or "tpr" in percent, or "dim", a count; empty where the cell
    stays empty.
    `category` is a single category, or MEAN for the mean over all.
    `categories` are those that the measured mean is over; `undefined` those that were run but have no defined value.
    """

    level: str = ""
    quantity: str = "auroc"
    sigma: int | None = None
    category: str = MEAN
    source: CellSource | None = None
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
    """A column of a table.

    Attributes
    ----------
    title : its title
    source : the source of its cells if they all share one
    quoted : whether its cells are only quoted; they have no measured value, and there is no place for one
    """

    title: str
    source: CellSource | None = None
    quoted: bool = False


@dataclass(frozen=True)
class Table:
    """A table, as far as it was measured; `number` is one of :data:`gaussad_cli.tables.known.NAMES`."""

    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[TableCell, ...], ...]  # by row, by column
    notes: tuple[str, ...] = ()
    row_title: str = "level"

    def all_cells(self) -> Iterator[TableCell]:
        """Yield every cell, row by row."""
        return (cell for row in self.cells for cell in row)

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories that were run, whether their AUROC is defined or not."""
        return tuple(sorted({name for cell in self.all_cells() for name in (*cell.categories, *cell.undefined)}))


_AREAS = ("auroc", "pixel_auroc", "aupro")  # quantities that have a SEM


def measure(rows: pd.DataFrame, cell: TableCell) -> TableCell:
    """Return the cell with its measured mean: over folds first, then over categories.

    The SEM is over categories (ddof 1), so a single category has none. A category whose value is undefined in any fold
    is undefined.

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
    per_category[folds.count() < folds.size()] = float("nan")
    defined = per_category.dropna()
    n = len(defined)
    return replace(
        cell,
        mean=float(defined.mean()) if n else None,
        sem=float(defined.std(ddof=1) / n**0.5) if n > 1 and cell.quantity in _AREAS else None,
        categories=tuple(map(str, defined.index)),
        undefined=tuple(map(str, per_category.index[per_category.isna()])),
    )


def comparable(number: int, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's cells of a table; none if the rows are of another data set."""
    published = read_published()
    return published[(published["table"] == number) & (set(rows["category"]) <= set(MVTEC_CATEGORIES))]


def publish(published: pd.DataFrame, cell: TableCell) -> TableCell:
    """Return the cell with the paper's mean and SEM, if the paper has them.

    Parameters
    ----------
    published : as :func:`comparable` returns it
    """
    if not cell.quantity or cell.source is None:
        return cell
    source = cell.source
    wanted = {
        "quantity": cell.quantity,
        "backbone": source.variant.backbone,
        "level": cell.level,
        "score": source.score,
        "mode": source.mode,
        "category": cell.category,
    }
    match = published[
        (published[list(wanted)] == list(wanted.values())).all(axis=1)
        & _equals(published["var"], source.var)
        & _equals(published["sigma"], cell.sigma)
    ]
    if match.empty:
        return cell
    mean, sem = match[["mean", "sem"]].iloc[0]
    return replace(cell, published_mean=float(mean), published_sem=None if pd.isna(sem) else float(sem))


def _equals(column: pd.Series, value: float | None) -> pd.Series:
    return column.isna() if value is None else column == value


def variants_of(rows: pd.DataFrame) -> list[Variant]:
    """Return the variants in metrics, sorted."""
    return sorted(Variant(*map(str, names)) for names in set(rows[VARIANT].itertuples(index=False, name=None)))


def full_name(variant: Variant, variants: Sequence[Variant]) -> str:
    """Name a variant with its weights and padding, and with its key too if another variant shares those."""
    alike = [other for other in variants if other[:3] == variant[:3]]
    key = f", key {variant.key[:8]}" if len(alike) > 1 else ""
    return f"{variant.backbone} ({variant.weights}, padding {variant.padding}{key})"


def short_name(variant: Variant, variants: Sequence[Variant]) -> str:
    """Name a variant by its backbone alone, or in full if another variant has the same backbone."""
    alike = [other for other in variants if other.backbone == variant.backbone]
    return variant.backbone if len(alike) == 1 else full_name(variant, variants)


def mean_note(table: Table) -> str:
    """Say which categories a table's means are over."""
    names = table.categories
    over = f"{len(names)} categor{'y' if len(names) == 1 else 'ies'}: {', '.join(names)}"
    if set(names) == set(MVTEC_CATEGORIES):
        over = "all 15 categories"
    return f"Mean{'' if table.number == 4 else ' ± SEM'} in percent over {over}."


def general_notes(table: Table) -> list[str]:
    """Return the notes that every table of the paper needs: which categories, unequal sets, undefined cells."""
    names = table.categories
    notes = [mean_note(table)]
    has_published_mean = any(cell.published_mean is not None and cell.category == MEAN for cell in table.all_cells())
    if has_published_mean and len(names) < len(MVTEC_CATEGORIES):
        notes.append(
            "The paper's cells are means over all 15 MVTec AD categories: the differences are between unequal sets."
        )
    notes += partial_notes(table)
    if undefined := sorted({name for cell in table.all_cells() for name in cell.undefined}):
        notes.append(
            f"AUROC is undefined in some cells for {', '.join(undefined)}: SED fails where a feature has no variance, "
            "every score where the training images are all alike or the test set has one class only."
        )
    return notes


def partial_notes(table: Table) -> list[str]:
    """Say which marked means, if any, are over which categories; a table of one column names its rows."""
    names: dict[tuple[str, ...], dict[str, None]] = {}
    for row_name, row in zip(table.rows, table.cells, strict=True):
        for column, cell in zip(table.columns, row, strict=True):
            if is_partial(cell, table):
                name = column.title if len(table.columns) > 1 else row_name
                names.setdefault(cell.categories, {})[name] = None
    sets = [f"Over {', '.join(categories)}: {'; '.join(of_set)}." for categories, of_set in names.items()]
    return [" ".join(["†: a mean over fewer categories than the table's.", *sets])] if sets else []


def shared_categories(cells: Iterable[TableCell]) -> tuple[str, ...] | None:
    """Return the categories that measured means share; None if all of them were run on the same ones."""
    run = [{*cell.categories, *cell.undefined} for cell in cells if cell.category == MEAN and cell.mean is not None]
    if all(names == run[0] for names in run):
        return None
    return tuple(sorted(set.intersection(*run)))


def is_partial(cell: TableCell, table: Table) -> bool:
    """Whether a cell is a mean over fewer categories than the table's."""
    return cell.category == MEAN and cell.mean is not None and len(cell.categories) < len(table.categories)
