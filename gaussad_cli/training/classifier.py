"""Fully supervised fine-tuning: the upper bound of Tables V and VIII (PROTOCOL: comparators).

The training and test images of a category are pooled, and an ImageNet network with one logit learns to tell anomalous
images from normal ones.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gaussad_cli.backbones.network import normalise
from gaussad_cli.backbones.padding import use_paper_padding
from gaussad_cli.backbones.registry import Backbone, Padding
from gaussad_cli.backbones.weights import Checkpoint, load_levels, missing_tensors, shorten, to_timm_names
from gaussad_cli.datasets.folds import FOLD_SEED, N_FOLDS
from gaussad_cli.datasets.index import NORMAL, Category
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.augment import Augmentation
from gaussad_cli.training.task import CategoryTraining, FoldSplit, TrainableNetwork, TrainingOptions, read_images

SCORE = "logit"
BATCH_SIZES = {"efficientnet": 16}  # by family (PROTOCOL)
BATCH_SIZE = 64  # of all other families

# PROTOCOL does not mention regularisation. Each network gets the rates that it was published with, which are also the
# defaults of efficientnet_pytorch, the package that the authors used. ResNets have none.
DROPOUT = {
    "efficientnet-b0": 0.2,
    "efficientnet-b1": 0.2,
    "efficientnet-b2": 0.3,
    "efficientnet-b3": 0.3,
    "efficientnet-b4": 0.4,
    "efficientnet-b5": 0.4,
    "efficientnet-b6": 0.5,
    "efficientnet-b7": 0.5,
    "efficientnet-lite0": 0.2,
    "efficientnet-lite1": 0.2,
    "efficientnet-lite2": 0.3,
}
STOCHASTIC_DEPTH = 0.2  # of every EfficientNet


@dataclass(frozen=True)
class Classification:
    """Binary cross-entropy with logits. The logit is the score, and its validation AUROC picks the best epoch."""

    ranking: str | None = SCORE

    def losses(self, outputs: Tensor, inputs: Tensor, anomalous: Tensor) -> Tensor:  # noqa: ARG002
        """Return (n,) cross-entropies of logits (n, 1)."""
        return functional.binary_cross_entropy_with_logits(outputs.float().flatten(), anomalous, reduction="none")

    def scores(self, outputs: Tensor, inputs: Tensor) -> dict[str, NDArray[np.float64]]:  # noqa: ARG002
        """Return the logits."""
        return {SCORE: outputs.double().flatten().cpu().numpy()}


def classifier_training(
    category: Category, network: TrainableNetwork, augmentation: Augmentation, options: TrainingOptions, states: Path
) -> CategoryTraining:
    """Return the training of a category whose five test parts together are all its images.

    Parameters
    ----------
    network : such as :func:`pretrained_classifier`
    augmentation : of the training images; its seed is the options'
    states : folder of the states, see :class:`.task.CategoryTraining`

    Raises
    ------
    UserError
        If there are fewer normal or anomalous images than folds, or an image cannot be read.
    """
    pooled = [*category.train, *category.test]
    anomalous = np.array([image.label != NORMAL for image in pooled])
    try:
        folds = classifier_folds(anomalous)
    except UserError as error:
        raise UserError(f"category '{category.name}' {error}") from None
    return CategoryTraining(
        category=category.name,
        network=network,
        objective=Classification(),
        images=read_images(pooled, network.input_size, options.workers),
        folds=folds,
        augmenter=dataclasses.replace(augmentation, seed=options.seed).augmenter(category.name),
        options=options,
        states=states,
    )


def classifier_folds(anomalous: NDArray[np.bool_]) -> list[FoldSplit]:
    """Split pooled images (train, then test, in their order) as PROTOCOL does.

    Of the five parts of scikit-learn's ``StratifiedKFold(5, shuffle=True, random_state=0)``, fold i tests on part i,
    validates on the part before it (fold 0 on the last one) and trains on the other three.

    Parameters
    ----------
    anomalous : (N,)

    Raises
    ------
    UserError
        If a class has fewer images than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    fewest = min(int(anomalous.sum()), int((~anomalous).sum()))
    if fewest < N_FOLDS:
        what = "anomalous" if anomalous.sum() == fewest else "normal"
        raise UserError(f"has {fewest} {what} images: each of {N_FOLDS} stratified folds needs one.")
    splitter = StratifiedKFold(N_FOLDS, shuffle=True, random_state=FOLD_SEED)
    parts = [part for _, part in splitter.split(np.empty(len(anomalous)), anomalous)]
    folds = []
    for i in range(N_FOLDS):
        rest = [parts[j] for j in range(N_FOLDS) if j not in (i, (i - 1) % N_FOLDS)]
        folds.append(FoldSplit(i, np.sort(np.concatenate(rest)), valid=parts[i - 1], test=parts[i]))
    return folds


