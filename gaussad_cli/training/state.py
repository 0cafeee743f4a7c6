"""The file that keeps a fold's training after every epoch."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaussad_cli.files import write_whole

_TENSORS = ("best", "network", "optimizer", "scores")


@dataclass(frozen=True)
class FoldState:
    """Everything that the next epoch of a fold depends on; all tensors are on the CPU.

    Attributes
    ----------
    history : all epochs so far
    best : tensors of the best epoch's network
    network, optimizer : tensors after the last epoch; empty once the fold is finished
    scores : of the test part, by the best network; empty until the fold is finished
    """

    history: tuple[EpochRow, ...] = ()
    best: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    network: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    optimizer: dict[str, Any] = dataclasses.field(default_factory=dict)
    scores: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def write_state(path: Path, key: str, fold: int, state: FoldState) -> None:
    """Write a fold's state whole; its temporary file lies in :func:`scratch_folder`.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    content = {name: getattr(state, name) for name in _TENSORS}
    content |= {"key": key, "fold": fold, "history": [dataclasses.astuple(row) for row in state.history]}
    buffer = io.BytesIO()  # torch would report a full disk by an error of its own
    torch.save(content, buffer)
    write_whole(path, lambda file: file.write(buffer.getbuffer()), scratch_folder(path))


def read_state(path: Path, key: str, fold: int) -> FoldState | None:
    """Read a fold's state; only tensors and plain values are unpickled.

    Returns
    -------
    None if the file is missing, damaged, or belongs to another training: the fold is then trained from the start.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if (content["key"], content["fold"]) != (key, fold):
            return None
        history = tuple(EpochRow(*row) for row in content["history"])
        return FoldState(history, **{name: dict(content[name]) for name in _TENSORS})
    except Exception:  # torch raises almost anything on a damaged file
        return None


def scratch_folder(path: Path) -> Path:
    """Return the folder of a state's temporary files; the next run clears what a killed process left in it."""
    return path.with_suffix(".partial")


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
