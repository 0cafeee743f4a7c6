"""The training loop: it repeats itself to the bit, and continues after any interruption."""

import dataclasses
import random
import sys

import numpy as np
import pytest
import torch

from gaussad_cli.errors import Interrupted, UserError
from gaussad_cli.training import loop
from gaussad_cli.training.loop import settle_batch_norm
from tests.training import tiny


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a.names, a.history, a.best_epoch, a.n_train) == (b.names, b.history, b.best_epoch, b.n_train)
        assert a.scores.keys() == b.scores.keys()
        for name in a.scores:
            np.testing.assert_array_equal(a.scores[name], b.scores[name])


@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_the_same_comes_out_again_whatever_the_workers_and_another_seed_gives_another(tmp_path, data, kind):
    one = tiny.train(kind, data, tmp_path / "a")
    assert_same(one, tiny.train(kind, data, tmp_path / "b", workers=4))
    other = tiny.train(kind, data, tmp_path / "a", seed=1)
    assert any((a.scores[name] != b.scores[name]).any() for a, b in zip(one, other, strict=True) for name in a.scores)
    assert len(list((tmp_path / "a").iterdir())) == 2  # folders by key
    states = {fold.state: fold.state.stat().st_mtime_ns for fold in one}
    assert_same(one, tiny.train(kind, data, tmp_path / "a"))
    assert states == {path: path.stat().st_mtime_ns for path in states}  # nothing was done twice


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork server")
def test_killed_at_random_moments_it_ends_with_the_same_scores(tmp_path, data, processes):
    whole = tiny.train("classifier", data, tmp_path / "whole")
    rng, killed = random.Random(0), 0
    for _ in range(10):
        worker = processes.Process(target=tiny.train, args=("classifier", data, tmp_path / "cache", 0.01))
        worker.start()
        worker.join(rng.uniform(0.05, 0.3))
        killed += worker.is_alive()
        worker.kill()
        worker.join()
    assert killed >= 6
    assert_same(whole, tiny.train("classifier", data, tmp_path / "cache"))
    (folder,) = (tmp_path / "cache").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [*(f"fold_{k}.pt" for k in range(5)), "recipe.json"]


@pytest.mark.parametrize("damage", ["cut", "foreign", "pickle"])
def test_a_state_that_is_damaged_or_not_its_own_is_trained_again(tmp_path, data, damage):
    whole = tiny.train("classifier", data, tmp_path)
    path = whole[2].state
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(whole[1].state.read_bytes())
    else:
        torch.save(Dangerous(), path)
    assert_same(whole, tiny.train("classifier", data, tmp_path))
    assert not Dangerous.ran


class Dangerous:
    ran = False

    def __reduce__(self):
        return (setattr, (Dangerous, "ran", True))


def test_ctrl_c_says_how_to_go_on_and_it_does(tmp_path, data, monkeypatch):
    whole = tiny.train("classifier", data, tmp_path / "whole")
    write, calls = loop.write_state, []

    def interrupt(*arguments):
        write(*arguments)
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_state", interrupt)
    with pytest.raises(Interrupted, match="run the same command again"):
        tiny.train("classifier", data, tmp_path / "cache")
    monkeypatch.setattr(loop, "write_state", write)
    assert_same(whole, tiny.train("classifier", data, tmp_path / "cache"))


def test_training_that_diverges_says_so(tmp_path, data, monkeypatch):
    network = tiny.classifier()
    broken = dataclasses.replace(network, inputs=lambda images: network.inputs(images) * torch.nan)
    monkeypatch.setattr(tiny, "classifier", lambda _: broken)
    with pytest.raises(UserError, match=r"fold 0, diverged in epoch 0 \(loss nan"):
        tiny.train("classifier", data, tmp_path)


def test_settled_batch_norm_has_the_statistics_of_its_inputs_and_changes_nothing_else():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batches = torch.rand(3, 5, 3, 8, 8)
    drawn = torch.get_rng_state()
    settle_batch_norm(network, iter(batches))
    assert torch.equal(torch.get_rng_state(), drawn)
    maps = torch.stack([network[0](batch) for batch in batches])
    torch.testing.assert_close(network[1].running_mean, maps.mean((0, 1, 3, 4)))
    torch.testing.assert_close(network[1].running_var, maps.var((1, 3, 4)).mean(0))
    assert network[1].momentum == 0.1
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
