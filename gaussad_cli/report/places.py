"""What the report shows of the Gaussians of places: images, heat maps and masks side by side, and curves of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from gaussad_cli.datasets.images import MASKS
from gaussad_cli.datasets.index import ImageFile
from gaussad_cli.detector.heatmaps import Scale, overlay
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.metrics import max_f1_threshold
from gaussad_cli.evaluation.pixels import Map, Mask, bring_to, collect
from gaussad_cli.extraction.decode import read_shape
from gaussad_cli.extraction.masks import mask_path, read_mask
from gaussad_cli.report.figures import Panel
from gaussad_cli.report.pixel_curves import draw_pixel_curves
from gaussad_cli.report.places_settings import COLUMNS, PARTIAL, ShownPlaces
from gaussad_cli.report.thumbnails import PIXELS, Example, as_jpeg, is_inside, mask_thumbnail, read_small

_IMAGES = 3  # shown of a kind
WITHIN = 0.95  # share of the normal test images that have no place beyond the outline
_GRAY = 128  # stands for the image under a heat map where there is no image

Maps = Mapping[str, Map]
Masks = Mapping[str, Mask]


@dataclass(frozen=True)
class PlaceExample(Example):
    """A test image with its heat map and its mask, `data:` URLs or empty."""

    is_anomalous: bool
    heat_map: str
    mask: str


@dataclass(frozen=True)
class PlacesOfCategory:
    """A category's part of the section.

    Attributes
    ----------
    scale : of the colours of its heat maps; None without heat maps
    examples : by kind
    curves : of pixels; None without heat maps or masks
    notes : what is left out, and why
    """

    title: str
    scale: Scale | None
    examples: dict[str, list[PlaceExample]]
    curves: Panel | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PlacesContent:
    """The section on places.

    Attributes
    ----------
    settings : every network and setting, the best first
    lead : the one shown in pictures; another one shows the categories that this one was not evaluated on
    remedies : the commands that bring what is missing
    columns : titles of the table's columns
    beyond : percentage of the normal test images that have a place beyond the outline, at most
    """

    settings: list[ShownPlaces]
    lead: ShownPlaces
    categories: list[PlacesOfCategory]
    remedies: tuple[str, ...]
    columns: tuple[str, ...] = tuple(COLUMNS.values())
    beyond: str = f"{100 * (1 - WITHIN):.0f}"

    @property
    def examples(self) -> list[PlaceExample]:
        """All examples."""
        return [example for part in self.categories for kind in part.examples.values() for example in kind]

    @property
    def curves(self) -> list[Panel]:
        """The curves of all categories."""
        return [part.curves for part in self.categories if part.curves is not None]

    @property
    def has_partial_means(self) -> bool:
        """Whether a mean of the table is over some of the categories only."""
        return any(PARTIAL in mean for places in self.settings for mean in places.means)


@dataclass(frozen=True)
class _Measured:
    """What the results folder, and the folder of images, hold of a category.

    Attributes
    ----------
    rows : of `scores/<category>.csv`, of one setting
    maps : by image; None if they were not kept
    masks : by image, of those that have one; None without images or without a folder of masks
    """

    name: str
    rows: pd.DataFrame
    maps: Maps | None
    masks: Masks | None


def gather_places(
    results_folder: Path, metrics: pd.DataFrame, settings: list[ShownPlaces], data: Path | None, backbone: str | None
) -> PlacesContent | None:
    """Gather the section on places; None if none were evaluated.

    Parameters
    ----------
    metrics : of the data set
    settings : as :func:`gaussad_cli.report.places_settings.find_places` returns them
    data : folder of the images
    backbone : the one shown in pictures, if it was evaluated; None for the best

    Raises
    ------
    UserError
        If a file of the results is damaged, or the heat maps are of other images than the scores.
    """
    if not settings:
        return None
    dataset = str(metrics["dataset"].iloc[0])
    lead = next((places for places in settings if places.source.variant.backbone == backbone), settings[0])
    names = sorted({name for places in settings for name in places.categories})
    bar = tqdm(names, desc="report, places", unit="category", disable=None, dynamic_ncols=True)
    parts, without_maps = [], {}
    for number, name in enumerate(bar):
        shown = next(places for places in (lead, *settings) if name in places.categories)
        rows = shown.select(results.read_scores(results_folder, dataset, name))
        of_metrics = shown.select(metrics[metrics["category"] == name])
        maps = _read_maps(results_folder, of_metrics.iloc[0], rows)
        measured = _Measured(name, rows, maps, None if data is None else _read_masks(data, name, rows))
        title = name if shown is lead else f"{name}, by {shown.title}"
        parts.append(_show(measured, data, title, f"pixels{number}"))
        if maps is None:
            without_maps[name] = shown.source.variant.backbone
    return PlacesContent(settings, lead, parts, _remedies(without_maps, data))


def _read_maps(results_folder: Path, row: pd.Series, rows: pd.DataFrame) -> Maps | None:
    keyed = {str(name): value for name, value in row.items()}
    maps = results.read_maps(results_folder, keyed)
    if maps is not None and not set(rows["image"]) <= set(maps):
        raise UserError(
            f"{results.maps_path(results_folder, keyed)} holds heat maps of other images than the scores are of. "
            "Move it away and run gaussad evaluate --score places --maps again."
        )
    return maps


def _remedies(without_maps: Mapping[str, str], data: Path | None) -> tuple[str, ...]:
    """Say how to get what is missing.

    Parameters
    ----------
    without_maps : the backbone of each category without heat maps
    """
    remedies = [
        f"No heat maps of {', '.join(name for name, used in without_maps.items() if used == backbone)} were kept: run "
        f"gaussad evaluate --backbone {backbone} --score places --maps, with its other options as before."
        for backbone in dict.fromkeys(without_maps.values())
    ]
    if data is None:
        remedies.append("Pictures, masks and curves of pixels need the images: run gaussad report --data DIR.")
    return tuple(remedies)


def _read_masks(data: Path, category: str, rows: pd.DataFrame) -> Masks | None:
    """Read the masks of a category's test images from the folder of images."""
    if not (data / category / MASKS).is_dir():
        return None
    masks = {
        name: _mask_of(ImageFile(name, label, data / category / name), is_anomalous == 1)
        for name, label, is_anomalous in rows[["image", "label", "anomalous"]].itertuples(index=False)
        if is_inside(Path(category, name)) and len(PurePosixPath(name).parts) > 1
    }
    return {name: mask for name, mask in masks.items() if mask is not None}


