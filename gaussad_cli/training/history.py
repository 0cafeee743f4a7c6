"""The epochs of a training: which of them is the best, and which is the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRow:
    """One row of a history: losses are means per image; `valid_auroc` is None where the loss picks the best epoch."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_auroc: float | None


def best_epoch(history: Sequence[EpochRow]) -> int:
    """Return the number of the epoch with the highest validation AUROC or, without AUROCs, the lowest loss.

    The first of equal epochs counts as the best.
    """
    return min(history, key=_badness).epoch


def is_over(history: Sequence[EpochRow], max_epochs: int, patience: int) -> bool:
    """Return whether all epochs are done, or the last `patience` epochs brought no better one."""
    if not history:
        return False
    return len(history) >= max_epochs or history[-1].epoch - best_epoch(history) >= patience


def _badness(row: EpochRow) -> float:
    return row.valid_loss if row.valid_auroc is None else -row.valid_auroc
