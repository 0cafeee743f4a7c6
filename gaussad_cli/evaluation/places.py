"""Evaluates one Gaussian per place: `gaussad evaluate --score places`.

Every fold's Gaussians are fitted to the training features of its images and asked for all test images. Features are
read from memory maps, a few images at a time: only the heat maps of the test images are held. The image's scores (the
greatest distance, the mean of the greatest 1 %, and the detector's, on the scale of held-out normal images) come from
the same maps, and so do the metrics of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gaussad_cli.datasets.folds import N_FOLDS, training_folds
from gaussad_cli.errors import UserError, escaped, interruptible
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.category import OpenCategory, read_test
from gaussad_cli.evaluation.evaluate import INTERRUPTED, EvaluationReport, join_problems, open_categories
from gaussad_cli.evaluation.metrics import image_metrics
from gaussad_cli.evaluation.pixels import aupro, bring_to, collect, pixel_auroc, points_into
from gaussad_cli.evaluation.place_setting import PlaceSetting, read_place_setting
from gaussad_cli.evaluation.rows import CategoryRows, identify, joint_name, score_rows, undefined_auroc
from gaussad_cli.evaluation.scorings import PLACES_GREATEST, SCORES, Scoring
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.extraction import store
from gaussad_cli.extraction.engine import usable_cores
from gaussad_cli.gaussian.compression import NO_COMPRESSION
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.places import (
    FAR,
    TOP,
    WHOLE_WEIGHT,
    Maps,
    MapScale,
    PlaceGaussians,
    PlaceMoments,
    PlaceOptions,
    fit_places,
    fit_scale,
    gather_places,
    greatest,
    join_levels,
    smooth,
    whole,
)
from gaussad_cli.parallel import HERE, Distribution, run_tasks

CHUNK = 32  # images in memory at a time
OF_MAPS = {name: score.of_maps for name, score in SCORES.items() if score.of_maps is not None}
PIXEL_METRICS = ("pixel_auroc", "aupro", "pointing")


@dataclass(frozen=True)
class PlaceFeatures:
    """The features of places of a split.

    Attributes
    ----------
    levels : level -> (rows, grid * grid * C) float32, a memory map; with epochs, the rows of an image are consecutive
    grid : places per side
    """

    levels: Mapping[int, store.Features]
    grid: int

    def chunks(self, rows: NDArray[np.intp]) -> Iterator[Maps]:
        """Yield some rows, joined over the levels, (b, grid * grid, D), a few at a time."""
        for start in range(0, len(rows), CHUNK):
            chosen = rows[start : start + CHUNK]
            yield join_levels({level: values[chosen] for level, values in self.levels.items()}, self.grid**2)


@dataclass(frozen=True)
class FoldMaps:
    """What one scoring measures of a fold.

    Attributes
    ----------
    maps : (m, grid, grid) heat maps of the test images
    scores : (m,) by the names of the scores
    dim, intensity : kept directions, and rho
    pixels : metrics of pixels; empty without masks
    """

    maps: Array
    scores: Mapping[str, Array]
    dim: int
    intensity: float
    pixels: Mapping[str, float]


ByFold = dict[Scoring, list[FoldMaps]]


@dataclass(frozen=True)
class ScoredPlaces:
    """What all scorings measure of a category.

    Attributes
    ----------
    by_fold : by scoring
    unmasked : how many anomalous test images have no mask; None if the category has no masks
    """

    by_fold: ByFold
    unmasked: int | None


@interruptible(INTERRUPTED)
def evaluate_places(
    selection: Selection,
    scorings: Sequence[Scoring],
    out: Path,
    keep_maps: bool = False,
    distribution: Distribution = HERE,
) -> EvaluationReport:
    """Evaluate every category, with all scores of places, and write its rows as soon as they are complete.

    Parameters
    ----------
    selection : of features with a grid; the chosen levels are joined
    scorings : of places; those that differ in the score alone are the same
    keep_maps : whether to write the test images' heat maps, mean over the folds
    distribution : where the categories are scored

    Raises
    ------
    UserError
        If no category can be evaluated, or the results cannot be written. If only some categories cannot be evaluated,
        or have no AUROC, they are reported and the others are evaluated.
    """
    opened = open_categories(selection, distribution)
    distinct = tuple(dict.fromkeys(replace(scoring, score=PLACES_GREATEST) for scoring in scorings))
    threads = _threads(distribution, len(opened.levels))
    tasks = [_Task(category, levels, distinct, threads, distribution.is_here) for category, levels in opened.levels]
    scored = run_tasks(_score_task, [(task,) for task in tasks], distribution)
    problems, done, unmasked = opened.problems, [], {}
    bar = tqdm(tasks, desc="evaluate", unit="category", disable=distribution.is_here or None, dynamic_ncols=True)
    for task, outcome in zip(bar, scored, strict=True):
        if isinstance(outcome, UserError):
            problems.append(str(outcome))
            continue
        rows = assemble_places(task.category, task.levels, outcome.by_fold)
        _save(out, task.category, rows, outcome.by_fold, keep_maps)
        done.append(rows.metrics)
        problems += [rows.warning] if rows.warning else []
        unmasked[task.category.name] = outcome.unmasked
    if not done:
        raise UserError(join_problems(problems) or "there is no category to evaluate.")
    path = results.metrics_path(out, opened.extraction.dataset)
    metrics = pd.concat(done, ignore_index=True)
    return EvaluationReport(metrics, None, path, join_problems(problems), _remarks(unmasked))


def _threads(distribution: Distribution, n_categories: int) -> int:
    """Share this machine's cores among its processes; the workers of a cluster have threads of their own."""
    if distribution.scheduler is not None:
        return 1
    return max(1, usable_cores() // min(distribution.jobs, max(1, n_categories)))


@dataclass(frozen=True)
class _Task:
    """One category; `shows` is whether a progress bar counts its folds."""

    category: OpenCategory
    levels: tuple[int, ...]
    scorings: tuple[Scoring, ...]
    threads: int
    shows: bool


def _score_task(task: _Task) -> ScoredPlaces | UserError:
    """Score one category; a UserError is returned instead of raised, so that other categories go on."""
    try:
        return _score_category(task)
    except UserError as problem:
        return problem


def _score_category(task: _Task) -> ScoredPlaces:
    category = task.category
    train, test = _read_train(category, task.levels), _read_test(category, task.levels)
    n, epochs = len(category.train.images), max(1, category.extraction.recipe.epochs)
    if n < N_FOLDS:
        raise UserError(
            f"{category.folder / 'train'} has {n} training images, but {N_FOLDS} folds need at least {N_FOLDS}."
        )
    masks = _read_masks(category)
    found: ByFold = {scoring: [] for scoring in task.scorings}
    title = f"{escaped(category.name)}, places"
    bar = tqdm(training_folds(n), desc=title, unit="fold", disable=None if task.shows else True, dynamic_ncols=True)
    with threadpool_limits(1, user_api="blas"):  # the core has threads of its own, and sums are the same for any number
        for images in bar:
            rows = (images[:, None] * epochs + np.arange(epochs)).reshape(-1)
            moments = _gather(category, train.chunks(rows), task.threads)
            for scoring in task.scorings:
                gaussians, setting = _fit(category, moments, scoring, task.threads), _setting(scoring)
                images_of_test = test.chunks(np.arange(len(category.test.images)))
                maps = heat_maps(gaussians, images_of_test, setting.smooth, task.threads)
                scale = fit_held_out(gaussians, train.chunks(rows), setting, task.threads)
                scores = {name: of_maps(maps, scale) for name, of_maps in OF_MAPS.items()}
                pixels = measure_pixels(maps, masks, category.anomalous) if masks else {}
                found[scoring].append(FoldMaps(maps, scores, gaussians.basis.shape[1], gaussians.intensity, pixels))
    return ScoredPlaces(found, None if masks is None else sum(mask is None for mask in masks))


def _read_train(category: OpenCategory, levels: Sequence[int]) -> PlaceFeatures:
    folder = category.folder / "train"
    by_level = {level: store.read_features(folder, category.train, level) for level in levels}
    rows = {level: values.reshape(-1, values.shape[-1]) for level, values in by_level.items()}
    return PlaceFeatures(rows, category.extraction.recipe.grid)


def _read_test(category: OpenCategory, levels: Sequence[int]) -> PlaceFeatures:
    by_level = {level: read_test(category, level, category.train.levels[level].shape[-1]) for level in levels}
    return PlaceFeatures(by_level, category.extraction.recipe.grid)


def _read_masks(category: OpenCategory) -> list[store.Mask | None] | None:
    return store.read_masks(category.extraction.split(category.name, "test"), category.test)


def _gather(category: OpenCategory, train: Iterator[Maps], threads: int) -> PlaceMoments:
    try:
        return gather_places(train, threads)
    except ValueError:  # only augmented features were not checked when they were read
        folder = category.folder / "train"
        for level in category.levels:
            features = store.read_features(folder, category.train, level)
            store.check_finite(features, category.train, f"{folder}, level {level}")
        raise


def _setting(scoring: Scoring) -> PlaceSetting:
    return read_place_setting(scoring.setting)


def _fit(category: OpenCategory, moments: PlaceMoments, scoring: Scoring, threads: int) -> PlaceGaussians:
    setting, dim = _setting(scoring), moments.mean.shape[1]
    if setting.channels is not None and setting.channels > dim:
        raise UserError(f"--channels {setting.channels}: these levels of '{category.name}' have only {dim} channels.")
    options: PlaceOptions = setting.options(scoring.compression)
    singular = UserError(
        f"'{category.name}': covariances of places are singular, since the {moments.n} images of a fold are fewer than "
        "the directions, or all alike at some place. Use a greater --rho."
    )
    try:
        gaussians = fit_places(moments, options, threads)
    except np.linalg.LinAlgError:
        raise singular from None
    except ValueError as problem:
        raise UserError(f"'{category.name}': {problem}.") from None
    is_unshrunk = setting.target != "padim" and gaussians.intensity == 0.0
    if (is_unshrunk and moments.n <= gaussians.basis.shape[1]) or not np.isfinite(gaussians.factors).all():
        raise singular  # rounding may have made a factor of it
    return gaussians


def heat_maps(gaussians: PlaceGaussians, images: Iterator[Maps], sigma: float, threads: int) -> Array:
    """Return the smoothed distances of all images, (m, grid, grid), which come in chunks."""
    return np.concatenate([smooth(gaussians.distances(chunk, threads), sigma) for chunk in images])


def fit_held_out(gaussians: PlaceGaussians, images: Iterator[Maps], setting: PlaceSetting, threads: int) -> MapScale:
    """Fit the scale of heat maps to the images of the fit, each as if it had been left out of it."""

    def left_out(chunk: Maps) -> Array:
        if setting.target == "image":
            return gaussians.left_out(chunk, threads)
        return gaussians.held_out(gaussians.squared(chunk, threads))  # no other image is in a target of another kind

    maps = [smooth(left_out(chunk), setting.smooth) for chunk in images]
    return fit_scale(*(np.concatenate([of_maps(each) for each in maps]) for of_maps in (greatest, whole)))


def measure_pixels(maps: Array, masks: Sequence[store.Mask | None], anomalous: NDArray[np.bool_]) -> dict[str, float]:
    """Return the metrics of pixels, at each mask's own resolution; images without a mask are left out.

    Parameters
    ----------
    maps : (m, grid, grid)
    masks : m of (H, W), or None
    anomalous : (m,)

    Returns
    -------
    pixel_auroc, aupro and pointing (share of anomalous images whose greatest pixel lies in the mask); NaN if undefined
    """
    pairs = [(distance, mask) for distance, mask in zip(maps, masks, strict=True) if mask is not None]
    pixels = collect((bring_to(distance, _shape(mask)) for distance, mask in pairs), (mask for _, mask in pairs))
    is_masked = np.array([mask is not None for mask in masks])
    hits = [
        points_into(bring_to(distance, _shape(mask)), mask)
        for (distance, mask), is_anomalous in zip(pairs, anomalous[is_masked], strict=True)
        if is_anomalous
    ]
    pointing = float(np.mean(hits)) if hits else float("nan")
    return dict(zip(PIXEL_METRICS, (pixel_auroc(pixels), aupro(pixels), pointing), strict=True))


def _shape(mask: store.Mask) -> tuple[int, int]:
    height, width = mask.shape
    return height, width


def _remarks(unmasked: Mapping[str, int | None]) -> tuple[str, ...]:
    """Say what pixel metrics leave out, by the categories' counts of anomalous images without a mask."""
    without = [name for name, count in unmasked.items() if count is None]
    said = [f"No masks of {', '.join(without)}: pixel AUROC, AUPRO and pointing stay empty."] if without else []
    missing = [f"{count} of {name}" for name, count in unmasked.items() if count]
    if missing:
        said.append(f"Left out of pixel metrics, anomalous images without a mask: {', '.join(missing)}.")
    return tuple(said)


def assemble_places(category: OpenCategory, levels: Sequence[int], scored: ByFold) -> CategoryRows:
    """Turn the heat maps of a category's folds into rows: all scores per scoring."""
    epochs = max(1, category.extraction.recipe.epochs)
    n_train = [len(fold) * epochs for fold in training_folds(len(category.train.images))]
    metrics, scores = [], []
    for scoring, of_folds in scored.items():
        for name in OF_MAPS:
            key = {**identify(category), "level": joint_name(levels), "score": name}
            key |= {"mode": scoring.mode, "var": scoring.var}
            distances = [fold.scores[name] for fold in of_folds]
            for fold, (of_fold, distance, n) in enumerate(zip(of_folds, distances, n_train, strict=True)):
                row = {"fold": fold, "n_train": n, "dim": of_fold.dim, "shrinkage": of_fold.intensity}
                metrics.append({**key, **row, **image_metrics(distance, category.anomalous), **of_fold.pixels})
            scores.append(score_rows(key, category.test.images, category.anomalous, distances))
    warning = undefined_auroc(category.name, category.anomalous)
    return CategoryRows(pd.DataFrame(metrics), pd.concat(scores, ignore_index=True), warning=warning)


def _save(out: Path, category: OpenCategory, rows: CategoryRows, by_fold: ByFold, keep_maps: bool) -> None:
    """Write the rows, and the heat maps or, lest those of earlier rows be taken for theirs, remove them."""
    manifest = manifests.of_extraction(category, rows.metrics, _defaults())
    results.save(out, category.extraction.dataset, category.name, rows, manifest)
    for scoring, of_folds in by_fold.items():
        row: dict[str, Any] = {**rows.metrics.iloc[0], "mode": scoring.mode, "var": scoring.var}
        names = [image.name for image in category.test.images]
        if keep_maps:
            results.save_maps(out, row, names, np.mean([fold.maps for fold in of_folds], axis=0))
        else:
            results.remove_maps(out, row)


def _defaults() -> dict[str, Any]:
    """Return the settings that a row's mode leaves out; a later gaussad may have others."""
    setting = PlaceSetting()
    options = setting.options(NO_COMPRESSION)
    default = {"target": setting.target, "rho": setting.rho, "smooth": setting.smooth, "seed": options.seed}
    return {**default, "top": TOP, "far": FAR, "weight of the whole": WHOLE_WEIGHT}
