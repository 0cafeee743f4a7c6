"""The experiment files that come with gaussad, by name; importing this loads nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from gaussad_cli.errors import UserError, did_you_mean

_PACKAGE = Path(__file__).parents[1]
_SUFFIX = ".yaml"


def folder() -> Path:
    """Return `configs/`: a folder of the installed package, or of the source tree, where it lies beside the package."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """Return the names of the experiments, such as "table3"."""
    return sorted(path.stem for path in folder().glob(f"*{_SUFFIX}"))


def find_experiment(given: str) -> Path:
    """Return the file of an experiment that comes with gaussad, or else the path that is given.

    Parameters
    ----------
    given : a name, such as "table3", or a path; a file that has one of the names is meant by ./table3

    Raises
    ------
    UserError
        If it is a bare word, neither a known name nor an existing file.
    """
    if given in names():
        return folder() / f"{given}{_SUFFIX}"
    path = Path(given)
    if path.suffix or os.sep in given or path.exists():
        return path
    raise UserError(
        f"no experiment '{given}'.{did_you_mean(given, names())} Known: {', '.join(names())}. "
        "A file of your own is given by its path, such as my.yaml."
    )
