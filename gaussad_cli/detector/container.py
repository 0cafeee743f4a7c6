"""The model file: safetensors with JSON in its header, and a digest of everything. No code is in it.

A file of a pooled model holds arrays per level (``7.mean``, ``7.eigenvectors``, ..., float64, and ``7.features`` of its
images, float32). One of places has ``places.mean`` and ``places.basis``, float32, and the lower triangles of the
factors of all places, ``places.factors``, float16. Both hold the distances of the calibration, the leading bytes of the
SHA-256 of every image, and the network: its ONNX graph with the weights, ``network``, uint8. In the header, ``gaussad``
is JSON with everything that is not an array, and ``sha256`` is the digest of both. The digest finds accidents. It does
not protect against forgery: whoever can change a value can change the digest, or the threshold, too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gaussad_cli import __version__
from gaussad_cli.detector.model import HASH_DIGITS, BackboneIdentity, Calibration, LevelModel, Model, PooledModel
from gaussad_cli.detector.places import PlacesModel
from gaussad_cli.errors import UserError, in_one_line
from gaussad_cli.extraction.store import digest_arrays
from gaussad_cli.files import write_whole
from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.places import Maps, MapScale, PlaceGaussians
from gaussad_cli.gaussian.shrinkage import Shrinkage
from gaussad_cli.gaussian.spectrum import Spectrum

SCHEMA = 4
_OLDER = (1, 2, 3)  # without the features of the images; without places; without the network
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
    if model.network:
        arrays["network"] = np.frombuffer(model.network, np.uint8)
    arrays |= _pooled_arrays(model.levels) if model.places is None else _places_arrays(model.places.gaussians)
    text = json.dumps(_describe(model), sort_keys=True, allow_nan=False)
    content = _sorted_header(save(arrays, {"gaussad": text, "sha256": digest_arrays(arrays, text)}))
    write_whole(path, lambda file: file.write(content))


def _pooled_arrays(levels: Sequence[LevelModel]) -> Arrays:
    arrays: Arrays = {}
    for level in levels:
        values = vars(level.spectrum)
        arrays |= {f"{level.level}.{name}": np.ascontiguousarray(values[name]) for name in _ARRAYS}
        if level.features is not None:
            arrays[f"{level.level}.features"] = np.ascontiguousarray(level.features)
    return arrays


def _places_arrays(gaussians: PlaceGaussians) -> Arrays:
    rows, columns = np.tril_indices(gaussians.basis.shape[1])
    factors = np.ascontiguousarray(gaussians.factors[:, rows, columns].astype(np.float16))
    return {"places.mean": gaussians.mean, "places.basis": gaussians.basis, "places.factors": factors}


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
        **({} if model.places is None else {"places": _describe_places(model.places)}),
        "calibration": {"fpr": model.calibration.fpr, "threshold": model.calibration.threshold},
        "provenance": dict(model.provenance),
    }


def _describe_places(places: PlacesModel) -> dict[str, Any]:
    return {
        "dims": [list(level) for level in places.dims.items()],
        "n": places.n,
        "intensity": places.gaussians.intensity,
        "compression": dataclasses.asdict(places.compression),
        "sigma": places.sigma,
        "typical": places.typical,
        "scale": dataclasses.asdict(places.scale),
    }


def read_model(path: Path) -> Model:
    """Read a model file.

    Raises
    ------
    UserError
        If it is missing, damaged, edited, not a model, or of another version.
    """
    content = _read(path)
    with _reading(path):
        metadata = _metadata(content)
        described = _described(path, metadata)
        arrays = load(content)
        del content  # as large as the model itself
        if digest_arrays(arrays, metadata["gaussad"]) != metadata["sha256"]:
            raise UserError(f"{path} is damaged or was edited: it does not match its own digest. {_REMEDY}")
        return _model(described, arrays)


def read_levels(path: Path) -> tuple[tuple[int, ...], bool]:
    """Read from the header of a model file alone which levels a model uses, ascending, and whether it is one of places.

    Raises
    ------
    UserError
        If the file is missing, not a model, or of another version. Damage to its arrays is not seen.
    """
    with _reading(path):
        described = _described(path, _metadata(_read(path, 8 + MOST_HEADER)))
        places = described.get("places")
        levels = [level["level"] for level in described["levels"]] if places is None else dict(places["dims"])
        return tuple(sorted(map(int, levels))), places is not None


def _described(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(metadata["gaussad"], parse_constant=_refuse)
    if described["schema"] not in (SCHEMA, *_OLDER):
        raise UserError(_other_version(path, described))
    return described


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of content that is no model's into one that the user can put right."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        reason = in_one_line(error)[:120]
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


def _read(path: Path, most: int = -1) -> bytes:
    """Return the first bytes of a file, or all."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is too large to be a gaussad model.")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise UserError(f"cannot read the model {path}: {error.strerror}.") from None


