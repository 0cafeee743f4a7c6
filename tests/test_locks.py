"""Two processes on one cache: one works, the other does something else first, or waits; a killed one blocks nobody."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

from gaussad_cli import files
from gaussad_cli.extraction import extract
from gaussad_cli.files import LOCK, locked
from tests.conftest import ROOT

LITE0 = ("--backbone", "efficientnet-lite0", "--levels", "2")


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    with locked([tmp_path]) as first, locked([tmp_path], wait=False) as second:
        assert (first, second) == (True, False)
    with locked([tmp_path], wait=False) as again:
        assert again


def test_one_of_several_folders_is_enough_to_be_in_the_way(tmp_path):
    with locked([tmp_path / "b"]), locked([tmp_path / "a", tmp_path / "b"], wait=False) as both:
        assert not both
    with locked([tmp_path / "a"], wait=False) as other:
        assert other  # it was given back


def test_who_waits_goes_on_when_the_other_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LOOK_AGAIN", 0.01)
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


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from gaussad_cli.files import locked\n"
        "with locked([Path(sys.argv[1])]): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout.readline().strip() == b"held"
        with locked([tmp_path], wait=False) as ours:
            assert not ours
        os.kill(holder.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        holder.wait()
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
    assert "knob: another gaussad process is at it" in done.err
    assert not list(extract.Path("cache").rglob(LOCK))
