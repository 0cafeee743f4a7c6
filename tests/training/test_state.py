"""The file that keeps a fold's training."""

import pytest
import torch

from gaussad_cli.errors import UserError
from gaussad_cli.training.state import EpochRow, FoldState, read_state, scratch_folder, write_state
from tests.training import tiny

STATE = FoldState(
    history=(EpochRow(0, 0.5, 0.25, None), EpochRow(1, 0.1, 0.2, 0.75)),
    best={"weight": torch.tensor([1.0, 2.0])},
    network={"weight": torch.tensor([3.0, 4.0])},
    optimizer={"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
)


def test_a_state_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "key" / "fold_0.pt"
    write_state(path, "key", 0, STATE)
    state = read_state(path, "key", 0)
    assert state.history == STATE.history
    assert torch.equal(state.best["weight"], STATE.best["weight"])
    assert torch.equal(state.network["weight"], STATE.network["weight"])
    assert state.optimizer == STATE.optimizer
    assert state.scores == {}
    assert not any(scratch_folder(path).iterdir())


def test_a_state_that_cannot_be_written_is_the_users_error(tmp_path):
    (tmp_path / "key").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="key"):
        write_state(tmp_path / "key" / "fold_0.pt", "key", 0, STATE)


def test_a_missing_state_is_none(tmp_path):
    assert read_state(tmp_path / "fold_0.pt", "key", 0) is None


def test_a_finished_state_keeps_no_more_than_is_needed(tmp_path, data):
    (first, *_) = tiny.train("autoencoder", data, tmp_path)
    key = read_key(first.state)
    state = read_state(first.state, key, 0)
    assert (state.network, state.optimizer) == ({}, {})
    assert state.best
    assert read_state(first.state, key, 1) is None
    assert read_state(first.state, "other", 0) is None


def read_key(path):
    return torch.load(path, weights_only=True)["key"]
