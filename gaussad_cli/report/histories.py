"""The course of trainings: losses and validation AUROC by epoch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gaussad_cli.files import fit_name, write_whole


def draw_histories(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw the losses of every fold by epoch, and write a PNG file per category; return the files.

    Dots mark the epochs whose networks gave the scores.

    Parameters
    ----------
    rows : of one kind of network (`results.HISTORIES`)

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    return [_draw_history(of_category, folder) for _, of_category in rows.groupby("category", sort=False)]


def _draw_history(rows: pd.DataFrame, folder: Path) -> Path:
    from matplotlib.figure import Figure

    first = rows.iloc[0]
    panels = {"train_loss": "training loss", "valid_loss": "validation loss", "valid_auroc": "validation AUROC"}
    if rows["valid_auroc"].isna().all():
        del panels["valid_auroc"]
    figure = Figure(figsize=(4.0 * len(panels), 3.6), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for fold, of_fold in rows.groupby("fold"):
            (line,) = axes.plot(of_fold["epoch"] + 1, of_fold[column], label=f"fold {fold}", linewidth=1)
            best = of_fold[of_fold["best"] == 1]
            axes.plot(best["epoch"] + 1, best[column], "o", color=line.get_color(), markersize=5)
        axes.set(xlabel="epoch", title=title, yscale="linear" if column == "valid_auroc" else "log")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    title = f"{first['category']}, {first['score']}, {first['backbone']} ({first['weights']})"
    figure.suptitle(title, fontsize=11, parse_math=False)  # names may hold $
    name = f"training-{first['category']}-{first['score']}-{first['backbone']}-{first['key']}"
    path = folder / fit_name(name.replace(":", "-"), ".png")
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))
    return path
