"""Measured rows to the paper's tables: pivots of `metrics.csv` and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd

from gaussad_cli.evaluation.evaluate import SUM
from gaussad_cli.evaluation.scorings import MODES, Scoring, compression_name
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.thresholds import SIGMAS, target_fpr
from gaussad_cli.tables.published import MVTEC_CATEGORIES, read_published

_VARIANT = ["backbone", "weights", "padding"]  # what tells one extracted backbone from another
_SCORE_NAMES = {"l2": "L2", "sed": "SED", "mahalanobis": "Mahalanobis"}


@dataclass(frozen=True)
class Cell:
    """Mean over categories and its SEM, measured and published; None where there is none.

    `quantity` is "auroc", "fpr" or "tpr" in percent, or "dim", a count; empty where there is nothing to show.
    `categories` are the ones the measured mean is over; `undefined` those that were run and where it is undefined.
    """

    level: str = ""
    quantity: str = "auroc"
    sigma: int | None = None
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
    epochs: int = 0


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
    backbones as columns.

    Parameters
    ----------
    number : 1, 2, 3, 4 or 7
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
    layout = LAYOUTS[number]
    rows = metrics[(metrics["epochs"] == 0) & metrics["backbone"].map(layout.belongs)]
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
    published = _comparable(number, rows)
    cells = tuple(
        tuple(
            _cell(measured[column.title], Cell(level), _published(published, column, Cell(level))) for column in columns
        )
        for level in levels
    )
    title = layout.title if layout.heading is None else f"{layout.title}: {_full_name(columns[0].variant)}"
    table = Table(number, title, columns, levels, cells)
    return replace(table, notes=_notes(table, wanted))


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
    for (*variant, epochs), of_variant in rows.groupby([*_VARIANT, "epochs"]):
        backbone, weights, padding = map(str, variant)
        wanted = [
            Column(f"{compression_name(mode)} {quantity}", (backbone, weights, padding), scoring, int(epochs))
            for mode in _WORKING_POINT_MODES
            for scoring in (Scoring("mahalanobis", mode),)
            for quantity in ("FPR", "TPR")
        ]
        columns = tuple(column for column in wanted if not _select(of_variant, column).empty)
        if columns:
            tables.append(_build_working_point(of_variant, columns, wanted))
    return tables


def _build_working_point(rows: pd.DataFrame, columns: tuple[Column, ...], wanted: Sequence[Column]) -> Table:
    published = _comparable(4, rows)
    epochs = columns[0].epochs
    published = published[published["epochs"].isin(["0"] if epochs == 0 else ["100", ""])]
    level = _WORKING_POINT_LEVEL
    targets = 100 * target_fpr(SIGMAS)
    lines: list[tuple[str, Callable[[str], Cell]]] = [
        (f"{n} sigma, {target:.3g}%", partial(_rate_of, n)) for n, target in zip(SIGMAS, targets, strict=True)
    ]
    lines += [("AUROC", partial(_first_of_two, "auroc")), ("dimensions", partial(_first_of_two, "dim"))]
    cells = tuple(
        tuple(
            _cell(_select(rows, column), cell := what(column.title[-3:].lower()), _published(published, column, cell))
            for column in columns
        )
        for _, what in lines
    )
    how = f"{epochs} augmented epochs" if epochs else "not augmented"
    title = f"Wanted FPR, and FPR and TPR achieved, at level {level}: {_full_name(columns[0].variant)}, {how}"
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


def _comparable(number: int, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's cells of a table, none if the rows are of other data."""
    published = read_published()
    return published[(published["table"] == number) & (set(rows["category"]) <= set(MVTEC_CATEGORIES))]


def _select(rows: pd.DataFrame, column: Column) -> pd.DataFrame:
    scoring = column.scoring
    var = rows["var"].isna() if scoring.compression.var is None else rows["var"] == scoring.compression.var
    variant = (rows[_VARIANT] == list(column.variant)).all(axis=1)
    return rows[variant & var & (rows["score"] == scoring.score) & (rows["mode"] == scoring.compression.mode)]


def _cell(measured: pd.DataFrame, cell: Cell, published: tuple[float, float | None] | None) -> Cell:
    """Average folds, then categories; the SEM is over categories (ddof 1), so one category has none."""
    if not cell.quantity:
        return cell
    column = cell.quantity if cell.sigma is None else f"{cell.quantity}_{cell.sigma}s"
    folds = measured.loc[measured["level"] == cell.level].groupby("category")[column]
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
        published_mean=published[0] if published else None,
        published_sem=published[1] if published else None,
    )


def _published(cells: pd.DataFrame, column: Column, cell: Cell) -> tuple[float, float | None] | None:
    compression = column.scoring.compression
    var = cells["var"].isna() if compression.var is None else cells["var"] == compression.var
    sigma = cells["sigma"].isna() if cell.sigma is None else cells["sigma"] == cell.sigma
    match = cells[
        var
        & sigma
        & (cells["quantity"] == cell.quantity)
        & (cells["backbone"] == column.variant[0])
        & (cells["level"] == cell.level)
        & (cells["score"] == column.scoring.score)
        & (cells["mode"] == compression.mode)
    ]
    if match.empty:
        return None
    mean, sem = match[["mean", "sem"]].iloc[0]
    return float(mean), None if pd.isna(sem) else float(sem)


def _levels(names: Iterable[str]) -> tuple[str, ...]:
    """Levels in order, sums last."""
    return tuple(sorted(set(names), key=lambda name: (name.startswith(SUM), name)))


def _variant_name(variant: tuple[str, str, str], variants: Sequence[tuple[str, str, str]]) -> str:
    alike = [other for other in variants if other[0] == variant[0]]
    return variant[0] if len(alike) == 1 else _full_name(variant)


def _full_name(variant: tuple[str, str, str]) -> str:
    return f"{variant[0]} ({variant[1]}, padding {variant[2]})"


def _notes(table: Table, wanted: Sequence[Column]) -> tuple[str, ...]:
    notes = [f"Mean{'' if table.number == 4 else ' ± SEM'} in percent over {_categories_named(table.categories)}."]
    cells = [cell for row in table.cells for cell in row]
    if any(cell.published_mean is not None for cell in cells) and len(table.categories) < len(MVTEC_CATEGORIES):
        notes.append(
            "The paper's cells are means over all 15 MVTec AD categories: the differences are between unequal sets."
        )
    if any(level.startswith(f"{SUM}:") for level in table.rows):
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
