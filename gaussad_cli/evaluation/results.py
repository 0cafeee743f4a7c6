"""The results folder; only this module writes and reads it.

``<results>/<dataset>/metrics.csv``: one row per category, backbone, level, scoring and fold.
``<results>/<dataset>/thresholds.csv``: one row per scoring, threshold method, target false-positive rate and fold.
``<results>/<dataset>/sweeps.csv``: one row per level, PCA or NPCA, and number of kept components, mean over folds.
``<results>/<dataset>/histories.csv``: one row per trained network, fold and epoch.
``<results>/<dataset>/scores/<category>.csv``: one row per test image and scoring: the distances behind every AUROC.
``<results>/<dataset>/maps/<category>-<backbone>-<key>-<levels>-<mode>.npz``: heat maps of the test images.
``<results>/<dataset>/manifests/<backbone>-<key>.json``: how rows were made, see `manifests.py`.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gaussad_cli.datasets.folds import N_FOLDS
from gaussad_cli.datasets.index import SPLITS, check_holds, find_categories
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests
from gaussad_cli.evaluation.rows import JOINT, NETWORK, SUM, CategoryRows
from gaussad_cli.extraction.store import read_arrays, write_arrays
from gaussad_cli.files import fit_name, is_name, locked, sha256_of, write_whole, writing
from gaussad_cli.gaussian.thresholds import SIGMAS

EXTRACTION = ["backbone", "weights", "padding", "epochs", "key"]  # identifies an extraction
IDENTITY = ["dataset", "category", *EXTRACTION, "level", "score", "mode", "var"]
RATES = [f"{rate}_{sigma}s" for sigma in SIGMAS for rate in ("fpr", "tpr")]
ADDED = [
    "ap",
    "f1",
    "fpr_95tpr",
    "pixel_auroc",
    "aupro",
    "pointing",
]  # empty in rows of a gaussad that did not have them yet
METRICS = [*IDENTITY, "fold", "n_train", "dim", "shrinkage", "auroc", *RATES, *ADDED]
SCORES_COLUMNS = [*IDENTITY, "image", "label", "anomalous", "distance", *(f"fold_{fold}" for fold in range(5))]

THRESHOLDS = [
    *IDENTITY,
    *("method", "target", "fold", "n_held_out", "threshold", "n_normal", "fpr", "fpr_low", "fpr_high", "tpr"),
    *("drift", "drift_p"),
]
SWEEPS = [*IDENTITY, "dim", "auroc"]
HISTORIES = [*IDENTITY, "fold", "epoch", "train_loss", "valid_loss", "valid_auroc", "best"]


def metrics_path(results: Path, dataset: str) -> Path:
    """Return the path of a data set's metrics."""
    return results / dataset / "metrics.csv"


def thresholds_path(results: Path, dataset: str) -> Path:
    """Return the path of a data set's thresholds."""
    return results / dataset / "thresholds.csv"


def save(
    results: Path, dataset: str, category: str, rows: CategoryRows, manifest: manifests.ResultsManifest | None = None
) -> None:
    """Add a category's rows to the results: rows of the same identity are replaced, all others stay.

    Parameters
    ----------
    manifest : how the metrics were made

    Raises
    ------
    UserError
        If existing files are not gaussad's, hold rows that come from other images, or cannot be written.
    """
    for name in (dataset, category):
        if not is_name(name):
            raise UserError(f"'{name}' is not the plain name of a data set or category: no results are written.")
    folder = results / dataset
    files = {
        _scores_path(folder, category): (rows.scores, SCORES_COLUMNS),
        thresholds_path(results, dataset): (rows.thresholds, THRESHOLDS),
        folder / "histories.csv": (rows.histories, HISTORIES),
        folder / "sweeps.csv": (rows.sweeps, SWEEPS),
        metrics_path(results, dataset): (rows.metrics, METRICS),
    }
    with locked([folder]):  # otherwise, rows that another process merges meanwhile would be lost
        # The manifest is read first and written last: if it is damaged, no rows are written.
        merged = None if manifest is None else manifests.add(folder, manifest)
        if merged is not None:
            own = manifests.path_of(folder, merged)
            manifests.check_images(folder, [merged, *map(manifests.read, manifests.paths(folder) - {own})])
        for path, (frame, columns) in files.items():
            if frame is not None:
                _merge(path, frame, columns)
        if merged is not None:
            manifests.write(folder, merged)


