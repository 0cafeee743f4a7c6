"""From options to a network: backbone, padding, levels and weights are chosen here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gaussad_cli.backbones.registry import (
    Backbone,
    Padding,
    choose_padding,
    default_place_levels,
    find_backbone,
    parse_levels,
)
from gaussad_cli.backbones.weights import Checkpoint, find_checkpoint
from gaussad_cli.errors import UserError


@dataclass(frozen=True)
class NetworkOptions:
    """The options that choose a network, as a user gives them.

    Attributes
    ----------
    backbone : name, such as "efficientnet-b4"
    levels : such as "1-7"; None for all levels of the backbone, or, with a grid, for its middle ones
    weights : weight file; None for the backbone's published weights
    padding : padding rule; None for the backbone's default
    verify : whether a file with a published file's name must have its SHA-256
    depth : bits that the pixels of 16-bit files have; None for all 16
    grid : features of grid x grid places; 0 for features averaged over the whole image
    """

    backbone: str
    levels: str | None = None
    weights: Path | None = None
    padding: str | None = None
    verify: bool = True
    depth: int | None = None
    grid: int = 0


@dataclass(frozen=True)
class LevelChoice:
    """A backbone, its padding rule, the chosen levels, ascending, and the places per side; 0 for averaged features."""

    backbone: Backbone
    padding: Padding
    levels: tuple[int, ...]
    grid: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class ResolvedNetwork(LevelChoice):
    """Everything that a network is built from: a :class:`LevelChoice` and the weights."""

    checkpoint: Checkpoint


def check(options: NetworkOptions) -> LevelChoice:
    """Look up the names without reading any weights, so that mistakes show before hours of other work.

    Raises
    ------
    UserError
        If there is no such backbone, padding, level or weight file, or the grid is finer than the image.
    """
    backbone = find_backbone(options.backbone)
    levels = parse_levels(options.levels, backbone.n_levels)
    if options.grid and options.levels is None:
        levels = default_place_levels(backbone)
    choice = LevelChoice(backbone, choose_padding(backbone, options.padding), levels, grid=options.grid)
    if not 0 <= options.grid <= backbone.input_size:
        raise UserError(
            f"--grid {options.grid}: {backbone.name} sees {backbone.input_size} pixels per side; choose a grid of at "
            "most as many places, such as 28."
        )
    if options.weights is not None and not options.weights.is_file():
        raise UserError(f"no such weight file: {options.weights}.")
    return choice


def resolve(options: NetworkOptions) -> ResolvedNetwork:
    """Return the network that the options describe, with its weights found.

    Raises
    ------
    UserError
        See :func:`check` and :func:`gaussad_cli.backbones.weights.find_checkpoint`.
    """
    choice = check(options)
    checkpoint = find_checkpoint(choice.backbone, options.weights, options.verify)
    return ResolvedNetwork(choice.backbone, choice.padding, choice.levels, checkpoint, grid=choice.grid)
