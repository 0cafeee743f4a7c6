"""Killed at any moment, extraction goes on from the last whole shard, and ends with the same bytes."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaussad_cli.extraction import store
from tests.extraction import toy

KILLS = 24
N_TRAIN, N_TEST = 320, 40


@pytest.fixture
def data(tmp_path) -> Path:
    """Images whose colour is their number."""
    numbers = iter(range(N_TRAIN + N_TEST))
    for folder, n in (("train/good", N_TRAIN), ("test/good", N_TEST // 2), ("test/bad", N_TEST // 2)):
        (tmp_path / "data/knob" / folder).mkdir(parents=True)
        for i in range(n):
            number = next(numbers)
            colour = np.array([number % 256, number // 256, 0], np.uint8)
            Image.fromarray(np.tile(colour, (16, 16, 1))).save(tmp_path / f"data/knob/{folder}/{i:03d}.png")
    return tmp_path / "data"


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def whole_images(data: Path, cache: Path) -> set[int]:
    """Numbers of the images whose shard or split is whole in the cache."""
    found = set()
    for split, folders in (("train", ("train/good",)), ("test", ("test/bad", "test/good"))):
        folder = store.split_folder(cache, "toy", toy.RECIPE, "knob", split)
        images = [path for name in folders for path in sorted((data / "knob" / name).iterdir())]
        numbers = [int(r) + 256 * int(g) for r, g, _ in (np.asarray(Image.open(path))[0, 0] for path in images)]
        if (folder / "manifest.json").exists():
            found |= set(numbers)
        for path in folder.glob("partial/shard_*.npz"):
            start = int(path.name.split("_")[1])
            found |= set(numbers[start : start + toy.SHARD])
    return found


def test_killed_at_random_moments_it_ends_with_the_same_bytes_and_does_nothing_twice(tmp_path, data, processes):
    toy.work(data, tmp_path / "whole", tmp_path / "whole.log")
    rng = random.Random(0)
    cache, killed_at_work, twice = tmp_path / "cache", 0, set()
    for kill in range(60):
        whole, log, ready = whole_images(data, cache), tmp_path / f"{kill}.log", processes.Event()
        worker = processes.Process(target=toy.killable_work, args=(ready, data, cache, log))
        worker.start()
        assert ready.wait(60)
        if killed_at_work < KILLS:
            time.sleep(rng.uniform(0, 0.12))
            worker.kill()
        worker.join()
        twice |= whole & {int(line) for line in (log.read_text().split() if log.exists() else ())}
        if worker.exitcode == 0:
            break
        killed_at_work += 1
    assert worker.exitcode == 0
    assert killed_at_work >= 20
    assert not twice
    assert files(cache) == files(tmp_path / "whole")


def test_a_killed_extraction_of_places_ends_with_the_same_bytes_and_masks(tmp_path, data, processes):
    for image in (data / "knob/test/bad").iterdir():
        mask = np.zeros((16, 16), np.uint8)
        mask[: int(image.stem)] = 255
        path = data / "knob/ground_truth/bad" / f"{image.stem}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    toy.work(data, tmp_path / "whole", tmp_path / "whole.log", places=True)
    rng = random.Random(0)
    cache, killed = tmp_path / "cache", 0
    for kill in range(30):
        ready = processes.Event()
        worker = processes.Process(target=toy.killable_work, args=(ready, data, cache, tmp_path / "log", True))
        worker.start()
        assert ready.wait(60)
        if kill < 8:
            time.sleep(rng.uniform(0.1, 0.3))
            worker.kill()
        worker.join()
        if worker.exitcode == 0:
            break
        killed += 1
    assert worker.exitcode == 0
    assert killed >= 3
    assert files(cache) == files(tmp_path / "whole")
    assert store.split_folder(Path(), "toy", toy.PLACES, "knob", "test") / store.MASKS in files(cache)


def test_a_kill_while_the_splits_files_are_written_leaves_nothing_behind(tmp_path, data, monkeypatch):
    """Stop where a level file has its temporary name: the next run ends with the same bytes and no other file."""
    toy.work(data, tmp_path / "whole", tmp_path / "log")
    cache = tmp_path / "cache"
    with monkeypatch.context() as patched:
        patched.setattr(store, "_write_hashed", lambda file, content, sha256: os_kill())
        with pytest.raises(Killed):
            toy.work(data, cache, tmp_path / "log")
    folder = store.split_folder(cache, "toy", toy.RECIPE, "knob", "train")
    (folder / "partial/.level_1.npy.4711.tmp").write_bytes(b"what a killed process leaves")
    toy.work(data, cache, tmp_path / "log")
    assert files(cache) == files(tmp_path / "whole")


class Killed(BaseException):
    pass


def os_kill():
    raise Killed
