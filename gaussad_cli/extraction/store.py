"""The feature cache; only this module writes and reads it.

Features are in ``<cache>/<dataset>/<backbone>/<key>/<category>/{train,test}/level_<k>.npy`` with a ``manifest.json``,
spectra in ``<category>/spectra/level_<k>.npz``, masks beside features of places in ``<category>/test/masks.npz``. `key`
is a hash of everything that changes the numbers. The manifest is written last: a split that has one is complete. No
file is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from importlib import metadata
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.files import sha256_of, write_json, write_whole

SCHEMA = 1
MANIFEST = "manifest.json"
_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "numpy",
    "scipy",
    "scikit-learn",
    "opencv-python-headless",
    "pillow",
    "albumentations",
)

FULL_DEPTH = 16  # bits that the pixels of a 16-bit file have, if nothing else is said
ON_DISK = 1 << 28  # bytes of a level's features: larger arrays are never in memory as a whole

Features = NDArray[np.float32]
_Entry = TypeVar("_Entry", "Recipe", "ImageEntry")


@dataclass(frozen=True)
class Recipe:
    """Everything but the images that changes the numbers of an extraction; hashed into the cache's `key`.

    The weights' label is not hashed: the same file under another name gives the same numbers.

    Attributes
    ----------
    backbone, n_levels : name, and the number of its levels
    weights, weights_sha256 : label in results, and hash of the weight file
    padding : "paper", "tf" or "native"
    input_size : in pixels
    preprocessing : name of the rule from file to network input
    engine, precision : what computed the features
    epochs : number of augmented epochs, 0 for the original images
    augmentation, seed : name of the rules, and the seed; used only with epochs
    grid : places per side; 0 for features averaged over the whole image
    """

    backbone: str
    n_levels: int
    weights: str
    weights_sha256: str
    padding: str
    input_size: int
    preprocessing: str = "pil-rgb8/cv2-linear/1"
    engine: str = "torch"
    precision: str = "fp32"
    epochs: int = 0
    augmentation: str = ""
    seed: int = 0
    grid: int = 0

    @property
    def content(self) -> dict[str, Any]:
        """The recipe as manifests hold it; that of averaged features is the same as before there were grids."""
        content = dataclasses.asdict(self)
        if not self.grid:
            del content["grid"]
        return content

    @property
    def key(self) -> str:
        """The recipe's folder name in the cache, 16 hexadecimal digits."""
        content = {**self.content, "weights": None}
        if not self.epochs:
            del content["augmentation"], content["seed"]
        return digest(content)[:16]

    def plain(self) -> Recipe:
        """Return the recipe of the original images; test images are never augmented."""
        return dataclasses.replace(self, epochs=0, augmentation="", seed=0)


@dataclass(frozen=True)
class ImageEntry:
    """One image of a split: name below the category's folder, class folder, SHA-256 of the file."""

    name: str
    label: str
    sha256: str


@dataclass(frozen=True)
class LevelEntry:
    """One feature file of a split.

    Attributes
    ----------
    file : its name; the features may since have been removed (see :func:`forget_features`)
    shape : (N, D), or (N, epochs, D) of augmented images
    dtype : "float32"
    sha256 : of the feature file
    spectra_sha256 : of the spectra's file if the features were not kept, else empty
    """

    file: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    spectra_sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a split's folder holds: the rows of every level file are the images, in this order.

    `rules` are the category's augmentation rules; `versions` are those of the libraries that made the features.
    """

    dataset: str
    category: str
    split: str
    recipe: Recipe
    images: tuple[ImageEntry, ...]
    levels: Mapping[int, LevelEntry]
    rules: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of a level file without its last axis: (N,), or (N, epochs)."""
        return (len(self.images), *((self.recipe.epochs,) if self.recipe.epochs else ()))


def preprocessing(depth: int | None) -> str:
    """Name the rule from file to network input, where the pixels of 16-bit files have `depth` bits (None: all 16)."""
    return Recipe.preprocessing + (f"{_DEPTH}{depth}" if depth not in (None, FULL_DEPTH) else "")


