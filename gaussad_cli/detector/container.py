"""The model file: safetensors with JSON in its header, and a digest of everything. Nothing in it is ever executed.

A file holds float64 arrays per level (``7.mean``, ``7.eigenvectors``, ...), the calibration's distances, and the heads
of the hashes of the images; the header's ``gaussad`` is JSON with all that is no array, and ``sha256`` the digest of
both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gaussad_cli import __version__
from gaussad_cli.detector.model import BackboneIdentity, Calibration, LevelModel, Model
from gaussad_cli.errors import UserError
from gaussad_cli.files import write_whole
from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.shrinkage import Shrinkage
from gaussad_cli.gaussian.spectrum import Spectrum

SCHEMA = 1
MOST_HEADER = 1_000_000  # bytes; a model of nine levels has 5,000
MOST_BYTES = 4_000_000_000  # of a file; EfficientNet-B7's nine levels have 0.2 GB
_ARRAYS = ("mean", "mean_remainder", "variances", "eigenvalues", "eigenvectors", "third")
_HEAD = 8  # bytes of an image's hash
Arrays = dict[str, NDArray[Any]]


def write_model(path: Path, model: Model) -> None:
    """Write a model file.

    Raises
    ------
    UserError
        If it cannot be written; what was there before stays.
    """
    arrays: Arrays = {"calibration": model.calibration.distances}
    arrays["hashes"] = np.frombuffer(bytes.fromhex("".join(model.hashes)), np.uint8).reshape(-1, _HEAD)
    for level in model.levels:
        values = {**vars(level.spectrum), "third": level.third}
        arrays |= {f"{level.level}.{name}": np.ascontiguousarray(values[name]) for name in _ARRAYS}
    text = json.dumps(_describe(model), sort_keys=True, allow_nan=False)
    content = save(arrays, {"gaussad": text, "sha256": _digest(text, arrays)})
    write_whole(path, lambda file: file.write(content))


def _describe(model: Model) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "gaussad": __version__,
        "backbone": dataclasses.asdict(model.backbone),
        "levels": [
            {
                "level": level.level,
                "n": level.n,
                "compression": dataclasses.asdict(level.compression),
                "shrinkage": dataclasses.asdict(level.shrinkage),
                "fourth": level.fourth,
            }
            for level in model.levels
        ],
        "calibration": {"fpr": model.calibration.fpr, "threshold": model.calibration.threshold},
        "provenance": dict(model.provenance),
    }


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def read_model(path: Path) -> Model:
    """Read a model file.

    Raises
    ------
    UserError
        If it is missing, damaged, edited, no model, or of another version.
    """
    content = _read(path)
    try:
        metadata = _metadata(content)
        text = metadata["gaussad"]
        described = json.loads(text)
        if described["schema"] != SCHEMA:
            raise UserError(_other_version(path, described))
        arrays = load(content)
        if _digest(text, arrays) != metadata["sha256"]:
            raise UserError(f"{path} is damaged or was edited: it does not match its own digest. {_REMEDY}")
        return _model(described, arrays)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{path} is no gaussad model, or damaged ({type(error).__name__}: {reason}). {_REMEDY}"
        ) from None


_REMEDY = "Get it again, or train it again: gaussad train."


def _other_version(path: Path, described: Mapping[str, Any]) -> str:
    made_by = str(described.get("gaussad", "another gaussad"))[:20]
    return (
        f"{path} is of version {str(described['schema'])[:20]}, made by gaussad {made_by}; this one reads {SCHEMA}. "
        "Use that gaussad, or train the model again."
    )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is too large to be a gaussad model.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the model {path}: {error.strerror}.") from None


def _metadata(content: bytes) -> dict[str, str]:
    """Return the header's texts; its length is looked at before anything is parsed."""
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= min(MOST_HEADER, len(content) - 8):
        raise ValueError("its header has an impossible length")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    if not all(isinstance(metadata[name], str) for name in ("gaussad", "sha256")):
        raise ValueError("its header is of another form")
    return dict(metadata)


def _model(described: Mapping[str, Any], arrays: Arrays) -> Model:
    backbone = dict(described["backbone"])
    identity = BackboneIdentity(**{**backbone, "mean": tuple(backbone["mean"]), "std": tuple(backbone["std"])})
    levels = tuple(_level(one, arrays) for one in described["levels"])
    numbers = [level.level for level in levels]
    if not numbers or numbers != sorted(set(numbers)):
        raise ValueError("its levels are not in order")
    distances = _checked(arrays["calibration"], "calibration", (None,))
    calibration = Calibration(
        distances, float(described["calibration"]["fpr"]), float(described["calibration"]["threshold"])
    )
    hashes = arrays["hashes"]
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != _HEAD:
        raise ValueError("its hashes are of another form")
    heads = tuple(row.tobytes().hex() for row in hashes)
    return Model(identity, levels, calibration, dict(described["provenance"]), heads)


def _level(described: Mapping[str, Any], arrays: Arrays) -> LevelModel:
    number = int(described["level"])
    own = {name: arrays[f"{number}.{name}"] for name in _ARRAYS}
    dim, rank = own["mean"].size, own["eigenvalues"].size
    for name, array in own.items():
        _checked(array, f"{number}.{name}", {"eigenvalues": (rank,), "eigenvectors": (dim, rank)}.get(name, (dim,)))
    third = own.pop("third")
    spectrum = Spectrum(int(described["n"]), **own, fourth_leading=np.zeros(0), fourth_trailing=np.zeros(0))
    shrinkage = Shrinkage(**described["shrinkage"])
    if not 0 <= shrinkage.start <= shrinkage.stop <= rank or spectrum.n < 2:
        raise ValueError("its components are out of range")
    return LevelModel(
        number, spectrum, shrinkage, Compression(**described["compression"]), third, float(described["fourth"])
    )


def _checked(array: NDArray[Any], name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    alike = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype != np.float64 or not alike or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name} is not what it should be")
    return array
