"""The spectra of one level's folds, either read from the cache or fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gaussad_cli.datasets.folds import FOLD_SEED, N_FOLDS, held_out_parts, training_folds
from gaussad_cli.errors import UserError
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.spectrum import Spectrum, fit_spectrum
from gaussad_cli.gaussian.streaming import Chunks, fit_folds

SPECTRUM_VERSION = 4  # increase it when the same features give another spectrum
CHUNK_ROWS = 512  # augmented features in memory at a time


def level_spectra(category: Path, train: store.Manifest, level: int) -> tuple[list[Spectrum], bool]:
    """Return the spectra of a level's folds, read from the cache or else fitted, and whether they were fitted.

    Parameters
    ----------
    category : the category's folder in the cache
    train : the manifest of its training features

    Raises
    ------
    UserError
        If the features are missing or damaged, or there are fewer images than folds.
    """
    source = _source(train, level)
    if spectra := _read(category, level, source, train.levels[level]):
        return spectra, False
    folder = category / "train"
    features = store.read_features(folder, train, level)
    if len(features) < N_FOLDS:
        raise UserError(f"{folder} has {len(features)} training images, but {N_FOLDS} folds need at least {N_FOLDS}.")
    # One thread, so that sums are the same on every machine and for any --jobs, which use the other cores.
    with threadpool_limits(1, user_api="blas"):
        if isinstance(features, np.memmap):
            return _fit_streamed(folder, train, level, features), True
        return [fit_spectrum(features[fold]) for fold in training_folds(len(features))], True


def _fit_streamed(folder: Path, manifest: store.Manifest, level: int, features: store.Features) -> list[Spectrum]:
    """Fit to features on disk, (N, epochs, D) or (N, D); all epochs of an image are in the same part."""
    by_image = features.reshape(len(features), -1, features.shape[-1])
    parts = [_chunks(by_image, part) for part in held_out_parts(len(by_image))]
    try:
        return fit_folds(parts)
    except ValueError:
        store.check_finite(features, manifest, f"{folder}, level {level}")
        raise


def _chunks(features: store.Features, images: NDArray[np.intp]) -> Chunks:
    """Return a function that reads all epochs of some images, a few images at a time."""
    at_once = max(1, CHUNK_ROWS // features.shape[1])

    def chunks() -> Iterator[store.Features]:
        for i in range(0, len(images), at_once):
            yield features[images[i : i + at_once]].reshape(-1, features.shape[2])

    return chunks


def store_spectra(category: Path, train: store.Manifest, level: int, spectra: list[Spectrum]) -> None:
    """Write the spectra of a level's folds to the cache, next to their features.

    Raises
    ------
    UserError
        If the cache cannot be written.
    """
    arrays = {"source": np.array(_source(train, level))}
    for fold, spectrum in enumerate(spectra):
        arrays |= {f"{fold}_{name}": np.asarray(value) for name, value in vars(spectrum).items()}
    store.write_arrays(store.spectra_path(category, level), arrays)


def _source(manifest: store.Manifest, level: int) -> str:
    """Identify what the spectra were fitted to: the features, the folds, and the version of the fit."""
    return store.digest([manifest.levels[level].sha256, N_FOLDS, FOLD_SEED, SPECTRUM_VERSION])


def _read(category: Path, level: int, source: str, entry: store.LevelEntry) -> list[Spectrum] | None:
    arrays = store.read_arrays(store.spectra_path(category, level), entry.spectra_sha256)
    if arrays is None or str(arrays.get("source")) != source:
        return None
    try:
        return [_checked(_spectrum(arrays, f"{fold}_"), entry.shape[-1]) for fold in range(N_FOLDS)]
    except (KeyError, ValueError, TypeError, IndexError):  # incomplete or damaged: it is fitted again
        return None


def _checked(spectrum: Spectrum, dim: int) -> Spectrum:
    """Return a spectrum if its arrays have the right shapes and finite values; raise ValueError if not."""
    values, rank = vars(spectrum), spectrum.eigenvalues.shape[0]
    if spectrum.n < 2:
        raise ValueError("n is too small for a spectrum")
    shapes = dict.fromkeys(("mean", "mean_remainder", "variances"), (dim,))
    shapes |= dict.fromkeys(("eigenvalues", "fourth_leading", "fourth_trailing"), (rank,))
    for name, shape in {**shapes, "eigenvectors": (dim, rank)}.items():
        if values[name].shape != shape or values[name].dtype != np.float64 or not np.isfinite(values[name]).all():
            raise ValueError(f"{name} has the wrong shape or type, or is not finite")
    return spectrum


def _spectrum(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Spectrum:
    return Spectrum(
        n=int(arrays[f"{prefix}n"]),
        mean=arrays[f"{prefix}mean"],
        mean_remainder=arrays[f"{prefix}mean_remainder"],
        variances=arrays[f"{prefix}variances"],
        eigenvalues=arrays[f"{prefix}eigenvalues"],
        eigenvectors=arrays[f"{prefix}eigenvectors"],
        fourth_leading=arrays[f"{prefix}fourth_leading"],
        fourth_trailing=arrays[f"{prefix}fourth_trailing"],
    )
