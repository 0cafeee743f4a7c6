"""The results folder; only this module writes and reads it.

``<results>/<dataset>/metrics.csv``: one row per category, backbone, level, scoring and fold.
``<results>/<dataset>/thresholds.csv``: one row per scoring, threshold method, target false-positive rate and fold.
``<results>/<dataset>/sweeps.csv``: one row per level, PCA or NPCA, and number of kept components, mean over folds.
``<results>/<dataset>/histories.csv``: one row per trained network, fold and epoch.
``<results>/<dataset>/scores/<category>.csv``: one row per test image and scoring: the distances behind every AUROC.
``<results>/<dataset>/manifests/<backbone>-<key>.json``: how rows were made, see `manifests.py`.
"""

from __future__ import annotations

import io
from collections.abc import Set
from pathlib import Path

import pandas as pd

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import manifests
from gaussad_cli.evaluation.rows import CategoryRows
from gaussad_cli.files import locked, write_whole
from gaussad_cli.gaussian.thresholds import SIGMAS

EXTRACTION = ["backbone", "weights", "padding", "epochs", "key"]  # identifies an extraction
IDENTITY = ["dataset", "category", *EXTRACTION, "level", "score", "mode", "var"]
RATES = [f"{rate}_{sigma}s" for sigma in SIGMAS for rate in ("fpr", "tpr")]
METRICS = [*IDENTITY, "fold", "n_train", "dim", "shrinkage", "auroc", *RATES]
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
        If existing files are not gaussad's, or writing fails.
    """
    folder = results / dataset
    files = {
        folder / "scores" / f"{category}.csv": (rows.scores, SCORES_COLUMNS),
        thresholds_path(results, dataset): (rows.thresholds, THRESHOLDS),
        folder / "histories.csv": (rows.histories, HISTORIES),
        folder / "sweeps.csv": (rows.sweeps, SWEEPS),
        metrics_path(results, dataset): (rows.metrics, METRICS),
    }
    with locked([folder]):  # otherwise, rows that another process merges meanwhile would be lost
        # The manifest is read first and written last: if it is damaged, no rows are written.
        merged = None if manifest is None else manifests.add(folder, manifest)
        for path, (frame, columns) in files.items():
            if frame is not None:
                _merge(path, frame, columns)
        if merged is not None:
            manifests.write(folder, merged)


def read_manifests(results: Path, dataset: str) -> list[manifests.ResultsManifest]:
    """Read all manifests of a data set, sorted by file name; old results may have none.

    Raises
    ------
    UserError
        If a manifest is damaged.
    """
    return [manifests.read(path) for path in sorted((results / dataset / manifests.FOLDER).glob("*.json"))]


def read_metrics(results: Path, dataset: str | None) -> pd.DataFrame:
    """Read the metrics of one data set, which need not be named if it is the only one.

    Raises
    ------
    UserError
        If there are no metrics, or there are several data sets and none is named.
    """
    if dataset is None:
        names = sorted(path.parent.name for path in results.glob("*/metrics.csv"))
        if len(names) > 1:
            raise UserError(f"{results} holds several data sets: choose with --dataset {' or '.join(names)}.")
        dataset = names[0] if names else None
    path = metrics_path(results, dataset) if dataset else results / "<dataset>" / "metrics.csv"
    if dataset is None or not path.is_file():
        raise UserError(f"no results: {path} is missing. Run first: gaussad evaluate --backbone NAME --out {results}")
    return _read_numbers(path, METRICS)


def read_scores(results: Path, dataset: str, category: str) -> pd.DataFrame:
    """Read the distances of a category's test images; there are no rows if there is no file.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    return _read_if_there(results / dataset / "scores" / f"{category}.csv", SCORES_COLUMNS)


def read_thresholds(results: Path, dataset: str) -> pd.DataFrame:
    """Read the thresholds; there are no rows if there is no file. Raises UserError if the file is damaged."""
    return _read_if_there(thresholds_path(results, dataset), THRESHOLDS, {*_TEXT, "fold"})


def read_sweeps(results: Path, dataset: str) -> pd.DataFrame:
    """Read the sweeps over kept components; no rows if there is no file. Raises UserError if the file is damaged."""
    return _read_if_there(results / dataset / "sweeps.csv", SWEEPS)


_TEXT = {*IDENTITY, "image", "label", "method"} - {"var", "epochs"}


def _read_if_there(path: Path, columns: list[str], of_text: Set[str] = _TEXT) -> pd.DataFrame:
    return _read_numbers(path, columns, of_text) if path.is_file() else pd.DataFrame(columns=columns)


def _read_numbers(path: Path, columns: list[str], of_text: Set[str] = _TEXT) -> pd.DataFrame:
    text = _read(path, columns)
    numbers = [column for column in columns if column not in of_text]
    try:
        return text.assign(**{column: pd.to_numeric(text[column]) for column in numbers})
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. {_REMEDY}") from None


def _merge(path: Path, rows: pd.DataFrame, columns: list[str]) -> None:
    """Merge rows into a file; other rows stay the same to the byte, because everything is handled as text."""
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
    if list(text.columns) != columns:
        raise UserError(f"{path} does not have the columns of a gaussad results file. {_REMEDY}")
    if text.empty or (text[["dataset", "category", "level", "score"]] == "").any(axis=None) or _is_cut(path):
        raise UserError(f"{path} was cut short or edited. {_REMEDY}")
    return text


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"


def _as_text(source: Path | io.StringIO) -> pd.DataFrame:
    return pd.read_csv(source, dtype=str, keep_default_na=False)


_REMEDY = "Move it away and run gaussad evaluate again."
