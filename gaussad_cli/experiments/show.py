"""Formats a plan and its run times as tables for the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gaussad_cli.experiments.estimate import estimate
from gaussad_cli.experiments.execute import Setup
from gaussad_cli.experiments.plan import Stage


def show_plan(stages: Sequence[Stage], setup: Setup) -> str:
    """Format the stages with the time and disk space that they need, and the free disk space.

    Raises
    ------
    UserError
        If a stage names an unknown backbone, level or padding.
    """
    costs = [estimate(stage, setup.categories, setup.cache, setup.dataset) for stage in stages]
    lines = [
        [f"{number}", cost.stage, cost.work, duration(cost.seconds), size(cost.bytes) if cost.bytes else ""]
        for number, cost in enumerate(costs, start=1)
    ]
    images = sum(len(category.train) + len(category.test) for category in setup.categories)
    total = ["", "all", "", duration(sum(cost.seconds for cost in costs)), size(sum(cost.bytes for cost in costs))]
    return "\n".join(
        [
            f"Plan for {setup.dataset}: {len(setup.categories)} categories, {images} images",
            *_columns([["", "stage", "work", "about", "disk"], *lines, total]),
            "Times are those of two CPU cores (docs/cost.md). "
            f"The disk that holds the cache has {size(_free(setup.cache))} free.",
        ]
    )


def show_times(took: Sequence[tuple[str, float]]) -> str:
    """Format the times of the stages."""
    lines = [["stage", "took"], *([stage, duration(seconds)] for stage, seconds in took)]
    return "\n".join(_columns([*lines, ["all", duration(sum(seconds for _, seconds in took))]]))


def duration(seconds: float) -> str:
    """Write a time as a person would: "12 s", "3 min", "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(count: int) -> str:
    """Write a number of bytes as a person would: "0.1 MB", "2.5 GB"."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _free(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            value.ljust(width) if number < len(widths) - 2 or len(widths) < 3 else value.rjust(width)
            for number, (value, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
