"""Several models in one process: a folder with screw.gaussad, nut.gaussad, ..., and which of them scores an image.

A model is read when it is first needed, and stays. Models that carry the same network share one engine.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gaussad_cli.datasets.images import is_folder, is_hidden, readable_folders
from gaussad_cli.detector.container import read_levels
from gaussad_cli.detector.look import without_gpu
from gaussad_cli.detector.models import Columns, Engines, Opening, ReadyModel, open_model
from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.extraction.engine import Compute

SUFFIX = ".gaussad"
_NAMED = 5  # models that a message names
_COLUMNS = ("path", "model")  # of a list


def open_models(path: Path, opening: Opening, listed: Mapping[Path, str] | None = None) -> ModelFolder | ReadyModel:
    """Open a model file, or a folder of them; see :class:`ModelFolder`.

    Raises
    ------
    UserError
        If an option cannot be used, the file is no model, or the folder has none.
    """
    if is_folder(path):
        return ModelFolder(path, opening, listed)
    if listed is not None:
        raise UserError(f"--csv says which of several models scores an image: give a folder of models, not {path}.")
    return open_model(path, opening)


def open_all(path: Path, opening: Opening) -> dict[str, ReadyModel]:
    """Open a model file, or all of a folder, now; return the models by their names.

    Raises
    ------
    UserError
        If one of them cannot be used.
    """
    models = open_models(path, opening)
    if isinstance(models, ReadyModel):
        return {path.name.removesuffix(SUFFIX): models}
    return {name: models.open(name) for name in models.files}


class ModelFolder:
    """The models of a folder: `screw.gaussad` under the name "screw".

    An image's model is the one that a list names for it, or, without a list, the one that is named after a folder on
    the image's path, the nearest one. A model that cannot be used gives its images an error, and the others go on.

    Parameters
    ----------
    opening : its threshold and weights are those of one model, so they are None here
    listed : image -> name of a model

    Raises
    ------
    UserError
        If the folder has no model, or an option cannot be used.
    """

    def __init__(self, folder: Path, opening: Opening, listed: Mapping[Path, str] | None = None) -> None:
        _check_options(opening)
        self.folder, self.files = folder, find_models(folder)
        self._opening = replace(opening, compute=without_gpu(opening.compute))
        self.compute.choose()  # says now what is wrong with the options
        self._listed, self._engines = listed, Engines()
        self._opened: dict[str, ReadyModel | UserError] = {}
        self._levels = {name: levels for name in self.files if (levels := self._read_levels(name))}

    def _read_levels(self, name: str) -> tuple[tuple[int, ...], bool] | None:
        try:
            return read_levels(self.files[name])
        except UserError as error:  # its images will be told again
            self._opening.say(str(error))
            return None

    @property
    def columns(self) -> Columns:
        """The columns that predictions of any of the models have."""
        pooled = {level for levels, has_places in self._levels.values() if not has_places for level in levels}
        has_places = any(has_places for _, has_places in self._levels.values())
        return Columns(tuple(sorted(pooled)), has_places, has_model=True)

    @property
    def pooled(self) -> tuple[str, ...]:
        """The names of the models that have no heat maps."""
        return tuple(name for name, (_, has_places) in self._levels.items() if not has_places)

    @property
    def compute(self) -> Compute:
        """How features are computed."""
        return self._opening.compute

    def name_for(self, path: Path) -> str:
        """Return the name of the model that scores an image; "" if none does."""
        if self._listed is not None:
            return self._listed.get(path, "")
        folders = Path(os.path.abspath(path)).parts[:-1]  # noqa: PTH100 (a link's own name counts, not its target's)
        return next((name for name in reversed(folders) if name in self.files), "")

    def model_for(self, path: Path) -> ReadyModel:
        """Return the model that scores an image, and open it if it is not.

        Raises
        ------
        UserError
            If there is none, or it cannot be used.
        """
        if name := self.name_for(path):
            return self.open(name)
        raise UserError(f"{path} has no model: no folder on its path is called {_names(self.files)}.")

    def open(self, name: str) -> ReadyModel:
        """Return a model by its name, and open it if it is not.

        Raises
        ------
        UserError
            If there is none of this name, or it cannot be used.
        """
        if name not in self.files:
            raise UserError(f"{self.folder} has no model {name}{SUFFIX}.{did_you_mean(name, self.files)}")
        if name not in self._opened:
            self._opened[name] = self._open(name)
        opened = self._opened[name]
        if isinstance(opened, UserError):
            raise opened
        return opened

    def _open(self, name: str) -> ReadyModel | UserError:
        say = self._opening.say
        try:
            own = replace(self._opening, say=lambda text: say(f"{name}: {text}"))
            return open_model(self.files[name], own, name, self._engines)
        except UserError as error:
            return UserError(f"model {name}: {error}")


def find_models(folder: Path) -> dict[str, Path]:
    """Return the model files of a folder by their names, sorted.

    Raises
    ------
    UserError
        If there is none, or the folder cannot be read.
    """
    with readable_folders():
        found = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file())
    if not found:
        raise UserError(f"the folder {folder} holds no model: the names of models end in {SUFFIX}.")
    return {path.name.removesuffix(SUFFIX): path for path in found if not is_hidden(path.name)}


def _check_options(opening: Opening) -> None:
    if opening.threshold is not None:
        raise UserError("--threshold is a distance of one model, and here are several: give --fpr, or nothing.")
    if opening.weights is not None:
        raise UserError("--weights is of one model, and here are several: each carries its own.")
    if opening.fpr is not None and not 0.0 < opening.fpr < 1.0:
        raise UserError(f"--fpr {opening.fpr:g}: give a rate between 0 and 1.")


def _names(files: Mapping[str, Path]) -> str:
    """Name some models."""
    names = list(files)
    return " or ".join(names[:_NAMED]) + (" or ..." if len(names) > _NAMED else "")


# --- a list of images and their models ---


def read_list(path: Path) -> dict[Path, str]:
    """Read from a CSV file which model scores which image; its columns are path (from the file's folder) and model.

    Names of files may be of any bytes, as in :func:`gaussad_cli.detector.predict.list_names`.

    Raises
    ------
    UserError
        If the file cannot be read, has other columns, lists no image, or lists one twice.
    """
    listed: dict[Path, str] = {}
    for number, cells in _rows(path):
        if len(cells) != len(_COLUMNS) or not all(cells):
            raise UserError(f"{path}, line {number}: give a path and the name of a model, with a comma between them.")
        image = path.parent / cells[0]
        if image in listed:
            raise UserError(f"{path}, line {number}: {image} is listed twice.")
        listed[image] = cells[1].strip().removesuffix(SUFFIX)
    if not listed:
        raise UserError(f"{path} lists no image: write a line 'path,model', then a line for every image.")
    return listed


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of every row, path first, with their line numbers."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            columns = tuple(name.strip().casefold() for name in next(reader, []))
            if columns not in (_COLUMNS, _COLUMNS[::-1]):
                raise UserError(f"{path} has other columns than path and model: write 'path,model' in its first line.")
            order = 1 if columns == _COLUMNS else -1
            return [(reader.line_num, cells[::order]) for cells in reader if any(cells)]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file of text ({error}).") from None
