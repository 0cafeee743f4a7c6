"""From options to a network: backbone, padding, levels and weights are chosen here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gaussad_cli.backbones.registry import Backbone, Padding, choose_padding, find_backbone, parse_levels
from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from gaussad_cli.backbones.weights import Checkpoint


@dataclass(frozen=True)
class NetworkOptions:
    """The options that choose a network, as a user gives them.

    Attributes
    ----------
    backbone : name, such as "efficientnet-b4"
    levels : such as "1-7"; None for all levels of the backbone
    weights : weight file; None for the backbone's published weights
    padding : padding rule; None for the backbone's default
    verify : whether a file with a published file's name must have its SHA-256
    depth : bits that the pixels of 16-bit files have; None for all 16
    """

    backbone: str
    levels: str | None = None
    weights: Path | None = None
    padding: str | None = None
    verify: bool = True
    depth: int | None = None


@dataclass(frozen=True)
class LevelChoice:
    """A backbone, its padding rule, and the chosen levels, ascending."""

    backbone: Backbone
    padding: Padding
    levels: tuple[int, ...]


@dataclass(frozen=True)
class ResolvedNetwork(LevelChoice):
    """Everything that a network is built from: a :class:`LevelChoice` and the weights."""

    checkpoint: Checkpoint


def check(options: NetworkOptions) -> LevelChoice:
    """Look up the names without reading any weights, so that mistakes show before hours of other work.

    Raises
    ------
    UserError
        If there is no such backbone, padding, level or weight file.
    """
    backbone = find_backbone(options.backbone)
    choice = LevelChoice(
        backbone, choose_padding(backbone, options.padding), parse_levels(options.levels, backbone.n_levels)
    )
    if options.weights is not None and not options.weights.is_file():
        raise UserError(f"no such weight file: {options.weights}.")
    return choice


def resolve(options: NetworkOptions) -> ResolvedNetwork:
    """Return the network that the options describe, with its weights read.

    Raises
    ------
    UserError
        See :func:`check` and :func:`gaussad_cli.backbones.weights.find_checkpoint`.
    """
    from gaussad_cli.backbones.weights import find_checkpoint  # imports torch, which `check` does not need

    choice = check(options)
    checkpoint = find_checkpoint(choice.backbone, options.weights, options.verify)
    return ResolvedNetwork(choice.backbone, choice.padding, choice.levels, checkpoint)
