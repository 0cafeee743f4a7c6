"""The paper's own cells (`published.csv`, transcribed whole: Tables I to V, VII and VIII).

With Table IV go three numbers from the text of section IV, of features without augmentation.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

# The means of the published tables are over these (PROTOCOL: data).
MVTEC_CATEGORIES = (
    "bottle",
    "cable",
    "capsule",
    "carpet",
    "grid",
    "hazelnut",
    "leather",
    "metal_nut",
    "pill",
    "screw",
    "tile",
    "toothbrush",
    "transistor",
    "wood",
    "zipper",
)


def read_published() -> pd.DataFrame:
    """Return the published cells: text columns, with `var`, `sigma`, `mean` and `sem` as numbers (percent)."""
    with resources.files("gaussad_cli.tables").joinpath("published.csv").open(encoding="utf-8") as file:
        cells = pd.read_csv(file, dtype=str, keep_default_na=False)
    return cells.assign(**{name: pd.to_numeric(cells[name]) for name in ("table", "var", "sigma", "mean", "sem")})
