"""Augmented epochs of training images (PROTOCOL: augmentation), by albumentations.

An augmented image depends only on the seed, the category, the image's name and the epoch: batches, workers and
restarts do not change it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, StrictFloat, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from gaussad_cli.settings import convert, read_yaml

if TYPE_CHECKING:
    import albumentations

CHAIN_VERSION = 1  # increase it when the same rules give other images
DEFAULT = "default"
_PAPER = Path(__file__).with_name("augmentation.yaml")


def _change_of_size(value: object, convert_pair: ValidatorFunctionWrapHandler) -> tuple[float, float]:
    with suppress(ValidationError):
        smallest, largest = convert_pair(value)
        if -1 < smallest <= largest < 10:
            return smallest, largest
    raise ValueError("it should be [a, b] with -1 < a <= b < 10")


_Share = Annotated[float, Field(strict=True, ge=0, le=1)]
_Table = dict[Annotated[str, BeforeValidator(str)], dict[str, object]]  # category -> its values in a rules file


@dataclass(frozen=True)
class Rules:
    """How the images of a category are augmented; `augmentation.yaml` explains the values."""

    any: _Share
    blur: _Share
    tone: _Share
    colour: _Share
    noise: _Share
    flip: _Share
    rotate90: _Share
    move: _Share
    shift: _Share
    scale: Annotated[tuple[StrictFloat, StrictFloat], WrapValidator(_change_of_size)]
    rotation: Annotated[float, Field(strict=True, ge=0, le=180)]


@dataclass(frozen=True)
class Augmentation:
    """The rules of every category, and the seed of all random numbers."""

    rules: Mapping[str, Rules]  # by category; DEFAULT is for categories without their own
    seed: int = 0

    def of(self, category: str) -> Rules:
        """Return a category's rules."""
        return self.rules.get(category, self.rules[DEFAULT])

    @property
    def name(self) -> str:
        """Identify the rules without the seed: "paper", or the head of a digest."""
        if self.rules == read_rules(None):
            return f"paper/{CHAIN_VERSION}"
        content = repr(sorted((name, dataclasses.astuple(rules)) for name, rules in self.rules.items()))
        return f"{hashlib.sha256(content.encode()).hexdigest()[:16]}/{CHAIN_VERSION}"

    def augmenter(self, category: str) -> Augmenter:
        """Return the augmenter of a category's images."""
        return Augmenter(self.of(category), self.seed, category)


def read_rules(path: Path | None) -> dict[str, Rules]:
    """Read the paper's rules, and replace some by those of a user's file.

    Raises
    ------
    UserError
        If the file cannot be read, or has an unknown key or a value out of range.
    """
    table = _paper()
    if path is not None:
        own = convert(read_yaml(path), _Table, path)
        everywhere = own.get(DEFAULT, {})
        names = [*table, *own]
        table = {name: {**table.get(name, table[DEFAULT]), **everywhere, **own.get(name, {})} for name in names}
    return convert(table, dict[str, Rules], path or _PAPER)


@lru_cache(maxsize=1)
def _paper() -> _Table:
    content = convert(read_yaml(_PAPER), _Table, _PAPER)
    return {name: {**content[DEFAULT], **own} for name, own in content.items()}


class Augmenter:
    """Augments a category's images. Threads may share it: each gets its own chain, because a chain has a state."""

    def __init__(self, rules: Rules, seed: int, category: str) -> None:
        self.rules, self.seed, self.category = rules, seed, category
        self._of_thread = threading.local()

    def __call__(self, square: NDArray[np.uint8], name: str, epoch: int) -> NDArray[np.uint8]:
        """Return an image (size, size, 3) uint8 RGB as it looks in epoch number `epoch`."""
        if not hasattr(self._of_thread, "chain"):
            self._of_thread.chain = build_chain(self.rules)
        chain = self._of_thread.chain
        # All steps share one random state. albumentations' own seeding gives every step a copy of it: all decisions
        # of a chain would then come from the same draw.
        seed = _seed(self.seed, self.category, name, epoch)
        chain.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return np.ascontiguousarray(chain(image=square)["image"])


def _seed(seed: int, category: str, name: str, epoch: int) -> int:
    return int.from_bytes(hashlib.sha256(repr((seed, category, name, epoch)).encode()).digest()[:16])


def build_chain(rules: Rules) -> albumentations.Compose:
    """Build the paper's chain for a category.

    Borders are reflected: this was albumentations' default when the paper was written, but is not any more. Affine
    replaces ShiftScaleRotate, which now scales width and height differently.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # albumentations would look for updates
    import albumentations as a

    blur = a.OneOf([a.MotionBlur(p=0.2), a.MedianBlur(blur_limit=3, p=0.1), a.Blur(blur_limit=3, p=0.1)], p=rules.blur)
    brightness = a.RandomBrightnessContrast(brightness_limit=(-0.1, 0.2))
    tone = a.OneOf([a.CLAHE(clip_limit=2), a.Sharpen(), a.Emboss(), brightness], p=rules.tone)
    colour = a.HueSaturationValue(hue_shift_limit=10, sat_shift_limit=30, val_shift_limit=(-10, 20), p=rules.colour)
    noise = a.OneOf([a.GaussNoise((0.01, 0.03), per_channel=each) for each in (False, True)], p=rules.noise)
    move = a.Affine(
        scale=(1 + rules.scale[0], 1 + rules.scale[1]),
        keep_ratio=True,
        translate_percent=dict.fromkeys(("x", "y"), (-rules.shift, rules.shift)),
        rotate=(-rules.rotation, rules.rotation),
        border_mode=cv2.BORDER_REFLECT_101,
        p=rules.move,
    )
    steps = [blur, tone, colour, noise, a.HorizontalFlip(p=rules.flip), a.RandomRotate90(p=rules.rotate90), move]
    return a.Compose(steps, p=rules.any)
