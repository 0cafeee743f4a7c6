"""A category of an extraction: its manifests, which are read once, and its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.backbones.registry import format_levels, parse_levels
from gaussad_cli.datasets.folds import training_folds
from gaussad_cli.datasets.index import NORMAL
from gaussad_cli.errors import UserError
from gaussad_cli.extraction import store


@dataclass(frozen=True)
class OpenCategory:
    """The features of one category, made by one recipe, and the manifests that describe them.

    Attributes
    ----------
    train : manifest of the features that Gaussians are fitted to, augmented or not
    test : manifest of the test images, which are never augmented
    """

    extraction: store.Extraction
    name: str
    train: store.Manifest
    test: store.Manifest

    @property
    def folder(self) -> Path:
        """The category's folder in the cache; it holds the training features and the spectra."""
        return self.extraction.folder / self.name

    @cached_property
    def plain_train(self) -> store.Manifest:
        """The manifest of the original training images: those that a fold leaves out calibrate thresholds."""
        if not self.extraction.recipe.epochs:
            return self.train
        return store.read_manifest(self.extraction.plain / self.name / "train")

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that both splits have, ascending."""
        return tuple(sorted(set(self.train.levels) & set(self.test.levels)))

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """Which of the m test images are anomalous, (m,)."""
        return np.array([image.label != NORMAL for image in self.test.images])


def open_category(extraction: store.Extraction, name: str) -> OpenCategory:
    """Read the two manifests of a category.

    Raises
    ------
    UserError
        If a manifest is missing or damaged.
    """
    train, test = (store.read_manifest(extraction.split(name, split)) for split in ("train", "test"))
    return OpenCategory(extraction, name, train, test)


def choose_levels(category: OpenCategory, text: str | None) -> tuple[int, ...]:
    """Return the chosen levels of a category, or all that are extracted in both splits.

    Raises
    ------
    UserError
        If a chosen level is out of range or not extracted.
    """
    available, recipe = category.levels, category.extraction.recipe
    if not available:
        raise UserError(
            f"category '{category.name}' has no level in both splits in {category.extraction.folder}. "
            "Run gaussad extract."
        )
    chosen = available if text is None else parse_levels(text, recipe.n_levels)
    if not set(chosen) <= set(available):
        raise UserError(
            f"category '{category.name}' has levels {format_levels(available)} of {recipe.backbone} extracted, not "
            f"{text}. Run gaussad extract with --levels {text}, or evaluate with --levels {format_levels(available)}."
        )
    return chosen


def read_test(category: OpenCategory, level: int, dim: int) -> store.Features:
    """Read the test images' features (m, D) of a level whose spectra have D = `dim` dimensions.

    Raises
    ------
    UserError
        If the features are missing, damaged, or of another dimension.
    """
    return _read_plain(category.extraction.split(category.name, "test"), category.test, level, dim)


def read_plain_train(category: OpenCategory, level: int, dim: int) -> store.Features:
    """Read the features (n, D) of the original training images; see :func:`read_test`."""
    return _read_plain(category.extraction.plain / category.name / "train", category.plain_train, level, dim)


def _read_plain(folder: Path, manifest: store.Manifest, level: int, dim: int) -> store.Features:
    if level not in manifest.levels:
        raise UserError(f"level {level} is not in {folder}. Run gaussad extract again with the same options.")
    features = store.read_features(folder, manifest, level)
    if features.shape[1] != dim:
        raise UserError(
            f"{folder}: level {level} has {features.shape[1]} features here and {dim} where it was fitted. "
            "Run gaussad extract again, or fix the features if they were made elsewhere."
        )
    return features


def training_features(category: OpenCategory, level: int, fold: int) -> Callable[[], store.Features]:
    """Return a function that reads a fold's training features (n, D): every epoch of its images."""

    def read() -> store.Features:
        features = store.read_features(category.folder / "train", category.train, level)
        return features[training_folds(len(features))[fold]].reshape(-1, features.shape[-1])

    return read
