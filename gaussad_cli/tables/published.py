"""Cells that others have published: `published.csv` holds Tables I to V, VII and VIII of the paper, transcribed whole.

Table IV comes with three numbers from the text of section IV, for features without augmentation. The cells of "places"
are not the paper's: they are quoted from other implementations of PaDiM and PatchCore, see `places.py`.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

from gaussad_cli.datasets.download import SOURCES
from gaussad_cli.tables.known import NUMBERS

MVTEC_CATEGORIES = SOURCES["mvtec"].categories  # the published means are over these 15


def read_published() -> pd.DataFrame:
    """Return the published cells: text columns, with `table`, `var`, `sigma`, `mean` and `sem` as numbers (percent)."""
    with resources.files("gaussad_cli.tables").joinpath("published.csv").open(encoding="utf-8") as file:
        cells = pd.read_csv(file, dtype=str, keep_default_na=False)
    numbers = {name: pd.to_numeric(cells[name]) for name in ("var", "sigma", "mean", "sem")}
    return cells.assign(table=cells["table"].map(NUMBERS), **numbers)
