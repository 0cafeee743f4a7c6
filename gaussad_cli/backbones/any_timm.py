"""Backbones beyond the table: any timm model; its stages are the levels, its size and normalisation are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch

from gaussad_cli.backbones.registry import TIMM, Backbone
from gaussad_cli.errors import UserError, did_you_mean


def describe_model(name: str) -> Backbone:
    """Return the backbone named ``timm:<model>``, e.g. ``timm:convnext_tiny`` or ``timm:resnet50.a1_in1k``.

    A level is what timm calls a feature stage: the stages of a convolutional network, the blocks of a transformer.

    Raises
    ------
    UserError
        If timm has no such model or weights, or the model offers no intermediate features of square colour images.
    """
    architecture, _, tag = name.removeprefix(TIMM).partition(".")
    config = _configuration(architecture, tag)
    with torch.device("meta"):  # shapes only
        model: Any = timm.create_model(architecture, pretrained=False)
    channels, height, width = config["input_size"]
    if not hasattr(model, "forward_intermediates") or channels != 3 or height != width:
        raise UserError(f"{name} offers no intermediate features of square colour images: choose another model.")
    on_hub = bool(config.get("tag")) and config.get("hf_hub_id") == f"timm/{architecture}.{config['tag']}"
    return Backbone(
        name=name,
        family="timm",
        timm_name=architecture,
        timm_tag=config["tag"] if on_hub else None,
        input_size=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        paddings=("native",),
        dims=tuple(stage["num_chs"] for stage in model.feature_info),
        classifier=_names(config.get("classifier")),
    )


def _configuration(architecture: str, tag: str) -> dict[str, Any]:
    """Return timm's configuration of the weights `tag`, or of the model's default weights."""
    if not timm.is_model(architecture):
        raise UserError(f"timm has no model '{architecture}'.{did_you_mean(architecture, timm.list_models())}")
    try:
        found: Any = timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    except RuntimeError:
        known = ", ".join(timm.list_models(f"{architecture}.*", pretrained=True))
        raise UserError(f"timm has no weights '{architecture}.{tag}'. Known: {known or 'none'}.") from None
    config: dict[str, Any] = {} if found is None else found.to_dict()
    defaults: Any = timm.data
    return config | defaults.resolve_data_config(pretrained_cfg=config)


def _names(modules: str | Sequence[str] | None) -> tuple[str, ...]:
    return (modules,) if isinstance(modules, str) else tuple(modules or ())
