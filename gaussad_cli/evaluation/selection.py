"""Chooses the cached features that a command works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaussad_cli.backbones.registry import BACKBONES, TIMM
from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.extraction.store import FULL_DEPTH, Extraction, depth_of, find_extractions


@dataclass(frozen=True)
class Selection:
    """The options of `fit` and `evaluate` that choose cached features; see their help.

    Features of places are never chosen for features averaged over the image, nor the other way round: with a `grid` of
    0, only averaged features are; with None, those of any grid; with a number, those of that many places per side.
    """

    backbone: str
    cache: Path
    dataset: str | None = None
    categories: Sequence[str] | None = None
    levels: str | None = None
    padding: str | None = None
    key: str | None = None
    epochs: int | None = None
    grid: int | None = 0


def select_extraction(selection: Selection) -> Extraction:
    """Return the extraction that the options choose; without epochs, it is that of the original images.

    Raises
    ------
    UserError
        If there is none (the message says what to run) or several (it says how to choose).
    """
    backbone, cache, key = selection.backbone, selection.cache, selection.key
    found = find_extractions(cache, backbone, selection.dataset)
    alike = [e for e in found if _is_of_grid(e, selection.grid)]
    left = [e for e in alike if selection.padding in (None, e.recipe.padding) and e.folder.name.startswith(key or "")]
    if selection.epochs is not None or key is None:
        left = [e for e in left if e.recipe.epochs == (selection.epochs or 0)]
    if len(left) == 1:
        return left[0]
    if left:
        raise UserError(_several(left))
    how = "" if selection.grid == 0 else f" --grid {selection.grid or 28}"
    if found:
        remedy = "" if alike else f" Run first: gaussad extract{how} --data DIR --backbone {backbone} --cache {cache}"
        what = f"no {backbone} features {'with these options' if alike else _KINDS[selection.grid == 0]} in {cache}"
        raise UserError(f"{what}. Available: {_listed(found)}.{remedy}")
    known = backbone in BACKBONES or backbone.startswith(TIMM)
    hint = "" if known else f" gaussad knows no backbone '{backbone}'.{did_you_mean(backbone, BACKBONES)}"
    of = f" of dataset '{selection.dataset}'" if selection.dataset else ""
    raise UserError(
        f"no features by {backbone}{of} in {cache}.{hint} "
        f"Run first: gaussad extract{how} --data DIR --backbone {backbone} --cache {cache}"
    )


_KINDS = {True: "averaged over the image", False: "of places"}  # by whether the former are wanted


def _is_of_grid(extraction: Extraction, grid: int | None) -> bool:
    return extraction.recipe.grid > 0 if grid is None else extraction.recipe.grid == grid


def select_categories(extraction: Extraction, chosen: Sequence[str] | None) -> list[str]:
    """Return the chosen categories of an extraction, or all that are complete.

    Raises
    ------
    UserError
        If a chosen category is missing.
    """
    complete = extraction.categories()
    for name in chosen or ():
        if name not in complete:
            raise UserError(
                f"category '{name}' is not extracted in {extraction.folder}.{did_you_mean(name, complete)} "
                f"There are: {', '.join(complete)}."
            )
    return [name for name in complete if chosen is None or name in chosen]


def _several(found: Sequence[Extraction]) -> str:
    choices = (
        ("--dataset", {e.dataset for e in found}),
        ("--padding", {e.recipe.padding for e in found}),
        ("--grid", {str(e.recipe.grid) for e in found}),
        ("--key", {e.folder.name for e in found}),
    )
    option, values = next((option, values) for option, values in choices if len(values) > 1)
    return f"several extractions fit: {_listed(found)}. Choose with {option} {' or '.join(sorted(values))}."


def _listed(found: Sequence[Extraction]) -> str:
    return "; ".join(
        f"{e.dataset}, weights {e.recipe.weights}, padding {e.recipe.padding}, engine {e.recipe.engine} "
        f"{e.recipe.precision}, epochs {_epochs(e)}{_depth(e)}{_grid(e)}, key {e.folder.name}"
        for e in found
    )


def _depth(extraction: Extraction) -> str:
    try:
        depth = depth_of(extraction.recipe.preprocessing)
    except ValueError:  # of features made elsewhere
        return ""
    return "" if depth == FULL_DEPTH else f", depth {depth}"


def _grid(extraction: Extraction) -> str:
    return f", grid {extraction.recipe.grid}" if extraction.recipe.grid else ""


def _epochs(extraction: Extraction) -> str:
    recipe = extraction.recipe
    return f"{recipe.epochs} (seed {recipe.seed}, augmentation {recipe.augmentation})" if recipe.epochs else "0"
