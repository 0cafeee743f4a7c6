"""The score of Lee et al. 2018 with its step on the input, which needs the images: what `gaussad train ood` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from gaussad_cli.backbones.folding import fold_batch_norm
from gaussad_cli.backbones.network import LevelNetwork, build_network
from gaussad_cli.backbones.registry import Backbone, choose_padding, find_backbone
from gaussad_cli.backbones.weights import find_checkpoint
from gaussad_cli.comparators.input_step import STEPS, choose_step, distances_by_step
from gaussad_cli.comparators.ood import VALIDATION_SHARE, weigh_levels
from gaussad_cli.datasets.folds import training_folds
from gaussad_cli.datasets.index import NORMAL, find_categories
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests, results
from gaussad_cli.evaluation.dataset import Selection
from gaussad_cli.evaluation.evaluate import identify, score_rows, sum_name
from gaussad_cli.evaluation.fitting import fit_level
from gaussad_cli.evaluation.metrics import auroc
from gaussad_cli.evaluation.selection import select_levels
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import choose_engine
from gaussad_cli.extraction.store import Extraction, ImageEntry, read_manifest


@dataclass(frozen=True)
class StepRequest:
    """The options of `gaussad train ood`; see its help. `step` None: chosen among `STEPS` on the validation share."""

    data: Path
    selection: Selection
    out: Path
    weights: Path | None = None
    verify: bool = True
    step: float | None = None
    device: str = "auto"
    batch_size: int = 8


def evaluate_stepped(request: StepRequest) -> pd.DataFrame:
    """Score the test images of every category by every fold after a step; write and return the rows.

    Raises
    ------
    UserError
        If the features are not extracted, or images or weights are not those that they were extracted from.
    """
    extraction, names = request.selection.resolve()
    device = choose_engine("torch", request.device, "fp32").device
    metrics = []
    for name in names:
        levels = select_levels(extraction, name, request.selection.levels)
        if len(levels) == 1:
            raise UserError(f"the score weighs levels, and of '{name}' there is only level {levels[0]}: use several.")
        network, backbone = _network(request, extraction, levels)
        images = read_manifest(extraction.split(name, "test")).images
        squares = _squares(request.data, name, images, backbone.input_size)
        rows, scores = _category(request, extraction, name, levels, (network, backbone, squares, device))
        settings = {"steps": list(_steps(request)), "validation_share": VALIDATION_SHARE, "device": device}
        manifest = manifests.of_extraction(extraction, name, rows, settings)
        results.save(request.out, extraction.dataset, name, rows, scores, manifest=manifest)
        metrics.append(rows)
    return pd.concat(metrics, ignore_index=True)


def _category(
    request: StepRequest,
    extraction: Extraction,
    category: str,
    levels: Sequence[int],
    how: tuple[LevelNetwork, Backbone, NDArray[np.uint8], str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows for `metrics.csv` and `scores/<category>.csv`."""
    network, backbone, squares, device = how
    images = read_manifest(extraction.split(category, "test")).images
    anomalous = np.array([image.label != NORMAL for image in images])
    by_level = {level: fit_level(extraction.folder / category, level)[0] for level in levels}
    key = {**identify(extraction, category), "level": sum_name(levels, extraction.recipe.n_levels)}
    key |= {"score": "ood", "mode": "step" if request.step is None else f"step{request.step:g}", "var": None}
    steps = _steps(request)
    n_images = len(read_manifest(extraction.folder / category / "train").images)
    rows: list[dict[str, Any]] = []
    scores = []
    for fold, fitted in enumerate(tqdm(training_folds(n_images), desc=f"{category}, fold", disable=None)):
        spectra = {level: of_folds[fold] for level, of_folds in by_level.items()}
        by_step = distances_by_step(network, backbone, spectra, squares, steps, request.batch_size, device)
        squared = {step: np.square(distances) for step, distances in by_step.items()}
        step = choose_step(steps, squared, anomalous) if request.step is None else request.step
        score = weigh_levels(squared[step], anomalous).scores
        tested = ~np.isnan(score)
        n_train = len(fitted) * max(1, extraction.recipe.epochs)
        dim = sum(spectrum.dim for spectrum in spectra.values())
        rows.append({**key, "fold": fold, "n_train": n_train, "dim": dim, "step": step})
        rows[-1]["auroc"] = auroc(score[tested], anomalous[tested])
        scores.append(score)
    return pd.DataFrame(rows), score_rows(key, images, anomalous, scores)


def _steps(request: StepRequest) -> tuple[float, ...]:
    return STEPS if request.step is None else (request.step,)


def _network(request: StepRequest, extraction: Extraction, levels: Sequence[int]) -> tuple[LevelNetwork, Backbone]:
    """Build the network that the features were extracted with."""
    recipe = extraction.recipe
    backbone = find_backbone(recipe.backbone)
    checkpoint = find_checkpoint(backbone, request.weights, request.verify)
    if checkpoint.sha256 != recipe.weights_sha256:
        raise UserError(
            f"the features in {extraction.folder} are by the weights {recipe.weights}, not by {checkpoint.label}: "
            "give the same --weights as to extract."
        )
    network = build_network(backbone, choose_padding(backbone, recipe.padding), levels, checkpoint)
    if backbone.family != "timm":
        fold_batch_norm(network)
    return network, backbone


def _squares(data: Path, category: str, images: Sequence[ImageEntry], size: int) -> NDArray[np.uint8]:
    """Read the test images, (m, size, size, 3), which must be those that were extracted."""
    (found,) = find_categories(data, [category])
    paths = {image.name: image.path for image in found.test}
    squares = []
    for image in images:
        read = read_squares(paths[image.name], [size]) if image.name in paths else None
        if read is None or read.sha256 != image.sha256:
            raise UserError(
                f"test image {image.name} of '{category}' in {data} is not the one that was extracted: run gaussad "
                "extract again, or give the same --data."
            )
        squares.append(read.by_size[size])
    return np.stack(squares)
