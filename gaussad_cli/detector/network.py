"""The network that a model looks through, with the very weights it was fitted with."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from gaussad_cli.backbones.registry import Backbone, Padding, find_backbone
from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.backbones.weights import find_checkpoint
from gaussad_cli.detector.model import BackboneIdentity, Model
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import Recipe


def find_network(model: Model, weights: Path | None) -> ResolvedNetwork:
    """Find a model's backbone and weights on this machine, and make sure that they are those it was fitted with.

    Parameters
    ----------
    weights : the weight file; None: the backbone's published one

    Raises
    ------
    UserError
        If the weights cannot be read or are others, or this gaussad would feed the network otherwise.
    """
    identity = model.backbone
    backbone = find_backbone(identity.name)
    _check_input(identity, backbone)
    _check_levels(model, backbone)
    checkpoint = find_checkpoint(backbone, weights, verify=False)  # the model's own hash says more than the file's name
    if checkpoint.sha256 != identity.weights_sha256:
        raise UserError(
            f"{checkpoint.path} is not what the model was fitted with: its SHA-256 begins with "
            f"{checkpoint.sha256[:8]}, not {identity.weights_sha256[:8]} ({identity.weights}). Give that "
            "file with --weights."
        )
    return ResolvedNetwork(backbone, cast(Padding, identity.padding), model.level_numbers, checkpoint)


def _check_input(identity: BackboneIdentity, backbone: Backbone) -> None:
    theirs = (identity.input_size, tuple(identity.mean), tuple(identity.std), identity.preprocessing)
    ours = (backbone.input_size, backbone.mean, backbone.std, Recipe.preprocessing)
    if theirs != ours or identity.padding not in backbone.paddings:
        raise UserError(
            f"the model's {identity.name} takes other input (size, mean, std, padding or preprocessing) than this "
            f"gaussad's. {_REMEDY}"
        )


def _check_levels(model: Model, backbone: Backbone) -> None:
    for level in model.levels:
        dims = backbone.dims[level.level - 1 : level.level] if level.level >= 1 else ()
        if dims != (level.spectrum.dim,):
            raise UserError(
                f"the model's level {level.level} of {level.spectrum.dim} features is none of this gaussad's "
                f"{backbone.name}. {_REMEDY}"
            )


_REMEDY = "Use the gaussad it was made with, or train it again."
