"""What the report shows, gathered from the results folder and, if given, the test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.calibration import ALL_CATEGORIES, per_category
from gaussad_cli.evaluation.rows import SUM
from gaussad_cli.evaluation.scorings import MAHALANOBIS, Scoring
from gaussad_cli.report import figures
from gaussad_cli.report.figures import Panel
from gaussad_cli.report.places import PlacesContent, gather_places
from gaussad_cli.report.places_settings import find_places
from gaussad_cli.report.thumbnails import Example, thumbnail
from gaussad_cli.tables.cells import VARIANT, CellSource, TableCell, Variant, measure, short_name, variants_of

BEST_LEVEL = "7"  # of an EfficientNet, by the paper's Table I
_IMAGES = 3  # shown of a kind
_MOST_NETWORKS = 8  # in a figure: there are as many colours
_GAUSSIAN = Scoring(MAHALANOBIS)


@dataclass(frozen=True)
class ShownNetwork:
    """A network without augmentation, and the level at which the report shows it.

    Attributes
    ----------
    title : its backbone, with weights and padding where several networks have the same
    level : 7 if it was evaluated, otherwise the deepest
    auroc, sem : of the Mahalanobis distance at that level, in percent; None where undefined
    categories : those that it was evaluated on
    shared : the mean AUROC over the categories that all networks share, by which they are ordered
    """

    variant: Variant
    title: str
    level: str
    levels: tuple[str, ...]
    auroc: float | None
    sem: float | None
    categories: tuple[str, ...]
    shared: float | None = None

    def select(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return its rows of the Mahalanobis distance of all features, at its level."""
        chosen = CellSource.of(self.variant, _GAUSSIAN).select(rows)
        return chosen[chosen["level"] == self.level]


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes
    ----------
    categories : those that any network was evaluated on
    shared : those that all networks share; None if all were evaluated on the same categories
    lead : the network shown in detail; None if there are no distances of averaged features, only of places
    places : the section on places; None if none were evaluated
    examples : by category and kind
    missing : categories that the folder of images does not hold
    """

    dataset: str
    categories: list[str]
    shared: tuple[str, ...] | None
    networks: list[ShownNetwork]
    lead: ShownNetwork | None
    places: PlacesContent | None
    levels: list[Panel]
    sweeps: list[Panel]
    rocs: list[Panel]
    histograms: list[Panel]
    calibrations: list[Panel]
    examples: dict[str, dict[str, list[Example]]]
    missing: list[str]

    @property
    def all_examples(self) -> list[Example]:
        """The examples of all sections."""
        averaged = [example for kinds in self.examples.values() for kind in kinds.values() for example in kind]
        return [*averaged, *(self.places.examples if self.places else ())]


def gather(results_folder: Path, dataset: str, metrics: pd.DataFrame, data: Path | None, lead: str | None) -> Content:
    """Gather the figures and examples.

    Parameters
    ----------
    metrics : of the data set
    data : folder of the images, for thumbnails
    lead : backbone whose distances are shown in detail; None for the one with the highest mean AUROC. Categories that
        it was not evaluated on are shown by the best network that was.

    Raises
    ------
    UserError
        If neither the Mahalanobis distance nor places were evaluated for that backbone, or for any, if a file is
        damaged, or if the folder of images holds none of the categories.
    """
    networks, settings = find_networks(metrics), find_places(metrics)
    chosen = next((network for network in networks if lead in (None, network.variant.backbone)), None)
    if chosen is None and not any(lead in (None, places.source.variant.backbone) for places in settings):
        raise UserError(
            f"no Mahalanobis distance{f' by {lead}' if lead else ''} is in {results_folder / dataset}. "
            "Run first: gaussad evaluate --backbone NAME"
        )
    chosen = chosen or next(iter(networks), None)
    categories = sorted({name for network in networks for name in network.categories})
    known = sorted({*categories, *(name for places in settings for name in places.categories)})
    missing = [name for name in known if data is not None and not (data / name).is_dir()]
    if missing == known:
        raise UserError(f"{data} holds none of the categories: {', '.join(known)}. Give their folder with --data.")
    by_category = {
        name: next(network for network in (chosen, *networks) if network and name in network.categories)
        for name in categories
    }
    bar = tqdm(categories, desc="report", unit="category", disable=None, dynamic_ncols=True)
    scores = {name: _gaussian_rows(results.read_scores(results_folder, dataset, name)) for name in bar}
    shown = {name: rows for name, all_rows in scores.items() if len(rows := by_category[name].select(all_rows))}
    thresholds = results.read_thresholds(results_folder, dataset)
    titles = {
        name: name if network is chosen else f"{name}, by {network.title}" for name, network in by_category.items()
    }
    return Content(
        dataset,
        sorted(set(metrics["category"])),
        _shared(networks),
        networks,
        chosen,
        gather_places(results_folder, metrics, settings, data, lead),
        _level_panels(metrics, networks[:_MOST_NETWORKS]),
        _sweep_panels(results.read_sweeps(results_folder, dataset), metrics, by_category, titles),
        _roc_panels(scores, networks[:_MOST_NETWORKS]),
        _histogram_panels(shown, thresholds, by_category, titles),
        _calibration_panels(thresholds, chosen, by_category, titles),
        {titles[name]: _examples(rows, data, name) for name, rows in shown.items()},
        missing,
    )


def _gaussian_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["score"] == _GAUSSIAN.score) & (rows["mode"] == _GAUSSIAN.mode)]


def find_networks(metrics: pd.DataFrame) -> list[ShownNetwork]:
    """Return the networks whose Mahalanobis distance was evaluated without augmentation.

    The best over the categories that all of them share comes first.
    """
    rows = _gaussian_rows(metrics[metrics["epochs"] == 0])
    variants = variants_of(rows)
    found = [_network(rows, variant, variants) for variant in variants]
    if shared := _shared(found):
        common = rows[rows["category"].isin(shared)]
        found = [replace(network, shared=_network(common, network.variant, variants).auroc) for network in found]
    else:
        found = [replace(network, shared=network.auroc) for network in found]
    return sorted(found, key=lambda network: 1.0 if network.shared is None else -network.shared)


def _shared(networks: Sequence[ShownNetwork]) -> tuple[str, ...] | None:
    """Return the categories that all networks share; None if all were evaluated on the same categories."""
    sets = [set(network.categories) for network in networks]
    return None if all(names == sets[0] for names in sets) else tuple(sorted(set.intersection(*sets)))


def _network(rows: pd.DataFrame, variant: Variant, variants: Sequence[Variant]) -> ShownNetwork:
    source = CellSource.of(variant, _GAUSSIAN)
    levels = tuple(sorted({name for name in source.select(rows)["level"] if not name.startswith(SUM)}, key=int))
    level = BEST_LEVEL if BEST_LEVEL in levels else levels[-1]
    cell = measure(rows, TableCell(level, source=source))
    categories = tuple(sorted({*cell.categories, *cell.undefined}))
    return ShownNetwork(variant, short_name(variant, variants), level, levels, cell.mean, cell.sem, categories)


def _level_panels(metrics: pd.DataFrame, networks: Sequence[ShownNetwork]) -> list[Panel]:
    return [
        figures.draw_levels(metrics, network.variant, network.levels, f"levels{number}")
        for number, network in enumerate(networks)
        if len(network.levels) > 1
    ]


def _sweep_panels(
    sweeps: pd.DataFrame, metrics: pd.DataFrame, by_category: Mapping[str, ShownNetwork], titles: Mapping[str, str]
) -> list[Panel]:
    panels: list[Panel] = []
    for category, network in by_category.items():
        wanted = [category, *network.variant, 0, network.level]
        rows, points = (
            of_all[(of_all[["category", *VARIANT, "epochs", "level"]] == wanted).all(axis=1)]
            for of_all in (sweeps, metrics)
        )
        if len(rows):
            panels.append(figures.draw_sweep(rows, points, titles[category], f"sweep{len(panels)}"))
    return panels


def _roc_panels(scores: Mapping[str, pd.DataFrame], networks: Sequence[ShownNetwork]) -> list[Panel]:
    panels = []
    for number, (category, rows) in enumerate(scores.items()):
        curves = [(network.title, network.select(rows)) for network in networks]
        curves = [(title, curve) for title, curve in curves if curve["anomalous"].nunique() == 2 and _is_finite(curve)]
        if curves:
            panels.append(figures.draw_roc(curves, category, f"roc{number}"))
    return panels


def _is_finite(rows: pd.DataFrame) -> bool:
    return bool(np.isfinite(rows["distance"].astype(float)).all())


def _histogram_panels(
    scores: Mapping[str, pd.DataFrame],
    thresholds: pd.DataFrame,
    by_category: Mapping[str, ShownNetwork],
    titles: Mapping[str, str],
) -> list[Panel]:
    panels = []
    for number, (category, rows) in enumerate(scores.items()):
        if _is_finite(rows):
            of_category = by_category[category].select(thresholds[thresholds["category"] == category])
            panels.append(figures.draw_histogram(rows, of_category, titles[category], f"hist{number}"))
    return panels


def _calibration_panels(
    thresholds: pd.DataFrame,
    lead: ShownNetwork | None,
    by_category: Mapping[str, ShownNetwork],
    titles: Mapping[str, str],
) -> list[Panel]:
    """Draw every category by the network that it is shown by, and the lead's rates over all of its categories."""
    panels: list[Panel] = []
    for network in dict.fromkeys([*([lead] if lead else ()), *by_category.values()]):
        names = [name for name, shown_by in by_category.items() if shown_by is network]
        names += [ALL_CATEGORIES] if network is lead else []
        rows = network.select(thresholds)
        for category, frame in per_category(rows).groupby("category", sort=False) if len(rows) else ():
            if category in names and frame["n_normal"].iloc[0]:
                title = titles.get(str(category), str(category))
                panels.append(figures.draw_working_point(frame, title, f"cal{len(panels)}"))
    return panels


def _examples(rows: pd.DataFrame, data: Path | None, category: str) -> dict[str, list[Example]]:
    """Return a category's images that are hardest and easiest to tell apart; `data` holds the categories."""
    ordered = rows.sort_values("distance", kind="stable")
    normal, anomalous = ordered[ordered["anomalous"] == 0], ordered[ordered["anomalous"] == 1]
    kinds = {
        "normal, farthest out: the first false alarms": normal.tail(_IMAGES).iloc[::-1],
        "anomalous, closest: the first misses": anomalous.head(_IMAGES),
        "anomalous, farthest out": anomalous.tail(_IMAGES).iloc[::-1],
        "normal, closest": normal.head(_IMAGES),
    }
    return {
        kind: [
            Example(name, distance, "" if data is None else thumbnail(data, Path(category, name)))
            for name, distance in zip(images["image"], images["distance"], strict=True)
        ]
        for kind, images in kinds.items()
        if len(images)
    }
