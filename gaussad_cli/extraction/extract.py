"""Extracts a data set's images into the cache: what `gaussad extract` does."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from gaussad_cli.backbones.resolve import NetworkOptions, check, resolve
from gaussad_cli.datasets.index import Category, check_holds, dataset_name, find_categories
from gaussad_cli.errors import ImageError, UserError, escaped, interruptible
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.extraction.engine import AUTO, Compute, EngineChoice, build_engine
from gaussad_cli.extraction.pipeline import Extractor, Meter, Target
from gaussad_cli.extraction.store import (
    MANIFEST,
    Manifest,
    Recipe,
    backbone_folder,
    preprocessing,
    read_manifest,
    split_folder,
)
from gaussad_cli.files import locked, sha256_of


@dataclass(frozen=True)
class Request:
    """The options of `gaussad extract`; see its help."""

    data: Path
    networks: Sequence[NetworkOptions]
    cache: Path
    dataset: str | None = None
    categories: Sequence[str] | None = None
    compute: Compute = AUTO
    epochs: int = 0
    seed: int = 0
    augmentation: Path | None = None


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did.

    Attributes
    ----------
    folders : folders in the cache, one per network; those of the augmented features if there are augmented epochs
    plain_folders : folders of the original images' features
    categories : the categories that are complete now
    extracted, already_there : numbers of images, counted once per network
    seconds : time without building the networks
    bound : what limited the rate, "decode" or "network"
    problem : why the other categories are incomplete
    """

    folders: tuple[Path, ...]
    plain_folders: tuple[Path, ...]
    categories: tuple[str, ...]
    extracted: int
    already_there: int
    seconds: float
    bound: str
    problem: str | None

    def __str__(self) -> str:
        rate = f" ({self.extracted / self.seconds:.1f} images/s, bound by {self.bound})" if self.extracted else ""
        return (
            f"{self.extracted} images of {len(self.categories)} categories extracted in {self.seconds:.0f} s{rate}, "
            f"{self.already_there} were already there."
        )


def extract_dataset(request: Request, augmented: Callable[[Path], object] | None = None) -> ExtractionReport:
    """Extract the features that are not in the cache yet. Options and data are checked before the first image.

    The original images come first, because every evaluation needs them, then the augmented epochs.

    Parameters
    ----------
    augmented : function to call with a category's folder in the cache when all its augmented epochs are complete

    Raises
    ------
    UserError
        If an option, the data, or the weights cannot be used, or the cache cannot be written. An image that cannot be
        read is reported instead: the other categories are extracted.
    Interrupted
        On Ctrl-C; the message says how to continue.
    """
    with interruptible(_stopped("", request.cache)):
        return _extract(request, augmented)


def _stopped(where: str, cache: Path) -> str:
    return f"interrupted{where}. What was finished is kept in {cache}: run the same command again to go on."


def _extract(request: Request, augmented: Callable[[Path], object] | None) -> ExtractionReport:
    choice = request.compute.choose()
    for options in request.networks:
        check(options)
    if request.augmentation and not request.epochs:
        raise UserError("--augmentation needs --epochs: give their number.")
    augmentation = Augmentation(read_rules(request.augmentation), request.seed)
    categories = find_categories(request.data, request.categories)
    dataset = dataset_name(request.data, request.dataset)
    _check_cache(request.cache / dataset, request.data, {category.name for category in categories})
    targets = [_target(options, choice, request.cache) for options in request.networks]
    compute = request.compute
    extractor = Extractor(targets, request.cache, dataset, compute.images_at_once, compute.threads)
    extractors = [extractor]
    if request.epochs:
        several = [_in_epochs(target, request.epochs, augmentation) for target in targets]
        extractors.append(replace(extractor, targets=several, augmentation=augmentation))
    start = time.perf_counter()
    extracted, problems = _extract_categories(extractors, categories, augmented)
    done = [category for category in categories if category.name not in problems]
    passes = sum(each.passes(category) for category in done for each in extractors)
    problem = f"{'; '.join(problems.values())} {len(done)} of {len(categories)} categories are done and kept."
    folders = [
        tuple(request.cache / dataset / backbone_folder(t.recipe.backbone) / t.recipe.key for t in each.targets)
        for each in extractors
    ]
    return ExtractionReport(
        folders=folders[-1],
        plain_folders=folders[0],
        categories=tuple(category.name for category in done),
        extracted=sum(extracted.values()),
        already_there=passes - sum(extracted.values()),
        seconds=time.perf_counter() - start,
        bound=extractor.meter.bound,
        problem=problem if problems else None,
    )


