"""The Gaussians of places in the results: every network and setting, with its metrics, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from gaussad_cli.evaluation.rows import JOINT
from gaussad_cli.evaluation.scorings import SCORES
from gaussad_cli.tables.cells import VARIANT, CellSource, Variant, short_name, variants_of

OF_PLACES = {name: score.title for name, score in SCORES.items() if score.of_maps is not None}
COLUMNS = {
    "auroc": "image AUROC",
    "ap": "AP",
    "f1": "greatest F1",
    "fpr_95tpr": "FPR at 95 % TPR",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "pointing": "pointing",
}  # of metrics.csv, and their titles
_SETTING = [*VARIANT, "epochs", "level", "score", "mode", "var"]
PARTIAL = "†"  # marks a mean over some of the categories
_NONE = "-"


@dataclass(frozen=True)
class ShownPlaces:
    """A network's Gaussians of places, with one setting and one score of images.

    Attributes
    ----------
    title : names network, levels, setting and score
    percent : (categories, :data:`COLUMNS`), means over folds; NaN where one of the folds has none
    """

    title: str
    source: CellSource
    level: str
    percent: pd.DataFrame

    def select(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return its rows of a results file."""
        chosen = self.source.select(rows)
        return chosen[chosen["level"] == self.level]

    @property
    def categories(self) -> list[str]:
        """Those that it was evaluated on."""
        return list(self.percent.index)

    @property
    def lines(self) -> dict[str, list[str]]:
        """The numbers of each category, in the order of the columns."""
        numbers = self.percent[list(COLUMNS)].to_numpy()
        return {name: [_number(value) for value in row] for name, row in zip(self.categories, numbers, strict=True)}

    @property
    def means(self) -> list[str]:
        """The mean ± SEM over categories of each column; a dagger marks those that only some of the categories have."""
        return [self.mean(column) for column in COLUMNS]

    def mean(self, column: str) -> str:
        """Return the mean ± SEM of a column, over the categories that have a number."""
        values = self.percent[column].dropna()
        sem = f" ± {values.sem(ddof=1):.1f}" if len(values) > 1 else ""
        mark = PARTIAL if 0 < len(values) < len(self.percent) else ""
        return f"{_number(values.mean())}{sem}{mark}"


def _number(value: float) -> str:
    return _NONE if pd.isna(value) else f"{value:.1f}"


def find_places(metrics: pd.DataFrame) -> list[ShownPlaces]:
    """Return every network, setting and score of places.

    The highest mean image AUROC over the categories that all of them share, if they share any, comes first.
    """
    rows = metrics[metrics["score"].isin(OF_PLACES)]
    variants = variants_of(rows)
    found = [_measure(of_setting, variants) for _, of_setting in rows.groupby(_SETTING, dropna=False)]
    shared = sorted(set.intersection(*(set(places.categories) for places in found))) if found else []

    def order(places: ShownPlaces) -> float:
        mean = (places.percent.loc[shared] if shared else places.percent)["auroc"].mean()
        return 1.0 if pd.isna(mean) else -float(mean)

    return sorted(found, key=order)


def _measure(rows: pd.DataFrame, variants: Sequence[Variant]) -> ShownPlaces:
    first = rows.iloc[0]
    variant = Variant(*(str(first[column]) for column in VARIANT))
    var = None if pd.isna(first["var"]) else float(first["var"])
    source = CellSource(variant, first["score"], first["mode"], var, int(first["epochs"]))
    percent = 100 * rows.groupby("category")[list(COLUMNS)].agg(lambda folds: folds.mean(skipna=False))
    title = _title(source, first["level"], short_name(variant, variants))
    return ShownPlaces(title, source, first["level"], percent)


def _title(source: CellSource, level: str, network: str) -> str:
    kept, _, others = source.mode.partition(" ")
    epochs = f"{source.epochs} epochs" if source.epochs else ""
    compression = "no compression" if source.var is None else f"{kept.upper()} {100 * source.var:g}%"
    parts = [network, f"levels {level.removeprefix(f'{JOINT}:')}", epochs, compression, others]
    return f"{', '.join(filter(None, parts))}: {OF_PLACES[source.score]}"
