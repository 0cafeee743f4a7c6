"""The outcome of a category's training as tidy rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gaussad_cli.datasets.index import Category
from gaussad_cli.evaluation.metrics import image_metrics
from gaussad_cli.evaluation.rows import CategoryRows, score_rows, undefined_auroc
from gaussad_cli.training.loop import FoldScores


def category_rows(
    identity: Mapping[str, object], category: Category, folds: Sequence[FoldScores], names: Mapping[str, str]
) -> CategoryRows:
    """Return the rows of a category.

    Parameters
    ----------
    identity : the columns that all rows share
    names : the objective's name of a score -> its name in the results
    """
    keys = {name: {**identity, "score": names[name], "mode": "", "var": None} for name in folds[0].scores}
    scores = pd.concat([_scores(key, category, folds, name) for name, key in keys.items()], ignore_index=True)
    return CategoryRows(
        metrics=pd.concat([_metrics(key, folds, name) for name, key in keys.items()], ignore_index=True),
        scores=scores,
        histories=_histories(next(iter(keys.values())), folds),
        warning=undefined_auroc(category.name, scores["anomalous"].to_numpy(bool)),
    )


def _metrics(key: Mapping[str, object], folds: Sequence[FoldScores], name: str) -> pd.DataFrame:
    return pd.DataFrame(
        {**key, "fold": fold.fold, "n_train": fold.n_train, **image_metrics(fold.scores[name], fold.anomalous)}
        for fold in folds
    )


def _scores(key: dict[str, object], category: Category, folds: Sequence[FoldScores], name: str) -> pd.DataFrame:
    """Return one row per image that a fold tests; in the folds that do not test it, it has no distance."""
    tested = {image for fold in folds for image in fold.names}
    images = [image for image in (*category.train, *category.test) if image.name in tested]
    row_of = {image.name: row for row, image in enumerate(images)}
    distances = np.full((len(folds), len(images)), np.nan)
    anomalous = np.zeros(len(images), dtype=bool)
    for of_fold, fold in zip(distances, folds, strict=True):
        rows = [row_of[image] for image in fold.names]
        of_fold[rows], anomalous[rows] = fold.scores[name], fold.anomalous
    return score_rows(key, images, anomalous, list(distances)).assign(distance=np.nanmean(distances, axis=0))


def _histories(key: Mapping[str, object], folds: Sequence[FoldScores]) -> pd.DataFrame:
    return pd.DataFrame(
        {**key, "fold": fold.fold, **dataclasses.asdict(row), "best": int(row.epoch == fold.best_epoch)}
        for fold in folds
        for row in fold.history
    )


def summarise_training(metrics: pd.DataFrame, histories: pd.DataFrame) -> str:
    """Return a text with the AUROCs per category and fold, and how many epochs each fold was trained."""
    percent = metrics.assign(percent=100 * metrics["auroc"])
    table = percent.pivot_table(index=["score", "category"], columns="fold", values="percent", sort=False, dropna=False)
    table["mean"] = table.mean(axis=1, skipna=False)
    epochs = histories.groupby("category", sort=False).apply(_epochs, include_groups=False)
    lines = ["AUROC in percent, by fold", table.to_string(float_format="{:.1f}".format, na_rep="-")]
    lines += [f"{category}: epochs by fold (the best): {text}" for category, text in epochs.items()]
    return "\n".join(lines)


def _epochs(rows: pd.DataFrame) -> str:
    per_fold = rows.groupby("fold")
    best = rows[rows["best"] == 1].set_index("fold")["epoch"]
    return ", ".join(f"{len(of_fold)} ({best[fold] + 1})" for fold, of_fold in per_fold)