def depth_of(preprocessing: str) -> int:
    """Return the bits that the pixels of 16-bit files have by a rule.

    Raises
    ------
    ValueError
        If it is not a rule of this gaussad.
    """
    if preprocessing == Recipe.preprocessing:
        return FULL_DEPTH
    rule, _, depth = preprocessing.partition(_DEPTH)
    if rule != Recipe.preprocessing or depth not in map(str, range(9, FULL_DEPTH)):
        raise ValueError(f"there is no preprocessing {preprocessing}")
    return int(depth)


_DEPTH = "/depth-"


def digest(content: object) -> str:
    """Return the SHA-256 of a JSON-able object, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def split_folder(cache: Path, dataset: str, recipe: Recipe, category: str, split: str) -> Path:
    """Return the folder of a split's features."""
    return cache / dataset / backbone_folder(recipe.backbone) / recipe.key / category / split


def backbone_folder(backbone: str) -> str:
    """Return a backbone's folder name: Windows allows no colon, as in ``timm:vgg11``."""
    return backbone.replace(":", "-")


# --- features ---


def write_features(folder: Path, manifest: Manifest, features: Mapping[int, Features]) -> Manifest:
    """Write level files, then the manifest that lists them and all levels that it listed before.

    Parameters
    ----------
    features : level -> (N, D) float32 (with epochs: (N, epochs, D)), rows in the order of ``manifest.images``

    Raises
    ------
    UserError
        If the features have another form, one is NaN or infinite (the message names the image), or writing fails.
    """
    for level, values in features.items():
        _check_form(values, manifest, f"level {level}")
    return _write_levels(folder, manifest, {level: [values] for level, values in features.items()})


def _write_levels(
    folder: Path,
    manifest: Manifest,
    levels: Mapping[int, Iterable[Features]],
    scratch: Path | None = None,
) -> Manifest:
    """Write level files from consecutive pieces of rows, then the manifest."""
    entries = dict(manifest.levels)
    for level, pieces in levels.items():
        entries[level] = _write_level(folder / f"level_{level}.npy", manifest.rows, pieces, scratch)
    return _write_manifest(folder, dataclasses.replace(manifest, levels=dict(sorted(entries.items()))), scratch)


def _write_manifest(folder: Path, manifest: Manifest, scratch: Path | None = None) -> Manifest:
    own = {"recipe": manifest.recipe.content, "versions": versions()}
    content = {"schema": SCHEMA, **dataclasses.asdict(manifest), **own}
    write_json(folder / MANIFEST, sealed(content), scratch)
    return manifest


def _write_level(path: Path, rows: tuple[int, ...], pieces: Iterable[Features], scratch: Path | None) -> LevelEntry:
    """Write one level file of (*rows, D) piece by piece, so that memory does not grow with the file."""
    sha256, shape = hashlib.sha256(), rows

    def write(file: IO[bytes]) -> None:
        nonlocal shape
        for number, piece in enumerate(pieces):
            if number == 0:
                shape = (*rows, piece.shape[-1])
                header = io.BytesIO()
                np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
                _write_hashed(file, header.getvalue(), sha256)
            _write_hashed(file, np.ascontiguousarray(piece, dtype="<f4").tobytes(), sha256)

    write_whole(path, write, scratch)
    return LevelEntry(path.name, shape, "float32", sha256.hexdigest())


def _write_hashed(file: IO[bytes], content: bytes, sha256: hashlib._Hash) -> None:
    file.write(content)
    sha256.update(content)