def _metadata(content: bytes) -> dict[str, str]:
    """Return the texts in the header; its length is checked before anything is parsed."""
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= min(MOST_HEADER, len(content) - 8):
        raise ValueError("its header has an impossible length")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _model(described: Mapping[str, Any], arrays: Arrays) -> Model:
    calibration = Calibration(_checked(arrays, "calibration", (None,)), **described["calibration"])
    hashes = _checked(arrays, "hashes", (None, _HASH_BYTES), np.uint8)
    backbone = {**described["backbone"], **{name: tuple(described["backbone"][name]) for name in ("mean", "std")}}
    identity = BackboneIdentity(**backbone)
    return Model(
        backbone=identity,
        gaussians=_places(described["places"], identity.grid, arrays) if identity.grid else _pooled(described, arrays),
        calibration=calibration,
        provenance=dict(described["provenance"]),
        hashes=tuple(row.tobytes().hex() for row in hashes),
        network=_checked(arrays, "network", (None,), np.uint8).tobytes() if "network" in arrays else b"",
    )


def _pooled(described: Mapping[str, Any], arrays: Arrays) -> PooledModel:
    levels = tuple(_level(level, arrays) for level in described["levels"])
    if not levels:
        raise ValueError("it has no levels")
    return PooledModel(levels)


def _places(described: Mapping[str, Any], grid: int, arrays: Arrays) -> PlacesModel:
    dims = {int(level): int(dim) for level, dim in described["dims"]}
    n, intensity, sigma, typical = (described[name] for name in ("n", "intensity", "sigma", "typical"))
    if not (n >= 2 and 0.0 <= intensity < 1.0 and sigma >= 0.0 and typical >= 0.0):
        raise ValueError("numbers about its places that no model has")
    kept = arrays["places.basis"].shape[-1]
    mean = _checked(arrays, "places.mean", (grid * grid, sum(dims.values())), np.float32)
    basis = _checked(arrays, "places.basis", (sum(dims.values()), kept), np.float32)
    triangles = _checked(arrays, "places.factors", (grid * grid, kept * (kept + 1) // 2), np.float16)
    gaussians = PlaceGaussians(n, mean, basis, _factors(triangles, kept), intensity)
    scale = _scale(**described["scale"])
    return PlacesModel(dims, gaussians, Compression(**described["compression"]), sigma, typical, scale)


def _scale(greatest: Sequence[float], whole: Sequence[float]) -> MapScale:
    """Return the scale of a model: finite numbers, and spreads greater than 0."""
    (median, spread), (of_whole, spread_of_whole) = greatest, whole
    if not (np.isfinite([median, of_whole]).all() and 0.0 < spread < np.inf and 0.0 < spread_of_whole < np.inf):
        raise ValueError("a scale of its heat maps that no model has")
    return MapScale((float(median), float(spread)), (float(of_whole), float(spread_of_whole)))


def _factors(triangles: NDArray[np.float16], size: int) -> Maps:
    """Return lower triangular matrices (P, size, size) float32 from their triangles, row by row."""
    factors = np.zeros((len(triangles), size, size), np.float32)
    rows, columns = np.tril_indices(size)
    factors[:, rows, columns] = triangles
    if not (np.diagonal(factors, axis1=1, axis2=2) > 0.0).all():
        raise ValueError("a factor of its places is singular")
    return factors


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
