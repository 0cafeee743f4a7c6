"""The paper's own cells: `published.csv` holds Tables I to V, VII and VIII, transcribed whole.

Table IV comes with three numbers from the text of section IV, for features without augmentation.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

from gaussad_cli.datasets.download import SOURCES

MVTEC_CATEGORIES = SOURCES["mvtec"].categories  # the published means are over these 15


def read_published() -> pd.DataFrame:
    """Return the published cells: text columns, with `var`, `sigma`, `mean` and `sem` as numbers (percent)."""
    with resources.files("gaussad_cli.tables").joinpath("published.csv").open(encoding="utf-8") as file:
        cells = pd.read_csv(file, dtype=str, keep_default_na=False)
    return cells.assign(**{name: pd.to_numeric(cells[name]) for name in ("table", "var", "sigma", "mean", "sem")})