def read_manifest(folder: Path) -> Manifest:
    """Read a split's manifest.

    Raises
    ------
    UserError
        If it is missing, damaged, edited, of another schema version, or not in the folder that it belongs in.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise UserError(f"{path} has schema {content['schema']}, this gaussad reads {SCHEMA}. {_rebuild(folder)}")
        if content != sealed(content):
            raise UserError(f"{path} was edited: it does not match its own digest. {_rebuild(folder)}")
        json.dumps(content, ensure_ascii=False).encode()  # fails on lone surrogates, which results cannot contain
        manifest = Manifest(
            dataset=str(content["dataset"]),
            category=str(content["category"]),
            split=str(content["split"]),
            recipe=_typed(Recipe(**content["recipe"])),
            images=tuple(_typed(ImageEntry(**image)) for image in content["images"]),
            levels={int(level): _level_entry(entry) for level, entry in content["levels"].items()},
            rules=content.get("rules"),
            versions=dict(content["versions"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UserError(f"cannot read {path} ({reason}). {_rebuild(folder)}") from None
    _check_place(folder, manifest)
    return manifest


def _check_place(folder: Path, manifest: Manifest) -> None:
    """Check that a split is in its own folder: one that was moved would be scored as another category or split."""
    own = split_folder(Path(), manifest.dataset, manifest.recipe, manifest.category, manifest.split)
    if folder.absolute().parts[-len(own.parts) :] != own.parts:
        raise UserError(
            f"{folder / MANIFEST} belongs in {own}: a folder was moved or renamed. Move it back, or run "
            "'gaussad extract' again with the same options."
        )


def read_features(folder: Path, manifest: Manifest, level: int) -> Features:
    """Read one level's features, checked against the manifest: (N, D) float32.

    Augmented features, (N, epochs, D), features of places, and others of more than :data:`ON_DISK` bytes are memory
    maps. Augmented features are not checked for NaN and infinity: call :func:`check_finite`.

    Raises
    ------
    UserError
        If the file is missing, damaged or changed, or holds NaN or infinity (the message names the image).
    """
    entry = manifest.levels[level]
    path = folder / entry.file
    if entry.spectra_sha256:
        raise UserError(f"the features of level {level} in {folder} were not kept. {_remake(folder)}")
    try:
        if sha256_of(path) != entry.sha256:
            raise UserError(f"{path} was cut short or changed: it does not match its manifest. {_rebuild(folder)}")
        stays = manifest.recipe.epochs or manifest.recipe.grid or path.stat().st_size > ON_DISK
        values = np.load(path, allow_pickle=False, mmap_mode="r" if stays else None)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. {_rebuild(folder)}") from None
    except Exception as error:  # NumPy raises almost anything on a damaged header
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not an array of numbers ({reason}). {_rebuild(folder)}") from None
    if values.shape != entry.shape or str(values.dtype) != entry.dtype:
        raise UserError(f"{path} is {values.dtype} {values.shape}, unlike its manifest. {_rebuild(folder)}")
    if manifest.recipe.epochs:
        _check_shape(values, manifest, str(path))
    else:
        _check_form(values, manifest, str(path))
    return values


def spectra_path(category: Path, level: int) -> Path:
    """Return the path of the fitted spectra of a category's level."""
    return category / "spectra" / f"level_{level}.npz"


def forget_features(category: Path, levels: Iterable[int]) -> None:
    """Remove a category's training features; fitted spectra stand for them from now on.

    Raises
    ------
    UserError
        If the spectra are missing, or the folder cannot be written.
    """
    folder = category / "train"
    manifest = read_manifest(folder)
    entries = dict(manifest.levels)
    for level in levels:
        path = spectra_path(category, level)
        if not path.is_file():
            raise UserError(f"{path} is missing, so the features are kept: run 'gaussad fit' first.")
        entries[level] = dataclasses.replace(entries[level], spectra_sha256=sha256_of(path))
    _write_manifest(folder, dataclasses.replace(manifest, levels=entries))
    for level in levels:
        (folder / entries[level].file).unlink(missing_ok=True)


