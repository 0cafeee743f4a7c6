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
from gaussad_cli.datasets.index import Category, checked_name, dataset_name, find_categories
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction.engine import TorchEngine
from gaussad_cli.extraction.pipeline import Extractor
from gaussad_cli.extraction.store import Recipe, backbone_folder


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
    verify: bool = True
    padding: str | None = None
    device: str = "auto"
    batch_size: int = 16
    workers: int = 2


@dataclass(frozen=True)
class Report:
    """What an extraction did."""

    folder: Path
    categories: tuple[str, ...]  # those that are complete now
    extracted: int
    already_there: int
    seconds: float
    problem: str | None  # what kept the others from being complete


def extract_dataset(request: Request) -> Report:
    """Extract what is not in the cache yet. Everything that can be checked is checked before the first image.

    Raises
    ------
    UserError
        If an option, the data, or the weights cannot be used, or the cache cannot be written. An image that cannot be
        read is reported instead: the other categories are extracted.
    """
    backbone = find_backbone(request.backbone)
    padding = choose_padding(backbone, request.padding)
    levels = parse_levels(request.levels, backbone.n_levels)
    categories = find_categories(request.data, request.categories)
    checkpoint = find_checkpoint(backbone, request.weights, request.verify)
    engine = TorchEngine(build_network(backbone, padding, levels, checkpoint), backbone, request.device)
    recipe = Recipe(
        backbone=backbone.name,
        n_levels=backbone.n_levels,
        weights=checkpoint.label,
        weights_sha256=checkpoint.sha256,
        padding=padding,
        input_size=backbone.input_size,
    )
    dataset = dataset_name(request.data) if request.dataset is None else checked_name(request.dataset)
    extractor = Extractor(engine, recipe, request.cache, dataset, request.batch_size, request.workers)
    start = time.perf_counter()
    extracted, problems = _extract_categories(extractor, categories)
    done = [category for category in categories if category.name not in problems]
    there = sum(len(category.train) + len(category.test) for category in done) - sum(extracted.values())
    problem = f"{'; '.join(problems.values())} {len(done)} of {len(categories)} categories are done and kept."
    return Report(
        folder=request.cache / dataset / backbone_folder(recipe.backbone) / recipe.key,
        categories=tuple(category.name for category in done),
        extracted=sum(extracted.values()),
        already_there=there,
        seconds=time.perf_counter() - start,
        problem=problem if problems else None,
    )


def _extract_categories(extractor: Extractor, categories: Sequence[Category]) -> tuple[dict[str, int], dict[str, str]]:
    """Extract one category after the other; return images extracted, and problems with images, by category."""
    extracted, problems = {}, {}
    for category in categories:
        images = len(category.train) + len(category.test)
        with tqdm(total=images, desc=category.name, unit="img", disable=None, dynamic_ncols=True) as bar:
            try:
                extracted[category.name] = extractor(category, bar.update)
            except ImageError as problem:
                problems[category.name] = str(problem)
    return extracted, problems