def save_maps(results: Path, row: Mapping[str, object], names: Sequence[str], maps: NDArray[np.floating]) -> None:
    """Write the heat maps of a category's test images, as half-precision numbers.

    Parameters
    ----------
    row : a row of the metrics that the maps belong to
    names : of the m images
    maps : (m, g, g)

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    half = np.clip(maps, 0.0, np.finfo(np.float16).max).astype(np.float16)
    write_arrays(maps_path(results, row), {"names": np.array(names), "maps": half})


def read_maps(results: Path, row: Mapping[str, object]) -> dict[str, NDArray[np.float32]] | None:
    """Read the heat maps that a row of the metrics belongs to, (g, g) by the image's name; None if there is no file.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    path = maps_path(results, row)
    if not path.is_file():
        return None
    arrays = read_arrays(path) or {}
    names, maps = (arrays.get(name, np.empty(0)) for name in ("names", "maps"))
    if names.shape != maps.shape[:1] or maps.ndim != 3 or maps.dtype != np.float16:
        raise UserError(f"{path} is damaged. Move it away and run gaussad evaluate --score places --maps again.")
    return dict(zip(map(str, names), maps.astype(np.float32), strict=True))


def remove_maps(results: Path, row: Mapping[str, object]) -> None:
    """Remove the heat maps of a row of the metrics, if there are any. Raises UserError if they cannot be removed."""
    path = maps_path(results, row)
    with writing(path):
        path.unlink(missing_ok=True)


def maps_path(results: Path, row: Mapping[str, object]) -> Path:
    """Return the path of the heat maps that a row of the metrics belongs to."""
    var = "" if pd.isna(row["var"]) else f"{row['var']:g}"
    what = [row["backbone"], row["key"], row["level"], *str(row["mode"]).split(), var]
    name = "-".join(str(part) for part in (row["category"], *what) if part != "").replace(":", "-")
    return results / str(row["dataset"]) / "maps" / fit_name(name, ".npz")


def _scores_path(folder: Path, category: str) -> Path:
    return folder / "scores" / fit_name(category, ".csv")


def check_data(results: Path, dataset: str, data: Path, chosen: Collection[str]) -> None:
    """Check, before any work, that the results of a data set's name are of the images in a folder.

    Parameters
    ----------
    data : the data set's folder, which may have moved
    chosen : categories to be evaluated: they are left to :func:`save`, which knows the hashes of their images

    Raises
    ------
    UserError
        If the folder lacks a category that has results, or holds other images of one.
    """
    folder = results / dataset
    known = manifests.contents(read_manifests(results, dataset))
    check_holds(data, known, folder)
    for name in sorted(set(known) - set(chosen)):
        present = _read_content(data, name)
        if present and known[name] and present not in known[name]:
            raise UserError(
                f"{folder} holds results of other images of category '{name}' than {data} does, and results of "
                "different data must not share a mean. If this is another data set, name it with --dataset NAME; if "
                f"you have changed its images, evaluate it too, or move {folder} away."
            )


def _read_content(data: Path, name: str) -> manifests.Content | None:
    """Read the images of a category; None if it cannot be read, which is no reason to refuse others."""
    try:
        (category,) = find_categories(data, [name])
        return manifests.content_of(
            {
                split: manifests.Images.of((i.name, i.label, sha256_of(i.path)) for i in category.split(split))
                for split in SPLITS
            }
        )
    except (UserError, OSError):
        return None


def read_manifests(results: Path, dataset: str) -> list[manifests.ResultsManifest]:
    """Read all manifests of a data set, sorted by file name; old results may have none.

    Raises
    ------
    UserError
        If a manifest is damaged.
    """
    return [manifests.read(path) for path in sorted(manifests.paths(results / dataset))]


def read_metrics(results: Path, dataset: str | None) -> pd.DataFrame:
    """Read the metrics of one data set, which need not be named if it is the only one.

    Raises
    ------
    UserError
        If there are no metrics, or there are several data sets and none is named.
    """
    return _read_numbers(metrics_path(results, choose_dataset(results, dataset)), METRICS)


def choose_dataset(results: Path, dataset: str | None) -> str:
    """Return the name of the data set's folder: the given name, or else that of the only data set.

    Raises
    ------
    UserError
        If it has no metrics, or there are several data sets and none is named.
    """
    if dataset is None:
        names = sorted(path.parent.name for path in results.glob("*/metrics.csv"))
        if len(names) > 1:
            raise UserError(f"{results} holds several data sets: choose with --dataset {' or '.join(names)}.")
        dataset = names[0] if names else None
    path = metrics_path(results, dataset) if dataset else results / "<dataset>" / "metrics.csv"
    if dataset is None or not path.is_file():
        raise UserError(f"no results: {path} is missing. Run first: gaussad evaluate --backbone NAME --out {results}")
    return dataset


def read_scores(results: Path, dataset: str, category: str) -> pd.DataFrame:
    """Read the distances of a category's test images; there are no rows if there is no file.

    Raises
    ------
    UserError
        If the file is damaged, or of another category.
    """
    path = _scores_path(results / dataset, category)
    rows = _read_if_there(path, SCORES_COLUMNS)
    if not (rows["category"] == category).all():
        raise UserError(f"{path} has rows of another category: it was renamed or edited. {_REMEDY}")
    return rows