def whole_levels(folder: Path, recipe: Recipe, images: Sequence[ImageEntry]) -> dict[int, LevelEntry]:
    """Return the complete, undamaged levels of exactly these images; none if the split is not in the cache."""
    try:
        manifest = read_manifest(folder)
    except UserError:
        return {}
    if manifest.recipe != recipe or manifest.images != tuple(images):
        return {}
    return {level: entry for level, entry in manifest.levels.items() if _is_whole(folder, level, entry)}


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with its own digest, so that an edit, of a label for example, is detected."""
    plain = json.loads(json.dumps({name: value for name, value in content.items() if name != "digest"}))
    return {**plain, "digest": digest(plain)}


def _typed(entry: _Entry) -> _Entry:
    """Return an entry read from JSON if its values, text and integers, have the types of their fields."""
    for own in dataclasses.fields(entry):
        if type(getattr(entry, own.name)).__name__ != own.type:
            raise TypeError(f"{own.name} is not {own.type}")
    return entry


def _level_entry(entry: Mapping[str, Any]) -> LevelEntry:
    name = Path(str(entry["file"])).name  # never outside the split's folder
    shape, stands_for_it = tuple(map(int, entry["shape"])), str(entry.get("spectra_sha256", ""))
    return LevelEntry(name, shape, str(entry["dtype"]), str(entry["sha256"]), stands_for_it)


def _is_whole(folder: Path, level: int, entry: LevelEntry) -> bool:
    try:
        if entry.spectra_sha256:
            return sha256_of(spectra_path(folder.parent, level)) == entry.spectra_sha256
        return sha256_of(folder / entry.file) == entry.sha256
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def _check_form(values: NDArray[Any], manifest: Manifest, where: str) -> None:
    """Check that features are float32, have a row per image (and epoch), and are finite."""
    _check_shape(values, manifest, where)
    check_finite(values, manifest, where)


def _check_shape(values: NDArray[Any], manifest: Manifest, where: str) -> None:
    rows = manifest.rows
    if values.dtype != np.float32 or values.shape[:-1] != rows or values.ndim != len(rows) + 1 or not values.shape[-1]:
        expected = ", ".join(map(str, rows))
        raise UserError(
            f"{where}: features must be ({expected}, D) float32, a row per image, not {values.dtype} {values.shape}."
        )
    if (grid := manifest.recipe.grid) and values.shape[-1] % grid**2:
        raise UserError(
            f"{where}: D = {values.shape[-1]} is no multiple of {grid**2}, and the recipe has {grid} x {grid} places."
        )


def check_finite(values: NDArray[Any], manifest: Manifest, where: str) -> None:
    """Check that features are finite, image by image.

    Raises
    ------
    ImageError
        If one is not; the message names the first such image.
    """
    finite = np.array([bool(np.isfinite(of_image).all()) for of_image in values])
    if not finite.all():
        _check_finite(
            np.where(finite, 0.0, np.nan)[:, None], [f"{manifest.category}/{i.name}" for i in manifest.images], where
        )


def _check_finite(values: NDArray[Any], names: Sequence[str], where: str) -> None:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        first, *others = (name for name, is_bad in zip(names, bad, strict=True) if is_bad)
        more = f" and {len(others)} more" if others else ""
        raise ImageError(f"{where}: NaN or infinite features for image {first}{more}. Check the image and the weights.")


def _rebuild(folder: Path) -> str:
    return f"Run 'gaussad extract' again with the same options: it rebuilds what is missing or damaged in {folder}."


def _remake(folder: Path) -> str:
    return f"Remove {folder.parent} and run 'gaussad extract' again."


def versions() -> dict[str, str]:
    """Return versions of libraries that may change a last digit; they are recorded, but not hashed into the key."""
    versions = {"python": platform.python_version(), "gaussad": metadata.version("gaussad")}
    return versions | {name: version for name in _LIBRARIES if (version := version_of(name))}


def version_of(package: str) -> str:
    """Return the version of an installed package without importing it; "" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


# --- shards of an unfinished split ---

PARTIAL = "partial"  # folder of shards and temporary files: it is removed when the split is complete


