"""The file that keeps a fold's training after every epoch."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaussad_cli.files import write_whole
from gaussad_cli.training.history import EpochRow

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