def _mask_of(image: ImageFile, is_anomalous: bool) -> Mask | None:
    """Read a mask; without a file, a normal image's is all False. None if there is none, or it cannot be read."""
    path = mask_path(image)
    try:
        if path.is_file():
            return read_mask(path)
        return None if is_anomalous else np.zeros(read_shape(image.path), bool)
    except ImageError:
        return None


def _show(measured: _Measured, data: Path | None, title: str, name: str) -> PlacesOfCategory:
    scale = _scale(measured)
    examples = {
        kind: [_example(measured, row, scale, data) for row in rows.itertuples()]
        for kind, rows in choose_examples(measured.rows).items()
        if len(rows)
    }
    return PlacesOfCategory(title, scale, examples, _curves(measured, title, name), _notes(measured, scale, data))


def _scale(measured: _Measured) -> Scale | None:
    normal = measured.rows.loc[measured.rows["anomalous"] == 0, "image"]
    if measured.maps is None or normal.empty:
        return None
    return normal_scale(np.stack([measured.maps[name] for name in normal]))


def normal_scale(maps: NDArray[np.float32]) -> Scale | None:
    """Return the scale of the colours, fixed by the heat maps (m, g, g) of normal images; None if they hold a NaN.

    The scale begins at the median of the images' medians. The outline is at the smallest of their greatest distances
    that at least 95 % of them do not exceed.
    """
    if np.isnan(maps).any():
        return None
    typical = float(np.median(np.median(maps, axis=(1, 2))))
    return Scale(typical, float(np.quantile(maps.max(axis=(1, 2)), WITHIN, method="inverted_cdf")))


def choose_examples(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Choose the worst, the most doubtful and the best images by their score.

    The most doubtful images are nearest to the threshold of the greatest F1; those that are shown already, as worst,
    are not chosen again.

    Parameters
    ----------
    rows : of `scores/<category>.csv`, for one setting
    """
    ordered = rows.sort_values("distance", kind="stable")
    normal, anomalous = ordered[ordered["anomalous"] == 0], ordered[ordered["anomalous"] == 1]
    misses, alarms = anomalous.head(_IMAGES), normal.tail(_IMAGES).iloc[::-1]
    best = anomalous.tail(_IMAGES).iloc[::-1]
    threshold = max_f1_threshold(ordered["distance"].to_numpy(float), ordered["anomalous"].to_numpy() == 1)
    others = ordered[~ordered["image"].isin([*misses["image"], *alarms["image"], *best["image"]])]
    nearest = (others["distance"] - threshold).abs().dropna().sort_values(kind="stable").index
    return {
        "worst, anomalous: the first misses": misses,
        "worst, normal: the first false alarms": alarms,
        f"most doubtful of the others: nearest to the threshold of the greatest F1, {threshold:.2f}": others.loc[
            nearest[:_IMAGES]
        ],
        "best: anomalous, farthest out": best,
    }


def _example(measured: _Measured, row: pd.Series, scale: Scale | None, data: Path | None) -> PlaceExample:
    pixels = None if data is None else read_small(data, Path(measured.name, row.image))
    mask = (measured.masks or {}).get(row.image)
    return PlaceExample(
        row.image,
        row.distance,
        "" if pixels is None else as_jpeg(pixels),
        row.anomalous == 1,
        "" if scale is None or measured.maps is None else _heat_map(pixels, measured.maps[row.image], scale),
        "" if mask is None else mask_thumbnail(mask),
    )


def _heat_map(pixels: NDArray[np.uint8] | None, distances: Map, scale: Scale) -> str:
    if np.isnan(distances).any():
        return ""
    below = np.full((PIXELS, PIXELS), _GRAY, np.uint8) if pixels is None else pixels
    return as_jpeg(overlay(below, distances, scale))


def _curves(measured: _Measured, title: str, name: str) -> Panel | None:
    """Draw the curves of pixels, at the masks' own resolution as the metrics are."""
    if not measured.maps or not measured.masks:
        return None
    masks = measured.masks
    maps = (bring_to(measured.maps[image], (len(mask), mask.shape[1])) for image, mask in masks.items())
    pixels = collect(maps, masks.values())
    return None if pixels.is_undefined else draw_pixel_curves(pixels, title, name)


def _notes(measured: _Measured, scale: Scale | None, data: Path | None) -> tuple[str, ...]:
    notes = []
    if measured.maps is not None and scale is None:
        notes.append("No heat maps: there is no normal test image to fix their scale, or its distances are NaN.")
    if data is not None and (data / measured.name).is_dir():
        without = len(measured.rows) - len(measured.masks or {})
        if measured.masks is None:
            notes.append(f"No masks and no curves of pixels: the folder of images has no {measured.name}/{MASKS}.")
        elif without:
            notes.append(
                f"Image or mask is missing or unreadable, and left out of the curves of pixels: {without} images."
            )
    return tuple(notes)
