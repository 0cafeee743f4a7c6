"""Measured rows to the paper's tables: pivots of `metrics.csv` and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from gaussad_cli.evaluation.evaluate import SUM
from gaussad_cli.evaluation.scorings import MODES, Scoring, compression_name
from gaussad_cli.tables.published import MVTEC_CATEGORIES, read_published

_VARIANT = ["backbone", "weights", "padding"]  # what tells one extracted backbone from another
_SCORE_NAMES = {"l2": "L2", "sed": "SED", "mahalanobis": "Mahalanobis"}


@dataclass(frozen=True)
class Cell:
    """Mean AUROC over categories and its SEM, in percent, measured and published; None where there is none.

    `categories` are the ones the measured mean is over; `undefined` those that were run and whose AUROC is undefined.
    """

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
    """A column: its title and the backbone variant and scoring that its cells are of."""

    title: str
    variant: tuple[str, str, str]  # backbone, weights, padding
    scoring: Scoring


@dataclass(frozen=True)
class Table:
    """A table of the paper with levels as rows, as far as it was measured."""

    number: int
    title: str
    columns: tuple[Column, ...]
    levels: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]  # by level, by column
    notes: tuple[str, ...] = field(default=())

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories that were run, whether their AUROC is defined or not."""
        cells = [cell for row in self.cells for cell in row]
        return tuple(sorted({name for cell in cells for name in (*cell.categories, *cell.undefined)}))


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
    """Build what was measured of a table: Tables I and III once per backbone, II and VII with backbones as columns.

    Parameters
    ----------
    number : 1, 2, 3 or 7
    metrics : as :func:`gaussad_cli.evaluation.results.read_metrics` gives them
    backbones : only these

    Returns
    -------
    Possibly none, if nothing that belongs to the table was measured.
    """
    layout = LAYOUTS[number]
    rows = metrics[(metrics["epochs"] == 0) & metrics["backbone"].map(layout.belongs)]
    if backbones:
        rows = rows[rows["backbone"].isin(backbones)]
    variants = sorted(set(rows[_VARIANT].itertuples(index=False, name=None)))
    if layout.heading is None:
        tables = [[Column(_variant_name(v, variants), v, layout.scorings[0]) for v in variants]]
    else:
        tables = [[Column(layout.heading(scoring), v, scoring) for scoring in layout.scorings] for v in variants]
    built = (_build(number, layout, columns, rows) for columns in tables)
    return [table for table in built if table is not None]


def _build(number: int, layout: _Layout, wanted: Sequence[Column], rows: pd.DataFrame) -> Table | None:
    """Fill the table's cells; columns of which nothing was measured are left out and named in a note."""
    measured = {column.title: _select(rows, column) for column in wanted}
    columns = tuple(column for column in wanted if not measured[column.title].empty)
    if not columns:
        return None
    levels = _levels(level for column in columns for level in measured[column.title]["level"].unique())
    categories = set(rows["category"])
    published = read_published() if categories <= set(MVTEC_CATEGORIES) else read_published().iloc[:0]
    published = published[published["table"] == number]
    cells = tuple(
        tuple(_cell(measured[column.title], level, _published(published, column, level)) for column in columns)
        for level in levels
    )
    title = layout.title if layout.heading is None else f"{layout.title}: {_full_name(columns[0].variant)}"
    table = Table(number, title, columns, levels, cells)
    return Table(number, title, columns, levels, cells, _notes(table, wanted))


def _select(rows: pd.DataFrame, column: Column) -> pd.DataFrame:
    scoring = column.scoring
    var = rows["var"].isna() if scoring.compression.var is None else rows["var"] == scoring.compression.var
    variant = (rows[_VARIANT] == list(column.variant)).all(axis=1)
    return rows[variant & var & (rows["score"] == scoring.score) & (rows["mode"] == scoring.compression.mode)]


def _cell(measured: pd.DataFrame, level: str, published: tuple[float, float] | None) -> Cell:
    """Average folds, then categories; the SEM is over categories (ddof 1), so one category has none."""
    folds = measured.loc[measured["level"] == level].groupby("category")["auroc"]
    per_category = 100 * folds.mean()
    per_category[folds.count() < folds.size()] = float("nan")  # undefined in a fold: undefined
    defined = per_category.dropna()
    n = len(defined)
    return Cell(
        mean=float(defined.mean()) if n else None,
        sem=float(defined.std(ddof=1) / n**0.5) if n > 1 else None,
        categories=tuple(map(str, defined.index)),
        undefined=tuple(map(str, per_category.index[per_category.isna()])),
        published_mean=published[0] if published else None,
        published_sem=published[1] if published else None,
    )


def _published(cells: pd.DataFrame, column: Column, level: str) -> tuple[float, float] | None:
    compression = column.scoring.compression
    var = cells["var"].isna() if compression.var is None else cells["var"] == compression.var
    match = cells[
        var
        & (cells["backbone"] == column.variant[0])
        & (cells["level"] == level)
        & (cells["score"] == column.scoring.score)
        & (cells["mode"] == compression.mode)
    ]
    return (float(match["mean"].iloc[0]), float(match["sem"].iloc[0])) if len(match) else None


def _levels(names: Iterable[str]) -> tuple[str, ...]:
    """Levels in order, sums last."""
    return tuple(sorted(set(names), key=lambda name: (name.startswith(SUM), name)))


def _variant_name(variant: tuple[str, str, str], variants: Sequence[tuple[str, str, str]]) -> str:
    alike = [other for other in variants if other[0] == variant[0]]
    return variant[0] if len(alike) == 1 else _full_name(variant)


def _full_name(variant: tuple[str, str, str]) -> str:
    return f"{variant[0]} ({variant[1]}, padding {variant[2]})"


def _notes(table: Table, wanted: Sequence[Column]) -> tuple[str, ...]:
    notes = [f"Mean ± SEM in percent over {_categories_named(table.categories)}."]
    cells = [cell for row in table.cells for cell in row]
    if any(cell.published_mean is not None for cell in cells) and len(table.categories) < len(MVTEC_CATEGORIES):
        notes.append(
            "The paper's cells are means over all 15 MVTec AD categories: the differences are between unequal sets."
        )
    if any(level.startswith(f"{SUM}:") for level in table.levels):
        notes.append("A sum over part of the levels has no published counterpart.")
    if any(cell.mean is not None and len(cell.categories) < len(table.categories) for cell in cells):
        notes.append("†: a mean over fewer categories than the table's.")
    if undefined := sorted({name for cell in cells for name in cell.undefined}):
        notes.append(
            f"AUROC is undefined in some cells for {', '.join(undefined)}: SED fails where a feature has no variance, "
            "every score where the training images are all alike or the test set has one class only."
        )
    if left_out := [column.title for column in wanted if column not in table.columns]:
        notes.append(f"Not evaluated: {', '.join(left_out)}.")
    return tuple(notes)


def _categories_named(names: Sequence[str]) -> str:
    if set(names) == set(MVTEC_CATEGORIES):
        return "all 15 categories"
    return f"{len(names)} categor{'y' if len(names) == 1 else 'ies'}: {', '.join(names)}"