@dataclass(frozen=True)
class Shard:
    """Consecutive images of a split, committed together.

    The file is named after its images and levels, so that shards of other images or levels are never mistaken for it.
    The images' hashes are inside.
    """

    path: Path
    images: tuple[str, ...]  # <category>/<name>, for messages
    levels: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path, start: int, images: Sequence[str], levels: Sequence[int]) -> Shard:
        """Return the shard of a split's images that begins with number `start`."""
        name = f"shard_{start:06d}_{digest([list(images), list(levels)])[:16]}.npz"
        return cls(folder / PARTIAL / name, tuple(images), tuple(levels))

    def write(self, hashes: Sequence[str], features: Mapping[int, Features]) -> None:
        """Commit the images' SHA-256 and their (n, D) features per level.

        Raises
        ------
        UserError
            If a feature is NaN or infinite (the message names the image), or the folder cannot be written.
        """
        for level, values in features.items():
            _check_finite(values, self.images, f"level {level}")
        write_arrays(self.path, {"sha256": np.array(hashes), **{_member(k): v for k, v in features.items()}})

    def read_hashes(self) -> list[str] | None:
        """Return the images' SHA-256, or None if the shard is missing or damaged."""
        arrays = read_arrays(self.path)  # reads everything: a damaged member must be found now
        if arrays is None or not {"sha256", *map(_member, self.levels)} <= arrays.keys():
            return None
        return [str(value) for value in arrays["sha256"]]

    def read_level(self, level: int) -> Features:
        """Return one level's (n, D) features of a shard that `read_hashes` found undamaged."""
        with np.load(self.path, allow_pickle=False) as arrays:
            return np.asarray(arrays[_member(level)])


def join_shards(folder: Path, manifest: Manifest, shards: Sequence[Shard]) -> Manifest:
    """Write the split's level files and manifest from its shards, in order, then remove the shards."""
    levels = {level: _read_level(shards, level) for level in shards[0].levels}
    declared = _write_levels(folder, manifest, levels, scratch=folder / PARTIAL)
    remove_shards(folder)
    return declared


def _read_level(shards: Sequence[Shard], level: int) -> Iterator[Features]:
    yield from (shard.read_level(level) for shard in shards)


def remove_shards(folder: Path) -> None:
    """Remove the shards and temporary files of a split."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def _member(level: int) -> str:
    return f"level_{level}"


# --- masks of the test images ---

MASKS = "masks.npz"  # beside the features of places of a test split, if the data set has masks
Mask = NDArray[np.bool_]


def write_masks(folder: Path, images: Sequence[ImageEntry], masks: Sequence[Mask | None], origins: list[str]) -> None:
    """Write the masks (H, W) of a test split's images, as bits; None for an image whose defect has no mask.

    Parameters
    ----------
    origins : SHA-256 of each image's mask file, "" if it has none

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    of_images = {"shapes": np.array([(0, 0) if mask is None else mask.shape for mask in masks], np.int64)}
    bits = np.concatenate([np.zeros(0, np.uint8), *(np.packbits(mask) for mask in masks if mask is not None)])
    write_arrays(folder / MASKS, {**_named(images, origins), **of_images, "bits": bits})


def has_masks(folder: Path, images: Sequence[ImageEntry], origins: list[str]) -> bool:
    """Whether the masks of exactly these images and mask files are there, undamaged."""
    arrays = read_arrays(folder / MASKS)
    return arrays is not None and all(
        name in arrays and np.array_equal(arrays[name], values) for name, values in _named(images, origins).items()
    )


def read_masks(folder: Path, manifest: Manifest) -> list[Mask | None] | None:
    """Read the masks of a test split.

    Returns
    -------
    A mask (H, W) for each image of the manifest, at the image's own size: all False for a normal image, None for an
    anomalous image that has no mask. None in place of the list: the data set has no masks.

    Raises
    ------
    UserError
        If the masks are damaged, or of other images.
    """
    path = folder / MASKS
    if not path.exists():
        return None
    arrays = read_arrays(path)
    if arrays is None:
        raise UserError(f"{path} is damaged. {_rebuild(folder)}")
    try:
        is_ours = all(np.array_equal(arrays[name], values) for name, values in _named(manifest.images).items())
        masks = list(_unpack(arrays["bits"], arrays["shapes"].tolist()))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} does not hold masks ({error}). {_rebuild(folder)}") from None
    if not is_ours or len(masks) != len(manifest.images):
        raise UserError(f"{path} holds masks of other images than {folder / MANIFEST}. {_rebuild(folder)}")
    return masks