def read_thresholds(results: Path, dataset: str) -> pd.DataFrame:
    """Read the thresholds; there are no rows if there is no file. Raises UserError if the file is damaged."""
    return _read_if_there(thresholds_path(results, dataset), THRESHOLDS, {*_TEXT, "fold"})


def read_sweeps(results: Path, dataset: str) -> pd.DataFrame:
    """Read the sweeps over kept components; no rows if there is no file. Raises UserError if the file is damaged."""
    return _read_if_there(results / dataset / "sweeps.csv", SWEEPS)


_SOME = "[1-9][0-9]?([-,][1-9][0-9]?)*"
_LEVEL = rf"[1-9][0-9]?|{SUM}(:{_SOME})?|{JOINT}:{_SOME}|{NETWORK}"
_FOLDS = list(map(str, range(N_FOLDS)))
_COUNTS = {"epochs", "n_train", "dim", "n_held_out", "n_normal"}
_SHARES = {"auroc", "var", "target", "fpr", "fpr_low", "fpr_high", "tpr", "drift", "drift_p", "valid_auroc"}
_SHARES |= {*RATES, *ADDED}
_TEXT = {*IDENTITY, "image", "label", "method"} - {"var", "epochs"}


def _read_if_there(path: Path, columns: list[str], of_text: Set[str] = _TEXT) -> pd.DataFrame:
    return _read_numbers(path, columns, of_text) if path.is_file() else pd.DataFrame(columns=columns)


def _read_numbers(path: Path, columns: list[str], of_text: Set[str] = _TEXT) -> pd.DataFrame:
    text = _read(path, columns)
    numbers = [column for column in columns if column not in of_text]
    read = text.assign(**{column: pd.to_numeric(text[column], errors="coerce") for column in numbers})
    for column in numbers:
        _check_rows(path, text, column, read[column].isna() & (text[column] != ""), "not a number")
    for column in _SHARES.intersection(numbers):
        _check_rows(path, text, column, ~read[column].between(0, 1) & read[column].notna(), "not between 0 and 1")
    for column in _COUNTS.intersection(numbers):
        _check_rows(path, text, column, (read[column] < 0) | (read[column].dropna() % 1 != 0), "not a whole number")
    if columns == METRICS:
        _check_rows(path, text, "fold", text.duplicated([*IDENTITY, "fold"]), "a second row of the same fold")
        _check_rows(path, text, "fold", ~text["fold"].isin(_FOLDS), f"not one of {N_FOLDS} folds")
    return read


def _check_rows(path: Path, text: pd.DataFrame, column: str, wrong: pd.Series, problem: str) -> None:
    """Refuse a file with a value that gaussad does not write: no mean and no path is made of it."""
    if wrong.any():
        first = int(wrong.to_numpy().argmax())
        raise UserError(f"{path}, line {first + 2}: {column} is '{text[column].iloc[first]}', {problem}. {_REMEDY}")


def _merge(path: Path, rows: pd.DataFrame, columns: list[str]) -> None:
    """Merge rows into a file; other rows stay the same to the byte, because everything is handled as text.

    Only rows written before columns were added get these, empty.
    """
    new = _as_text(io.StringIO(rows.reindex(columns=columns).to_csv(index=False)))
    if path.exists():
        old = _read(path, columns)
        replaced = old.set_index(IDENTITY).index.isin(new.set_index(IDENTITY).index)
        new = pd.concat([old[~replaced], new], ignore_index=True)
    new = new.sort_values(IDENTITY, kind="stable")
    write_whole(path, lambda file: file.write(new.to_csv(index=False, lineterminator="\n").encode()))


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        text = _as_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}. {_REMEDY}") from None
    if columns == METRICS and [*text.columns, *ADDED] == METRICS:
        text = text.reindex(columns=METRICS, fill_value="")
    if list(text.columns) != columns:
        raise UserError(f"{path} does not have the columns of a gaussad results file. {_REMEDY}")
    if text.empty or (text[["dataset", "category", "level", "score"]] == "").any(axis=None) or _is_cut(path):
        raise UserError(f"{path} was cut short or edited. {_REMEDY}")
    for column in ("dataset", "category"):
        _check_rows(path, text, column, ~text[column].map(is_name), "not the plain name of a folder")
    _check_rows(path, text, "dataset", text["dataset"] != text["dataset"].iloc[0], "another data set than in line 2")
    _check_rows(path, text, "level", ~text["level"].str.fullmatch(_LEVEL), "not a level")
    return text


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"


def _as_text(source: Path | io.StringIO) -> pd.DataFrame:
    return pd.read_csv(source, dtype=str, keep_default_na=False)


_REMEDY = "Move it away and run gaussad evaluate again."
