"""Made-up results of two folders."""

from pathlib import Path

import numpy as np
import pandas as pd

from gaussad_cli.compare.differences import compare_sides
from gaussad_cli.compare.sides import ResultsFilter, Side
from gaussad_cli.evaluation.manifests import Cell, Images, Origin, Record, ResultsManifest

FIVE = np.array([0.01, -0.02, 0.0, 0.02, -0.01])


def rows(auroc=(("bottle", 0.9), ("screw", 0.4)), folds=FIVE, **columns):
    """Five folds per category of one scoring."""
    key = {"dataset": "d", "backbone": "net", "weights": "w", "padding": "tf", "epochs": 0.0, "key": "k1"}
    key |= {"level": "1", "score": "l2", "mode": "all", "var": np.nan, "n_train": 8, "dim": 4, "shrinkage": np.nan}
    key |= {f"{rate}_{sigma}s": np.nan for sigma in range(1, 6) for rate in ("fpr", "tpr")}
    key |= dict.fromkeys(("ap", "f1", "fpr_95tpr", "pixel_auroc", "aupro", "pointing"), np.nan)
    return pd.DataFrame(
        {**key, "category": category, "fold": fold, "auroc": mean + off} | columns
        for category, mean in auroc
        for fold, off in enumerate(folds)
    )


def side(name, *parts, manifests=()):
    metrics = pd.concat(parts, ignore_index=True)
    return Side(name, Path(name), "d", metrics, {(one.backbone, one.key): one for one in manifests})


def compared(a, b, **choice):
    return compare_sides(side("A", *a), side("B", *b), ResultsFilter(**choice))


def manifest(key="k1", n=8, numpy="1", **recipe):
    images = {"train": Images(n, f"{n:064x}", {}), "test": Images(6, "b" * 64, {})}
    record = Record(Origin(images, {"numpy": numpy}), (Cell("l2", "all", None, "1"),))
    return ResultsManifest(
        "d", "net", key, {"weights": "label", **recipe}, {"n": 5}, {"bottle": (record,), "screw": (record,)}
    )