def _named(images: Sequence[ImageEntry], origins: list[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays that say which images, and mask files if they are given, the masks are of."""
    named = {"names": np.array([image.name for image in images]), "images": np.array([i.sha256 for i in images])}
    return named if origins is None else {**named, "origins": np.array(origins)}


def _unpack(bits: NDArray[np.uint8], shapes: Iterable[tuple[int, int]]) -> Iterator[Mask | None]:
    start = 0
    for height, width in shapes:
        stop = start + -(-height * width // 8)  # whole bytes
        if stop > len(bits):  # NumPy would take the missing ones for zeros
            raise ValueError("bits are missing")
        mask = np.unpackbits(bits[start:stop], count=height * width).reshape(height, width).astype(bool)
        yield mask if mask.size else None
        start = stop


# --- named arrays: shards, masks and fitted spectra ---


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays, and their digest, as one ``.npz``."""
    content = {**arrays, _DIGEST: np.array(digest_arrays(arrays))}
    write_whole(path, lambda file: np.savez(file, **content))  # type: ignore[arg-type]


def read_arrays(path: Path, sha256: str = "") -> dict[str, NDArray[Any]] | None:
    """Read the arrays of :func:`write_arrays`.

    Parameters
    ----------
    sha256 : of the file, if a manifest records it; it then takes the place of the digest inside, which older files lack

    Returns
    -------
    None if the arrays are missing, damaged or edited: they can be computed again.
    """
    try:
        if sha256 and sha256_of(path) != sha256:
            return None
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        own = str(arrays.pop(_DIGEST, ""))
        return arrays if sha256 or own == digest_arrays(arrays) else None
    except Exception:  # a damaged zip raises almost anything
        return None


_DIGEST = "digest"  # the name of the array that holds it


def digest_arrays(arrays: Mapping[str, NDArray[Any]], text: str = "") -> str:
    """Return the SHA-256 of a text and of named arrays, with their types and shapes, whatever their order."""
    sha256 = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        sha256.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # tobytes() would copy it
    return sha256.hexdigest()


# --- finding extractions ---


@dataclass(frozen=True)
class Extraction:
    """One key's folder in the cache: the features of one data set, made by one recipe."""

    dataset: str
    folder: Path
    recipe: Recipe

    def split(self, category: str, split: str) -> Path:
        """Return the folder of a split. Test images are never augmented: their features are the plain recipe's."""
        return (self.folder if split == "train" else self.plain) / category / split

    @property
    def plain(self) -> Path:
        """The folder of the original images' features, which has another key if this recipe has epochs."""
        return self.folder.parent / self.recipe.plain().key if self.recipe.epochs else self.folder

    def categories(self) -> list[str]:
        """Return the categories that have both splits."""
        done = (path.parent.parent.name for path in self.folder.glob(f"*/train/{MANIFEST}"))
        return sorted(name for name in done if (self.split(name, "test") / MANIFEST).is_file())


def find_extractions(cache: Path, backbone: str, dataset: str | None = None) -> list[Extraction]:
    """Return a backbone's extractions, of one data set or of all, that have a complete category.

    Raises
    ------
    UserError
        If a manifest cannot be read.
    """
    found = []
    for folder in sorted(cache.glob(f"{escape(dataset) if dataset else '*'}/{escape(backbone_folder(backbone))}/*/")):
        name = folder.parent.parent.name
        if any(folder.glob(f"*/train/{MANIFEST}")):
            extraction = Extraction(name, folder, _first_recipe(folder))
            found += [extraction] if extraction.categories() else []
    return found


def _first_recipe(folder: Path) -> Recipe:
    """Return the recipe of a key's folder from the first readable manifest."""
    splits = [path.parent for path in sorted(folder.glob(f"*/train/{MANIFEST}"))]
    for split in splits[:-1]:
        with suppress(UserError):
            return read_manifest(split).recipe
    return read_manifest(splits[-1]).recipe