# --- networks ---


def pretrained_classifier(
    backbone: Backbone, padding: Padding, checkpoint: Checkpoint, fresh: bool = False
) -> TrainableNetwork:
    """Return the backbone with the checkpoint's weights and one logit that starts at random.

    Parameters
    ----------
    padding : PROTOCOL: "paper", where the backbone has it
    fresh : whether tensors of the trunk that the file lacks may start at random; ``TrainableNetwork.fresh`` lists them

    Raises
    ------
    UserError
        If the checkpoint does not fit the backbone, or lacks tensors and `fresh` is false.
    """
    model = create_classifier(backbone)
    missing = _load_trunk(model, backbone, checkpoint)  # what does not fit must show before any image is read
    if missing and not fresh:
        raise UserError(
            f"{checkpoint.path} lacks {len(missing)} tensors of {backbone.name}: {shorten(missing)}. Give complete "
            "weights, or let these start at random with --fresh."
        )
    identity = {
        "backbone": backbone.name,
        "model": backbone.timm_name,
        "weights_sha256": checkpoint.sha256,
        "padding": padding,
        **_regularisation(backbone),
        "unfolded": is_folded(model),
    }
    return TrainableNetwork(
        build=partial(build_classifier, backbone, padding, checkpoint),
        inputs=partial(normalise, backbone=backbone),
        identity=identity,
        input_size=backbone.input_size,
        batch_size=BATCH_SIZES.get(backbone.family, BATCH_SIZE),
        fresh=tuple(missing),
    )


def create_classifier(backbone: Backbone) -> nn.Module:
    """Return timm's architecture with one logit and random weights."""
    rates: dict[str, Any] = {name: rate for name, rate in _regularisation(backbone).items() if rate}
    model: nn.Module = timm.create_model(backbone.timm_name, pretrained=False, num_classes=1, **rates)
    return model


def _regularisation(backbone: Backbone) -> dict[str, float]:
    """Return the rates of dropout and stochastic depth by timm's names for them."""
    depth = STOCHASTIC_DEPTH if backbone.family == "efficientnet" else 0.0
    return {"drop_rate": DROPOUT.get(backbone.name, 0.0), "drop_path_rate": depth}


def build_classifier(backbone: Backbone, padding: Padding, checkpoint: Checkpoint, sample: Tensor) -> nn.Module:
    """Return the network; tensors that start at random are drawn from torch's generator.

    Parameters
    ----------
    sample : inputs (n, 3, size, size) for :func:`unfold_batch_norm`, where the file has batch norm folded
    """
    model = create_classifier(backbone)
    _load_trunk(model, backbone, checkpoint)
    if padding == "paper":
        use_paper_padding(model, backbone.input_size)
    if is_folded(model):
        unfold_batch_norm(model, sample)
    return model


def _load_trunk(model: nn.Module, backbone: Backbone, checkpoint: Checkpoint) -> list[str]:
    """Load the tensors that the checkpoint has, in place; return the names of those that it lacks, which stay.

    Raises
    ------
    UserError
        If the checkpoint does not fit, see :func:`.weights.load_levels`.
    """
    levels = range(1, backbone.n_levels + 1)
    own, tensors = model.state_dict(), to_timm_names(checkpoint.tensors, model)
    missing = missing_tensors(own, backbone, tensors, levels)
    if tensors.keys() & own.keys():  # otherwise load_levels reports weights of another network
        tensors = tensors | {name: own[name] for name in missing}
    load_levels(model, backbone, dataclasses.replace(checkpoint, given=tensors), levels)
    return missing


def is_folded(model: nn.Module) -> bool:
    """Return whether batch norm was folded into the convolutions: then every batch norm only adds an offset."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return bool(norms) and all(not bool(_mean(norm).any()) and bool((norm.weight == 1).all()) for norm in norms)


@torch.no_grad()
def unfold_batch_norm(model: nn.Module, sample: Tensor) -> None:
    """Give folded batch norms a mean, variance and scale again, in place, so that they can be trained.

    In training, a batch norm divides by the batch's own standard deviation, and the scale of a folded one does not
    multiply it back: the network would start far from its weights. Mean and variance are therefore taken from what
    enters each batch norm when the sample (n, 3, size, size) passes; scale and offset are chosen such that the network
    computes the same as before in evaluation mode.
    """

    def unfold(module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), correction=0)
        slope = module.weight / (_variance(module) + module.eps).sqrt()
        module.bias.add_(slope * (mean - _mean(module)))
        module.weight.copy_(slope * (variance + module.eps).sqrt())
        _mean(module).copy_(mean)
        _variance(module).copy_(variance)

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(unfold) for norm in norms]
    was_training = model.training
    model.eval()(sample)
    model.train(was_training)
    for hook in hooks:
        hook.remove()


def _mean(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean


def _variance(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return norm.running_var
