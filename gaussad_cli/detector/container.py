"""The model file: safetensors with JSON in its header, and a digest of everything. Nothing in it is ever executed.

A file holds arrays per level (``7.mean``, ``7.eigenvectors``, ..., float64, and ``7.features`` of its images, float32),
the distances of the calibration, and the leading bytes of the SHA-256 of every image. In the header, ``gaussad`` is
JSON with everything that is not an array, and ``sha256`` is the digest of both. The digest finds accidents. It does not
protect against forgery: whoever can change a value can change the digest, or the threshold, too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gaussad_cli import __version__
from gaussad_cli.detector.model import HASH_DIGITS, BackboneIdentity, Calibration, LevelModel, Model
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import digest_arrays
from gaussad_cli.files import write_whole
from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.shrinkage import Shrinkage
from gaussad_cli.gaussian.spectrum import Spectrum

SCHEMA = 2
_OLDER = 1  # without the features of the images
MOST_HEADER = 1_000_000  # bytes; the header of a model of nine levels has 5,000
MOST_BYTES = 4_000_000_000  # the nine levels of EfficientNet-B7 have 0.2 GB
_ARRAYS = ("mean", "mean_remainder", "variances", "eigenvalues", "eigenvectors")
_HASH_BYTES = HASH_DIGITS // 2
Arrays = dict[str, NDArray[Any]]


def write_model(path: Path, model: Model) -> None:
    """Write a model file.

    Raises
    ------
    UserError
        If the calibration is not finite, or the file cannot be written; the file that was there before stays.
    """
    if not np.isfinite([model.calibration.threshold, *model.calibration.distances]).all():
        raise UserError(
            "nearly all normal images are the same: no threshold can be computed. Give more, different ones."
        )
    arrays: Arrays = {"calibration": model.calibration.distances}
    arrays["hashes"] = np.frombuffer(bytes.fromhex("".join(model.hashes)), np.uint8).reshape(-1, _HASH_BYTES)
    for level in model.levels:
        values = vars(level.spectrum)
        arrays |= {f"{level.level}.{name}": np.ascontiguousarray(values[name]) for name in _ARRAYS}
        if level.features is not None:
            arrays[f"{level.level}.features"] = np.ascontiguousarray(level.features)
    text = json.dumps(_describe(model), sort_keys=True, allow_nan=False)
    content = _sorted_header(save(arrays, {"gaussad": text, "sha256": digest_arrays(arrays, text)}))
    write_whole(path, lambda file: file.write(content))


def _sorted_header(content: bytes) -> bytes:
    """Sort the header of a safetensors file: the library writes its metadata in random order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # arrays begin at multiples of 8 bytes
    return len(header).to_bytes(8, "little") + header + content[end:]


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
            }
            for level in model.levels
        ],
        "calibration": {"fpr": model.calibration.fpr, "threshold": model.calibration.threshold},
        "provenance": dict(model.provenance),
    }


def read_model(path: Path) -> Model:
    """Read a model file.

    Raises
    ------
    UserError
        If it is missing, damaged, edited, not a model, or of another version.
    """
    content = _read(path)
    try:
        metadata = _metadata(content)
        text = metadata["gaussad"]
        described = json.loads(text, parse_constant=_refuse)
        if described["schema"] not in (SCHEMA, _OLDER):
            raise UserError(_other_version(path, described))
        arrays = load(content)
        if digest_arrays(arrays, text) != metadata["sha256"]:
            raise UserError(f"{path} is damaged or was edited: it does not match its own digest. {_REMEDY}")
        return _model(described, arrays)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{path} is not a gaussad model, or is damaged ({type(error).__name__}: {reason}). {_REMEDY}"
        ) from None


_REMEDY = "Get the file again, or train the model again with gaussad train."


def _other_version(path: Path, described: Mapping[str, Any]) -> str:
    version, made_by = str(described["schema"])[:20], str(described.get("gaussad", "another gaussad"))[:20]
    return (
        f"{path} is a model file of version {version}, made by gaussad {made_by}; this gaussad reads version {SCHEMA}. "
        "Use the other gaussad, or train the model again."
    )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is too large to be a gaussad model.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the model {path}: {error.strerror}.") from None


def _metadata(content: bytes) -> dict[str, str]:
    """Return the texts in the header; its length is checked before anything is parsed."""
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= min(MOST_HEADER, len(content) - 8):
        raise ValueError("its header has an impossible length")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _model(described: Mapping[str, Any], arrays: Arrays) -> Model:
    levels = tuple(_level(level, arrays) for level in described["levels"])
    if not levels:
        raise ValueError("it has no levels")
    calibration = Calibration(_checked(arrays, "calibration", (None,)), **described["calibration"])
    hashes = _checked(arrays, "hashes", (None, _HASH_BYTES), np.uint8)
    backbone = {**described["backbone"], **{name: tuple(described["backbone"][name]) for name in ("mean", "std")}}
    return Model(
        backbone=BackboneIdentity(**backbone),
        levels=levels,
        calibration=calibration,
        provenance=dict(described["provenance"]),
        hashes=tuple(row.tobytes().hex() for row in hashes),
    )


def _level(described: Mapping[str, Any], arrays: Arrays) -> LevelModel:
    number = described["level"]
    dim, rank = arrays[f"{number}.mean"].size, arrays[f"{number}.eigenvalues"].size
    shapes = dict.fromkeys(_ARRAYS, (dim,)) | {"eigenvalues": (rank,), "eigenvectors": (dim, rank)}
    own = {name: _checked(arrays, f"{number}.{name}", shape) for name, shape in shapes.items()}
    features = None
    if f"{number}.features" in arrays:
        features = _checked(arrays, f"{number}.features", (described["n"], dim), np.float32)
    spectrum = Spectrum(described["n"], **own, fourth_leading=np.zeros(0), fourth_trailing=np.zeros(0))
    shrinkage, compression = Shrinkage(**described["shrinkage"]), Compression(**described["compression"])
    return LevelModel(number, spectrum, shrinkage, compression, features)


def _checked(arrays: Arrays, name: str, shape: tuple[int | None, ...], dtype: type = np.float64) -> NDArray[Any]:
    """Return an array, if it has that shape (None: any length) and dtype, and only finite numbers."""
    array = arrays[name]
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype != dtype or not fits or not np.isfinite(array).all():
        raise ValueError(f"{name} has another shape or type than it should have, or numbers that are not finite")
    return array


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} in its header")
