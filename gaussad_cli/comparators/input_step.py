"""The step on the input before it is scored (Lee et al. 2018, eq. 3), which goes with the score of :mod:`.ood`.

An image is moved by ``-epsilon * sign(gradient of the squared Mahalanobis distance)``, towards the training data, and
scored again: every level by a step of its own. Normal images are meant to come nearer than anomalous ones.

Epsilon is in units of RGB in [0, 1], as in Lee et al.'s code, which divides the sign by each channel's standard
deviation before it moves the normalised input: 0.002 moves every value by half a gray level of 255, in the normalised
input by 0.002 / std. As there, the moved image is neither rounded nor clipped. Where the gradient is exactly zero
nothing moves (their code takes such a sign for +1).

Their steps are for images of 32 pixels. On 224 (bottle, Lite0, 41 test images) a step of 0.0001 brings 96% of the
distances down, 0.0005 overshoots for half of them, and 0.001 makes 81% larger.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.backends import cudnn

from gaussad_cli.backbones.network import LevelNetwork, normalise
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.comparators.ood import VALIDATION_SHARE, draw_validation, squared_mahalanobis_gradient, weigh_levels
from gaussad_cli.errors import UserError
from gaussad_cli.gaussian.distances import mahalanobis, project
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.shrinkage import Shrinkage, shrink
from gaussad_cli.gaussian.spectrum import Spectrum

# The candidates of Lee et al.'s OOD_Generate_Mahalanobis.py, for images of 32 pixels, and two smaller ones: at 224
# pixels with EfficientNet-Lite0, steps from 0.0005 on overshoot, and lower the AUROC of bottle.
STEPS = (0.0, 0.0001, 0.0002, 0.0005, 0.001, 0.0014, 0.002, 0.005, 0.01)
HALVINGS = 20  # of the validation share; on 8 images the choice by a single one is a toss-up

Gaussian = tuple[Spectrum, Shrinkage]


def stepped_distances(
    network: LevelNetwork,
    backbone: Backbone,
    spectra: Mapping[int, Spectrum],
    squares: NDArray[np.uint8],
    epsilon: float,
    batch_size: int = 8,
    device: str = "cpu",
) -> Array:
    """Return the distances after one step, (m, L): see :func:`distances_by_step`, which shares work between steps."""
    return distances_by_step(network, backbone, spectra, squares, [epsilon], batch_size, device)[epsilon]


def distances_by_step(
    network: LevelNetwork,
    backbone: Backbone,
    spectra: Mapping[int, Spectrum],
    squares: NDArray[np.uint8],
    epsilons: Sequence[float] = STEPS,
    batch_size: int = 8,
    device: str = "cpu",
) -> dict[float, Array]:
    """Return the Mahalanobis distance of every image and level after a step towards the level's training data.

    Per batch one forward pass for all levels, per level one backward pass, and per level and step one forward pass as
    far as that level. A step of 0 is the plain distance and costs nothing more.

    Parameters
    ----------
    network : in evaluation mode; its weights are frozen and it is moved to the device, in place
    spectra : level -> the fold's spectrum; scored with all components and shrinkage
    squares : (m, S, S, 3) uint8 RGB
    epsilons : sizes of the step, in units of RGB in [0, 1]

    Returns
    -------
    epsilon -> (m, L), columns in the order of `spectra`; NaN for a level whose training data has no variance.

    Raises
    ------
    ValueError
        If a step is negative or not finite, or the network lacks a level.
    UserError
        If the GPU's memory does not hold the batch.
    """
    if not all(0.0 <= epsilon < np.inf for epsilon in epsilons) or not spectra.keys() <= set(network.levels):
        raise ValueError(f"need steps >= 0 and levels of {network.levels}: got {epsilons}, {list(spectra)}")
    frozen = network.requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    gaussians = {level: (spectrum, shrink(spectrum)) for level, spectrum in spectra.items()}
    distances = np.full((len(epsilons), len(squares), len(spectra)), np.nan)
    try:
        # Float32 throughout, as TorchEngine's fp32.
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            for start in range(0, len(squares), batch_size):
                part = slice(start, start + batch_size)
                inputs = normalise(torch.from_numpy(squares[part]).to(device), backbone)
                distances[:, part] = _step_batch(frozen, inputs, backbone, gaussians, epsilons)
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"the GPU's memory does not hold {batch_size} images of {squares.shape[1]} pixels at a time with what a "
            "gradient needs: use a smaller --batch-size."
        ) from None
    return dict(zip(epsilons, distances, strict=True))


def choose_step(
    candidates: Sequence[float],
    distances_by_epsilon: Mapping[float, ArrayLike],
    anomalous: ArrayLike,
    share: float = VALIDATION_SHARE,
    seed: int = 0,
) -> float:
    """Choose the step by labelled validation images, those from which :func:`.ood.weigh_levels` learns with this seed.

    Lee et al. fit the regression on one half of the validation images (500 of each class), and choose the step with the
    highest true negative rate at 95% true positives on the other half. Here half of about 11 images is too few for that
    rate, or for a single draw: the step has the highest AUROC on the other half, in the mean over `HALVINGS` random
    halvings, which are the same for all candidates. Not on the images of the fit: nine levels separated 4 or 8 of them
    perfectly at every step tried (bottle, Lite0).

    Parameters
    ----------
    candidates : steps, keys of `distances_by_epsilon`
    distances_by_epsilon : step -> (m, L), such as :func:`distances_by_step` returns
    anomalous : (m,) bool
    share, seed : of the validation images, see :func:`.ood.weigh_levels`

    Returns
    -------
    Of equally good steps the smallest; so too where the validation images have fewer than two of a class, and tell
    nothing.
    """
    known = np.asarray(anomalous, dtype=bool)
    if min(known.sum(), (~known).sum()) < 2:
        return min(candidates)
    validation = draw_validation(known, share, seed)
    if min(known[validation].sum(), (~known[validation]).sum()) < 2:
        return min(candidates)

    def badness(epsilon: float) -> tuple[float, float]:
        distances = np.asarray(distances_by_epsilon[epsilon], dtype=np.float64)[validation]
        # Rounded: the same AUROCs in another order must not differ.
        return -round(_halved_auroc(distances, known[validation], seed), 9), epsilon

    return min(candidates, key=badness)


def _halved_auroc(distances: Array, anomalous: NDArray[np.bool_], seed: int) -> float:
    """Return the mean AUROC of levels (m, L) weighted on one half of the images, on the other half."""
    values = []
    for halving in np.random.default_rng(seed).integers(0, 2**32, HALVINGS).tolist():
        halved = weigh_levels(distances, anomalous, 0.5, halving)
        other = ~halved.validation
        values.append(float(roc_auc_score(anomalous[other], halved.scores[other])))
    return float(np.mean(values))


class _OnlyLevels(LevelNetwork):
    """Another network's levels, run no further than to the last of them."""

    def __init__(self, network: LevelNetwork, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(sorted(levels))
        self._network = copy.copy(network)  # shares the modules
        self._network.levels = self.levels

    def feature_maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the feature map of each level; the other network stops where no more are asked for."""
        yield from islice(self._network.feature_maps(images), len(self.levels))


def _step_batch(
    network: LevelNetwork,
    images: Tensor,
    backbone: Backbone,
    gaussians: Mapping[int, Gaussian],
    epsilons: Sequence[float],
) -> Array:
    """Return the distances of normalised images (n, 3, S, S) after each step, (E, n, L)."""
    inputs = images.contiguous(memory_format=torch.channels_last).requires_grad_(any(epsilons))
    std = torch.tensor(backbone.std, device=inputs.device).view(3, 1, 1)
    all_levels = _OnlyLevels(network, tuple(gaussians))
    features = dict(zip(all_levels.levels, all_levels(inputs), strict=True))
    distances = np.full((len(epsilons), len(inputs), len(gaussians)), np.nan)
    for column, (level, gaussian) in enumerate(gaussians.items()):
        direction = _uphill(features[level], inputs, gaussian) / std
        for row, epsilon in enumerate(epsilons):
            scored = _move(network, level, inputs, -epsilon * direction) if epsilon else features[level]
            distances[row, :, column] = _distance(scored, gaussian)
    return distances


def _uphill(features: Tensor, inputs: Tensor, gaussian: Gaussian) -> Tensor:
    """Return the sign of the gradient of the features' squared distance with respect to the inputs, (n, 3, S, S).

    Zero where the inputs require no gradient.
    """
    if not inputs.requires_grad:
        return torch.zeros_like(inputs)
    gradient = squared_mahalanobis_gradient(*gaussian, _numpy(features))
    # The sign does not depend on the length, and float32 could not hold every length down to the pixels.
    length = np.abs(gradient).max(axis=1, keepdims=True)
    vector = torch.from_numpy(gradient / np.where(length > 0.0, length, 1.0)).to(features)
    return torch.autograd.grad(features, inputs, grad_outputs=vector, retain_graph=True)[0].sign()


@torch.no_grad()
def _move(network: LevelNetwork, level: int, inputs: Tensor, step: Tensor) -> Tensor:
    """Return one level's features (n, D) of the moved inputs."""
    (features,) = _OnlyLevels(network, [level])(inputs + step)
    return features


def _distance(features: Tensor, gaussian: Gaussian) -> Array:
    return mahalanobis(project(gaussian[0], _numpy(features)), *gaussian)


def _numpy(features: Tensor) -> NDArray[np.float32]:
    return features.detach().cpu().numpy()
