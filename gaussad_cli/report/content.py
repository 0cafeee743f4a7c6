"""What the report shows, from the results folder and nothing else (and test images, where they are)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.calibration import per_category
from gaussad_cli.evaluation.rows import SUM
from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.report import figures
from gaussad_cli.report.figures import Panel
from gaussad_cli.report.thumbnails import thumbnail
from gaussad_cli.tables.cells import Cell, Source, Variant, full_name, measure, variants_of

BEST_LEVEL = "7"  # of an EfficientNet, by the paper's Table I
_SHOWN = 3  # images of a kind
_MOST_NETWORKS = 8  # in a figure: as many colours as there are
_GAUSSIAN = Scoring("mahalanobis")


@dataclass(frozen=True)
class Network:
    """One network's features, and the level that stands for it.

    Attributes
    ----------
    title : with weights and padding where several are alike
    level : 7 if it was evaluated, else the deepest
    auroc, sem : of the Mahalanobis distance at that level, percent; None where undefined
    """

    variant: Variant
    epochs: int
    title: str
    level: str
    levels: tuple[str, ...]
    auroc: float | None
    sem: float | None

    @property
    def source(self) -> Source:
        """Return what its Mahalanobis distance's cells are of."""
        return Source.of(self.variant, _GAUSSIAN, self.epochs)

    def select(self, rows: pd.DataFrame, level: str | None = None) -> pd.DataFrame:
        """Return its rows of the Mahalanobis distance of all features, at its level."""
        chosen = self.source.select(rows)
        return chosen[chosen["level"] == (level or self.level)]


@dataclass(frozen=True)
class Example:
    """A test image with its distance; `picture` is a `data:` URL, or empty."""

    name: str
    distance: float
    picture: str


@dataclass(frozen=True)
class Examples:
    """The images of a category that are told best and worst."""

    category: str
    groups: tuple[tuple[str, tuple[Example, ...]], ...]


@dataclass(frozen=True)
class Content:
    """All that the page is made of."""

    dataset: str
    categories: tuple[str, ...]
    networks: tuple[Network, ...]
    lead: Network
    levels: tuple[Panel, ...]
    sweeps: tuple[Panel, ...]
    rocs: tuple[Panel, ...]
    histograms: tuple[Panel, ...]
    calibrations: tuple[Panel, ...]
    examples: tuple[Examples, ...]


def gather(results_folder: Path, dataset: str, metrics: pd.DataFrame, data: Path | None, lead: str | None) -> Content:
    """Gather the figures and examples.

    Parameters
    ----------
    metrics : of the data set
    data : folder of the images, for thumbnails
    lead : backbone whose distances are shown in detail; None: the one with the highest mean AUROC

    Raises
    ------
    UserError
        If no Mahalanobis distance was evaluated, by that backbone or by any, or a file is damaged.
    """
    networks = find_networks(metrics)
    chosen = [one for one in networks if lead in (None, one.variant.backbone)]
    if not chosen:
        raise UserError(
            f"no Mahalanobis distance{f' by {lead}' if lead else ''} is in {results_folder / dataset}. "
            "Run first: gaussad evaluate --backbone NAME"
        )
    first = max(chosen, key=lambda one: -1.0 if one.auroc is None else one.auroc)
    categories = tuple(sorted(set(first.select(metrics)["category"])))
    bar = tqdm(categories, desc="report", unit="category", disable=None, dynamic_ncols=True)
    scores = {name: _gaussian_rows(results.read_scores(results_folder, dataset, name)) for name in bar}
    thresholds = results.read_thresholds(results_folder, dataset)
    sweeps = results.read_sweeps(results_folder, dataset)
    shown = networks[:_MOST_NETWORKS]
    return Content(
        dataset,
        tuple(sorted(set(metrics["category"]))),
        tuple(networks),
        first,
        tuple(_level_panels(metrics, shown)),
        tuple(_sweep_panels(sweeps, metrics, first)),
        tuple(_roc_panels(scores, shown)),
        tuple(_histogram_panels(scores, thresholds, first)),
        tuple(_calibration_panels(thresholds, first)),
        tuple(_examples(name, first.select(rows), data) for name, rows in scores.items() if len(first.select(rows))),
    )