def _check_cache(folder: Path, data: Path, chosen: Set[str]) -> None:
    """Refuse images that are not of the data set in the cache: the categories in `chosen` are compared on extraction.

    Others are compared by the names of their training images and by the first image.
    """
    held: dict[str, list[Path]] = {}
    for manifest in sorted(folder.glob(f"*/*/*/train/{MANIFEST}")):
        held.setdefault(manifest.parts[-3], []).append(manifest.parent)
    check_holds(data, held, folder)
    for name in sorted(set(held) - chosen):
        try:
            (category,) = find_categories(data, [name])
            is_same = any(_is_of(read_manifest(split), category) for split in held[name])
        except (UserError, OSError):  # an unreadable category that is not wanted keeps nothing back
            continue
        if not is_same:
            raise UserError(
                f"{folder} holds category '{name}' of other images than {data}. If this is another data set, name it "
                f"with --dataset NAME; if you have changed its images, extract it too, or move {folder} away."
            )


def _is_of(manifest: Manifest, category: Category) -> bool:
    """Whether features are of a category's training images, whose hashes may be unknown."""
    is_named_so = [image.name for image in manifest.images] == [image.name for image in category.train]
    return is_named_so and manifest.images[0].sha256 in ("", sha256_of(category.train[0].path))


def _in_epochs(target: Target, epochs: int, augmentation: Augmentation) -> Target:
    recipe = replace(target.recipe, epochs=epochs, augmentation=augmentation.name, seed=augmentation.seed)
    return Target(target.engine, recipe)


def _target(options: NetworkOptions, choice: EngineChoice, cache: Path) -> Target:
    """Build the engine of a network, and the recipe of its features."""
    network = resolve(options)
    backbone = network.backbone
    engine = build_engine(choice, network, cache)
    recipe = Recipe(
        backbone=backbone.name,
        n_levels=backbone.n_levels,
        weights=network.checkpoint.label,
        weights_sha256=network.checkpoint.sha256,
        padding=network.padding,
        input_size=backbone.input_size,
        preprocessing=preprocessing(options.depth),
        engine=choice.engine,
        precision=choice.precision,
        grid=network.grid,
    )
    return Target(engine, recipe)


def _extract_categories(
    extractors: Sequence[Extractor], categories: Sequence[Category], augmented: Callable[[Path], object] | None
) -> tuple[dict[str, int], dict[str, str]]:
    """Extract one category after the other; categories that another process is working on come last.

    Returns the number of extracted images, and problems with images, by category.
    """
    extracted, problems = {}, {}
    waiting = deque((category, False) for category in categories)
    while waiting:
        category, wait = waiting.popleft()
        with locked(_folders(extractors, category), wait) as is_ours:
            if not is_ours:
                tqdm.write(
                    f"{escaped(category.name)}: in use by another gaussad process; it comes last here.",
                    file=sys.stderr,
                )
                waiting.append((category, True))
                continue
            try:
                extracted[category.name] = sum(_extract_category(extractor, category) for extractor in extractors)
            except ImageError as problem:
                problems[category.name] = str(problem)
                continue
            if augmented and extractors[-1].augmentation:
                for folder in _folders(extractors[-1:], category):
                    augmented(folder)
    return extracted, problems


def _folders(extractors: Sequence[Extractor], category: Category) -> list[Path]:
    """Return a category's folders in the cache."""
    return [
        split_folder(extractor.cache, extractor.dataset, target.recipe, category.name, "")
        for extractor in extractors
        for target in extractor.targets
    ]


def _extract_category(extractor: Extractor, category: Category) -> int:
    meter = Meter()
    epochs = extractor.targets[0].recipe.epochs
    title = escaped(category.name) + (f", {epochs} epochs" if epochs else "")
    with tqdm(total=extractor.passes(category), desc=title, unit="img", disable=None, dynamic_ncols=True) as bar:

        def advance(images: int) -> None:
            if meter.images:
                bar.set_postfix_str(f"bound by {meter.bound}", refresh=False)
            bar.update(images)

        try:
            with interruptible(_stopped(f" in category '{category.name}'", extractor.cache)):
                return replace(extractor, meter=meter)(category, advance)
        finally:
            extractor.meter.add(meter)
