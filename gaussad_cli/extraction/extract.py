"""A data set's images to cached features: what `gaussad extract` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gaussad_cli.backbones.network import build_network
from gaussad_cli.backbones.registry import choose_padding, find_backbone, parse_levels
from gaussad_cli.backbones.weights import find_checkpoint
from gaussad_cli.datasets.index import Category, dataset_name, find_categories
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.extraction.engine import TorchEngine
from gaussad_cli.extraction.pipeline import Extractor
from gaussad_cli.extraction.store import Recipe


@dataclass(frozen=True)
class Request:
    """The options of `gaussad extract`; see its help."""

    data: Path
    backbone: str
    cache: Path
    dataset: str | None = None
    categories: Sequence[str] | None = None
    levels: str | None = None
    weights: Path | None = None
    padding: str | None = None
    device: str = "auto"
    batch_size: int = 16
    workers: int = 2


@dataclass(frozen=True)
class Report:
    """What an extraction did."""

    folder: Path
    categories: int
    extracted: int
    already_there: int
    seconds: float


def extract_dataset(request: Request) -> Report:
    """Extract what is not in the cache yet. Everything that can be checked is checked before the first image.

    Raises
    ------
    UserError
        If an option, the data, or the weights cannot be used; or, after all other categories are done, if some images
        could not be read.
    """
    backbone = find_backbone(request.backbone)
    padding = choose_padding(backbone, request.padding)
    levels = parse_levels(request.levels, backbone.n_levels)
    categories = find_categories(request.data, request.categories)
    checkpoint = find_checkpoint(backbone, request.weights)
    engine = TorchEngine(build_network(backbone, padding, levels, checkpoint), backbone, request.device)
    recipe = Recipe(
        backbone=backbone.name,
        n_levels=backbone.n_levels,
        weights=checkpoint.label,
        weights_sha256=checkpoint.sha256,
        padding=padding,
        input_size=backbone.input_size,
    )
    dataset = request.dataset or dataset_name(request.data)
    extractor = Extractor(engine, recipe, request.cache, dataset, request.batch_size, request.workers)
    start = time.perf_counter()
    extracted = _extract_categories(extractor, categories)
    total = sum(len(category.train) + len(category.test) for category in categories)
    folder = request.cache / dataset / recipe.backbone / recipe.key
    return Report(folder, len(categories), extracted, total - extracted, time.perf_counter() - start)


def _extract_categories(extractor: Extractor, categories: Sequence[Category]) -> int:
    """Extract one category after the other; one with an image that cannot be read does not keep the others back."""
    extracted, problems = 0, []
    for category in categories:
        images = len(category.train) + len(category.test)
        with tqdm(total=images, desc=category.name, unit="img", disable=None, dynamic_ncols=True) as bar:
            try:
                extracted += extractor(category, bar.update)
            except ImageError as problem:
                problems.append(str(problem))
    if problems:
        finished = len(categories) - len(problems)
        raise UserError(f"{'; '.join(problems)} {finished} of {len(categories)} categories are done and kept.")
    return extracted
