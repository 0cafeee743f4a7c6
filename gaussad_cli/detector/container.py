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
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gaussad_cli import __version__
from gaussad_cli.detector.model import BackboneIdentity, Calibration, LevelModel, Model
from gaussad_cli.errors import UserError
from gaussad_cli.files import write_whole
from gaussad_cli.gaussian.compression import Compression, Mode
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
        described = json.loads(text, parse_constant=_refuse)
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


# A digest keeps out accidents. Whoever makes a model file on purpose can make a digest too: every value is looked at.


def _model(described: Mapping[str, Any], arrays: Arrays) -> Model:
    levels = tuple(_level(one, arrays) for one in described["levels"])
    numbers = [level.level for level in levels]
    if not numbers or numbers != sorted(set(numbers)):
        raise ValueError("its levels are not in order")
    distances = _checked(arrays["calibration"], "calibration", (None,))
    if (np.diff(distances) < 0.0).any():
        raise ValueError("its calibration is not in order")
    fpr, threshold = (described["calibration"][name] for name in ("fpr", "threshold"))
    calibration = Calibration(distances, _number(fpr, _LEAST, 1.0), _number(threshold, -_MOST, _MOST))
    hashes = arrays["hashes"]
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != _HEAD:
        raise ValueError("its hashes are of another form")
    heads = tuple(row.tobytes().hex() for row in hashes)
    provenance = dict(described["provenance"])
    _whole(provenance.get("updates", 0), 0, _MANY)
    return Model(_identity(described["backbone"]), levels, calibration, provenance, heads)


def _identity(described: Mapping[str, Any]) -> BackboneIdentity:
    means = {name: tuple(_number(value, -_MOST, _MOST) for value in described[name]) for name in ("mean", "std")}
    identity = BackboneIdentity(**{**described, **means})
    _whole(identity.input_size, 1, _MANY)
    if not all(isinstance(value, str) for name, value in vars(identity).items() if name not in (*means, "input_size")):
        raise ValueError("its backbone is of another form")
    return identity


def _level(described: Mapping[str, Any], arrays: Arrays) -> LevelModel:
    number = _whole(described["level"], 1, _MANY)
    own = {name: arrays[f"{number}.{name}"] for name in _ARRAYS}
    dim, rank = own["mean"].size, own["eigenvalues"].size
    for name, array in own.items():
        _checked(array, f"{number}.{name}", {"eigenvalues": (rank,), "eigenvectors": (dim, rank)}.get(name, (dim,)))
    third = own.pop("third")
    if (own["eigenvalues"] <= 0.0).any():
        raise ValueError(f"{number}.eigenvalues are not positive")
    n = _whole(described["n"], rank + 1, _MANY)
    spectrum = Spectrum(n, **own, fourth_leading=np.zeros(0), fourth_trailing=np.zeros(0))
    compression = Compression(**described["compression"])
    if compression.mode not in get_args(Mode):
        raise ValueError("its mode is unknown")
    shrinkage, fourth = _shrinkage(described["shrinkage"], dim, rank), _number(described["fourth"], 0.0, _MOST)
    return LevelModel(number, spectrum, shrinkage, compression, third, fourth)


def _shrinkage(described: Mapping[str, Any], dim: int, rank: int) -> Shrinkage:
    shrinkage = Shrinkage(**described)
    _whole(shrinkage.start, 0, rank - 1)
    _whole(shrinkage.stop, shrinkage.start + 1, rank)
    _whole(shrinkage.dim, shrinkage.stop - shrinkage.start, dim)
    _number(shrinkage.intensity, 0.0, 1.0)
    _number(shrinkage.scale, _LEAST, _MOST)
    return shrinkage


_LEAST, _MOST, _MANY = 1e-300, 1e300, 10**9


def _number(value: Any, least: float, most: float) -> float:
    """Return a number of the header; NaN lies in no range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is not what it should be")
    return float(value)


def _whole(value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is not what it should be")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} in its header")


def _checked(array: NDArray[Any], name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    alike = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype != np.float64 or not alike or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name} is not what it should be")
    return array
