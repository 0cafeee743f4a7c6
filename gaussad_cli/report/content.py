"""What the report shows, gathered from the results folder and, if given, the test images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.calibration import per_category
from gaussad_cli.evaluation.rows import SUM
from gaussad_cli.evaluation.scorings import MAHALANOBIS, Scoring
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.report import figures
from gaussad_cli.report.figures import Panel
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
    """

    variant: Variant
    title: str
    level: str
    levels: tuple[str, ...]
    auroc: float | None
    sem: float | None

    def select(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return its rows of the Mahalanobis distance of all features, at its level."""
        chosen = CellSource.of(self.variant, _GAUSSIAN).select(rows)
        return chosen[chosen["level"] == self.level]


@dataclass(frozen=True)
class Example:
    """A test image with its distance; `picture` is a `data:` URL, or empty."""

    name: str
    distance: float
    picture: str


@dataclass(frozen=True)
class Content:
    """All that the page shows; `lead` is the network shown in detail, `examples` are by category and kind."""

    dataset: str
    categories: list[str]
    networks: list[ShownNetwork]
    lead: ShownNetwork
    levels: list[Panel]
    sweeps: list[Panel]
    rocs: list[Panel]
    histograms: list[Panel]
    calibrations: list[Panel]
    examples: dict[str, dict[str, list[Example]]]


def gather(results_folder: Path, dataset: str, metrics: pd.DataFrame, data: Path | None, lead: str | None) -> Content:
    """Gather the figures and examples.

    Parameters
    ----------
    metrics : of the data set
    data : folder of the images, for thumbnails
    lead : backbone whose distances are shown in detail; None for the one with the highest mean AUROC

    Raises
    ------
    UserError
        If the Mahalanobis distance was not evaluated for that backbone, or for any, or if a file is damaged.
    """
    networks = find_networks(metrics)
    chosen = next((network for network in networks if lead in (None, network.variant.backbone)), None)
    if chosen is None:
        raise UserError(
            f"no Mahalanobis distance{f' by {lead}' if lead else ''} is in {results_folder / dataset}. "
            "Run first: gaussad evaluate --backbone NAME"
        )
    categories = sorted(set(chosen.select(metrics)["category"]))
    bar = tqdm(categories, desc="report", unit="category", disable=None, dynamic_ncols=True)
    scores = {name: _gaussian_rows(results.read_scores(results_folder, dataset, name)) for name in bar}
    of_lead = {name: rows for name, all_rows in scores.items() if len(rows := chosen.select(all_rows))}
    thresholds = chosen.select(results.read_thresholds(results_folder, dataset))
    return Content(
        dataset,
        sorted(set(metrics["category"])),
        networks,
        chosen,
        _level_panels(metrics, networks[:_MOST_NETWORKS]),
        _sweep_panels(results.read_sweeps(results_folder, dataset), metrics, chosen),
        _roc_panels(scores, networks[:_MOST_NETWORKS]),
        _histogram_panels(of_lead, thresholds),
        _calibration_panels(thresholds),
        {name: _examples(rows, data and data / name) for name, rows in of_lead.items()},
    )


def _gaussian_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["score"] == _GAUSSIAN.score) & (rows["mode"] == _GAUSSIAN.mode)]


def find_networks(metrics: pd.DataFrame) -> list[ShownNetwork]:
    """Return the networks whose Mahalanobis distance was evaluated without augmentation, the best first."""
    rows = _gaussian_rows(metrics[metrics["epochs"] == 0])
    variants = variants_of(rows)
    found = [_network(rows, variant, variants) for variant in variants]
    return sorted(found, key=lambda network: 1.0 if network.auroc is None else -network.auroc)


def _network(rows: pd.DataFrame, variant: Variant, variants: Sequence[Variant]) -> ShownNetwork:
    source = CellSource.of(variant, _GAUSSIAN)
    levels = tuple(sorted({name for name in source.select(rows)["level"] if not name.startswith(SUM)}, key=int))
    level = BEST_LEVEL if BEST_LEVEL in levels else levels[-1]
    cell = measure(rows, TableCell(level, source=source))
    return ShownNetwork(variant, short_name(variant, variants), level, levels, cell.mean, cell.sem)


def _level_panels(metrics: pd.DataFrame, networks: Sequence[ShownNetwork]) -> list[Panel]:
    return [
        figures.draw_levels(metrics, network.variant, network.levels, f"levels{number}")
        for number, network in enumerate(networks)
        if len(network.levels) > 1
    ]


def _sweep_panels(sweeps: pd.DataFrame, metrics: pd.DataFrame, lead: ShownNetwork) -> list[Panel]:
    rows, points = (
        of_all[(of_all[[*VARIANT, "epochs", "level"]] == [*lead.variant, 0, lead.level]).all(axis=1)]
        for of_all in (sweeps, metrics)
    )
    return [
        figures.draw_sweep(of_category, points[points["category"] == category], str(category), f"sweep{number}")
        for number, (category, of_category) in enumerate(rows.groupby("category"))
    ]


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


def _histogram_panels(scores: Mapping[str, pd.DataFrame], thresholds: pd.DataFrame) -> list[Panel]:
    return [
        figures.draw_histogram(rows, thresholds[thresholds["category"] == category], category, f"hist{number}")
        for number, (category, rows) in enumerate(scores.items())
        if _is_finite(rows)
    ]


def _calibration_panels(thresholds: pd.DataFrame) -> list[Panel]:
    if thresholds.empty:
        return []
    return [
        figures.draw_working_point(of_category, str(category), f"cal{number}")
        for number, (category, of_category) in enumerate(per_category(thresholds).groupby("category", sort=False))
        if of_category["n_normal"].iloc[0]
    ]


def _examples(rows: pd.DataFrame, folder: Path | None) -> dict[str, list[Example]]:
    """Return a category's images that are hardest and easiest to tell apart; `folder` holds its images."""
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
            Example(name, distance, "" if folder is None else thumbnail(folder / name))
            for name, distance in zip(images["image"], images["distance"], strict=True)
        ]
        for kind, images in kinds.items()
        if len(images)
    }


PIXELS = 144
_QUALITY = 80


def thumbnail(path: Path) -> str:
    """Return a small square JPEG of an image file as a `data:` URL, or an empty string if the file cannot be read."""
    try:
        pixels = read_squares(path, [PIXELS]).by_size[PIXELS]
    except ImageError:
        return ""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
