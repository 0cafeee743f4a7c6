"""Rebuild the authors' evaluation of cached features with scikit-learn's objects, and compare it with ours.

Usage, from the project's root: python -m scripts.protocol cache/DATASET/BACKBONE/KEY

Prints, per category, scoring and level, our AUROC (percent, mean over folds), and what keeping the component without
variance, as the authors' code does where n <= D, would change. Fails if ours differs from scikit-learn's by over 1e-6.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gaussad_cli.evaluation.category import open_category
from gaussad_cli.evaluation.evaluate import evaluate_category
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
from gaussad_cli.extraction import store
from tests import reference

TOLERANCE = 1e-6
KEYS = ["level", "score", "mode", "var", "fold"]


def compare(folder: Path) -> pd.DataFrame:
    """Return, per level, scoring and fold of a category, the AUROCs: ours, scikit-learn's, and with what we drop."""
    splits = {split: store.read_manifest(folder / split) for split in ("train", "test")}
    levels = sorted(splits["train"].levels)
    train, test = (
        {level: store.read_features(folder / split, manifest, level) for level in levels}
        for split, manifest in splits.items()
    )
    anomalous = np.array([image.label != "good" for image in splits["test"].images])
    extraction = store.Extraction("", folder.parent, splits["train"].recipe)
    ours = evaluate_category(open_category(extraction, folder.name), levels, PAPER_SCORINGS).metrics
    ours["level"] = ours["level"].map(lambda name: "sum" if name.startswith("sum") else int(name))
    ours["var"] = ours["var"].astype(float)
    frame = ours[[*KEYS, "auroc"]].rename(columns={"auroc": "ours"})
    for name, keep in (("scikit_learn", False), ("kept", True)):
        aurocs = reference.protocol(train, test, anomalous, keep_zero_variance=keep)
        frame = frame.merge(_frame(aurocs, name), on=KEYS, how="outer", validate="one_to_one")
    return frame.assign(category=folder.name)


def _frame(aurocs: dict[Any, float], name: str) -> pd.DataFrame:
    rows = [(*key, value) for key, value in aurocs.items()]
    frame = pd.DataFrame(rows, columns=[*KEYS, name])
    return frame.assign(var=frame["var"].astype(float))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("folder", type=Path, help="an extraction, as 'gaussad extract' prints it")
    folder = parser.parse_args().folder
    done = (path.parent.parent for path in folder.glob(f"*/train/{store.MANIFEST}"))
    names = sorted(category.name for category in done if (category / "test" / store.MANIFEST).is_file())
    if not names:
        parser.error(f"{folder} holds no complete category")
    frame = pd.concat([compare(folder / name) for name in names], ignore_index=True)
    frame["scoring"] = (
        frame["score"] + " " + frame["mode"] + frame["var"].map(lambda v: "" if pd.isna(v) else f" {v:g}")
    )
    means = frame.groupby(["scoring", "category", "level"], sort=False)[["ours", "kept"]].mean() * 100
    print("AUROC in percent, mean over folds\n")
    print(means["ours"].unstack("level").to_string(float_format="{:.1f}".format, na_rep="-"))
    print("\nWhat keeping the component without variance changes, percentage points\n")
    changes = (means["kept"] - means["ours"]).round(2) + 0.0  # no -0.0
    print(changes.unstack("level").to_string(float_format="{:+.2f}".format, na_rep="-"))
    worst = float((frame["ours"] - frame["scikit_learn"]).abs().max())
    same_undefined = bool((frame["ours"].isna() == frame["scikit_learn"].isna()).all())
    passed = worst <= TOLERANCE and same_undefined
    print(
        f"\n{len(frame)} AUROCs, largest difference from scikit-learn's {worst:.1e}: {'passed' if passed else 'FAILED'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
