"""Two processes on one cache: one works, the other does something else first, or waits; a killed one blocks nobody."""

import errno
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from gaussad_cli.detector.container import read_model
from gaussad_cli.extraction import extract
from gaussad_cli.files import LOCK, locked
from tests.conftest import ROOT, write_image

LITE0 = ("--backbone", "efficientnet-lite0", "--levels", "2")


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    with locked([tmp_path]) as first, locked([tmp_path], wait=False) as second:
        assert (first, second) == (True, False)
    with locked([tmp_path], wait=False) as again:
        assert again


def test_one_of_several_folders_is_enough_to_be_in_the_way(tmp_path):
    with locked([tmp_path / "b"]), locked([tmp_path / "a", tmp_path / "b"], wait=False) as are_ours:
        assert not are_ours
    with locked([tmp_path / "a"], wait=False) as is_ours:
        assert is_ours  # it was released


def test_who_waits_goes_on_when_the_other_is_done(tmp_path):
    order = []

    def wait():
        with locked([tmp_path]):
            order.append("second")

    with locked([tmp_path]):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


COUNTER = """
import sys
from pathlib import Path
from gaussad_cli.files import locked

folder = Path(sys.argv[1])
for _ in range(100):
    with locked([folder]):
        (folder / "held").touch(exist_ok=False)
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
        (folder / "held").unlink()
"""


def test_of_many_processes_one_at_a_time_holds_a_lock_and_its_file_is_removed_in_the_end(tmp_path):
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNTER, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "400"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_where_nothing_can_be_written_the_work_goes_on_without_a_lock(tmp_path):
    (tmp_path / "file").touch()
    with locked([tmp_path / "file/folder"]) as first, locked([tmp_path / "file/folder"]) as second:
        assert (first, second) == (True, True)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_the_work_goes_on_without(tmp_path, monkeypatch, number):
    """ENOSYS is Lustre without its flock option, ENOLCK an NFS server without a lock service."""
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked([tmp_path]) as first, locked([tmp_path]) as second:
        assert (first, second) == (True, True)


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from gaussad_cli.files import locked\n"
        "with locked([Path(sys.argv[1])]): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout.readline().strip() == b"held"
        with locked([tmp_path], wait=False) as ours:
            assert not ours
        holder.kill()
    with locked([tmp_path], wait=False) as ours:
        assert ours


def test_a_category_that_another_process_is_at_comes_last(gaussad, tiny, monkeypatch):
    order, holding = [], ExitStack()
    done = gaussad("extract", "--data", tiny, *LITE0, "--cache", "elsewhere")
    key = done.out.strip().rsplit("/", maxsplit=1)[-1]
    real = extract._extract_category

    def note(extractor, category):
        order.append(category.name)
        holding.close()  # the other process is done
        return real(extractor, category)

    monkeypatch.setattr(extract, "_extract_category", note)
    holding.enter_context(locked([extract.Path(f"cache/tiny/efficientnet-lite0/{key}/knob")]))
    done = gaussad("extract", "--data", tiny, *LITE0)
    assert done.code == 0, done.err
    assert order == ["lid", "knob"]
    assert "knob: in use by another gaussad process" in done.err
    assert not list(extract.Path("cache").rglob(LOCK))


def test_two_updates_at_once_keep_the_images_of_both(gaussad, tmp_path):
    for folder, first, n in (("good", 0, 12), ("one", 100, 3), ("two", 200, 3)):
        for i in range(n):
            write_image(tmp_path / folder / f"{i}.png", seed=first + i)
    trained = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.1", "--pooled", *LITE0)
    assert trained.code == 0, trained.err
    command = [sys.executable, "-m", "gaussad_cli", "update", "m.gaussad", "--normal"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    updates = [subprocess.Popen([*command, name], cwd=tmp_path, env=environment) for name in ("one", "two")]
    assert [update.wait() for update in updates] == [0, 0]
    assert len(set(read_model(tmp_path / "m.gaussad").hashes)) == 18
    assert not (tmp_path / LOCK).exists()