def _gaussian_rows(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[(scores["score"] == "mahalanobis") & (scores["mode"] == "all")]


def find_networks(metrics: pd.DataFrame) -> list[Network]:
    """Return the networks by whose features, not augmented, the Mahalanobis distance was evaluated; the best first."""
    rows = metrics[(metrics["score"] == "mahalanobis") & (metrics["mode"] == "all") & (metrics["epochs"] == 0)]
    variants = variants_of(rows)
    found = [_network(rows, variant, variants) for variant in variants]
    return sorted(found, key=lambda one: -1.0 if one.auroc is None else -one.auroc)


def _network(rows: pd.DataFrame, variant: Variant, variants: Sequence[Variant]) -> Network:
    source = Source.of(variant, _GAUSSIAN)
    names = {str(level) for level in source.select(rows)["level"] if not str(level).startswith(SUM)}
    levels = tuple(sorted(names, key=int))
    level = BEST_LEVEL if BEST_LEVEL in levels else levels[-1]
    alike = [other for other in variants if other.backbone == variant.backbone]
    title = variant.backbone if len(alike) == 1 else full_name(variant, variants)
    cell = measure(rows, Cell(level, source=source))
    return Network(variant, 0, title, level, levels, cell.mean, cell.sem)


def _level_panels(metrics: pd.DataFrame, networks: Sequence[Network]) -> list[Panel]:
    return [
        figures.draw_levels(metrics, one.variant, one.levels, f"levels{number}")
        for number, one in enumerate(networks)
        if len(one.levels) > 1
    ]


def _sweep_panels(sweeps: pd.DataFrame, metrics: pd.DataFrame, lead: Network) -> list[Panel]:
    variant = (sweeps[list(Variant._fields)] == list(lead.variant)).all(axis=1)
    rows = sweeps[variant & (sweeps["epochs"] == lead.epochs) & (sweeps["level"] == lead.level)]
    same = (metrics[list(Variant._fields)] == list(lead.variant)).all(axis=1)
    points = metrics[same & (metrics["epochs"] == lead.epochs) & (metrics["level"] == lead.level)]
    return [
        figures.draw_sweep(of_category, points[points["category"] == category], str(category), f"sweep{number}")
        for number, (category, of_category) in enumerate(rows.groupby("category"))
    ]


def _roc_panels(scores: dict[str, pd.DataFrame], networks: Sequence[Network]) -> list[Panel]:
    panels = []
    for number, (category, rows) in enumerate(scores.items()):
        curves = [(one.title, one.select(rows)) for one in networks]
        curves = [(title, curve) for title, curve in curves if _has_both_classes(curve)]
        if curves:
            panels.append(figures.draw_roc(curves, category, f"roc{number}"))
    return panels


def _has_both_classes(rows: pd.DataFrame) -> bool:
    return rows["anomalous"].nunique() == 2 and bool(rows["distance"].notna().all())


def _histogram_panels(scores: dict[str, pd.DataFrame], thresholds: pd.DataFrame, lead: Network) -> list[Panel]:
    mine = lead.select(thresholds)
    return [
        figures.draw_histogram(rows, mine[mine["category"] == category], category, f"hist{number}")
        for number, (category, all_rows) in enumerate(scores.items())
        if len(rows := lead.select(all_rows)) and rows["distance"].notna().all()
    ]


def _calibration_panels(thresholds: pd.DataFrame, lead: Network) -> list[Panel]:
    mine = lead.select(thresholds)
    if mine.empty:
        return []
    frame = per_category(mine)
    return [
        figures.draw_calibration(of_category, str(category), f"cal{number}")
        for number, (category, of_category) in enumerate(frame.groupby("category", sort=False))
        if of_category["n_normal"].iloc[0]
    ]


def _examples(category: str, rows: pd.DataFrame, data: Path | None) -> Examples:
    """Return the images that are hardest and easiest to tell."""
    ordered = rows.sort_values("distance", kind="stable")
    normal, anomalous = ordered[ordered["anomalous"] == 0], ordered[ordered["anomalous"] == 1]
    kinds = (
        ("normal, farthest out: the first false alarms", normal.tail(_SHOWN).iloc[::-1]),
        ("anomalous, closest: the first misses", anomalous.head(_SHOWN)),
        ("anomalous, farthest out", anomalous.tail(_SHOWN).iloc[::-1]),
        ("normal, closest", normal.head(_SHOWN)),
    )
    groups = ((title, tuple(_example(category, row, data) for row in few.itertuples())) for title, few in kinds)
    return Examples(category, tuple((title, few) for title, few in groups if few))


def _example(category: str, row: object, data: Path | None) -> Example:
    name = str(row.image)  # type: ignore[attr-defined]
    picture = "" if data is None else thumbnail(data / category / Path(name))
    return Example(name, float(row.distance), picture)  # type: ignore[attr-defined]
