"""Ctrl-C at any moment: one line that says how to go on, exit 130, and nothing lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import STOPPED, ImageError
from gaussad_cli.extraction import extract, pipeline
from tests.conftest import ROOT
from tests.extraction import toy

LITE0 = ("--backbone", "efficientnet-lite0")


def interrupt(*_, **__):
    raise KeyboardInterrupt


def assert_interrupted(result, *fragments):
    assert result.code == 130
    (line,) = [line for line in result.err.splitlines() if line.startswith("gaussad: ")]
    assert "Traceback" not in result.err
    for fragment in ("interrupted", "kept", "run the same command again", *fragments):
        assert fragment in line


@pytest.fixture
def extracted(gaussad, tiny):
    assert gaussad("extract", "--data", tiny, *LITE0, "--levels", "3").code == 0


@pytest.mark.parametrize("where", ["resolve", "find_categories", "build_engine"])
def test_before_the_first_image(gaussad, tiny, monkeypatch, where):
    monkeypatch.setattr(extract, where, interrupt)
    assert_interrupted(gaussad("extract", "--data", tiny, *LITE0), "in cache:")


def test_among_the_images(gaussad, tiny, monkeypatch):
    monkeypatch.setattr(pipeline, "read_squares", interrupt)
    assert_interrupted(gaussad("extract", "--data", tiny, *LITE0), "in category 'knob'", "in cache:")


@pytest.mark.parametrize(
    ("command", "where", "fragment"),
    [
        ("fit", "level_spectra", "spectra"),
        ("evaluate", "score_level", "The rows of finished categories"),
        ("evaluate", "select_extraction", "--categories"),
    ],
)
def test_while_features_are_fitted_or_evaluated(gaussad, extracted, monkeypatch, command, where, fragment):
    monkeypatch.setattr(f"gaussad_cli.evaluation.evaluate.{where}", interrupt)
    assert_interrupted(gaussad(command, *LITE0), fragment)


def test_where_no_command_has_more_to_say(gaussad, monkeypatch):
    monkeypatch.setattr("gaussad_cli.tables.write.build_all", interrupt)
    assert_interrupted(gaussad("tables"))


# --- what is running ---


def extract_knob(folder, tiny, engine):
    targets = [pipeline.Target(engine, toy.RECIPE)]
    pipeline.Extractor(targets, folder, "tiny", batch_size=1)(find_categories(tiny)[0], lambda _: None)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_a_running_batch_is_not_waited_for(tmp_path, tiny):
    released = threading.Event()

    class Stuck(toy.ToyEngine):
        def run(self, images):
            time.sleep(0.2)  # until the main thread waits for this
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert released.wait(30)
            return super().run(images)

    begin, before = time.perf_counter(), signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        extract_knob(tmp_path / "cache", tiny, Stuck())
    assert time.perf_counter() - begin < 15
    released.set()
    signal.signal(signal.SIGINT, before)


def test_after_a_bad_image_a_running_batch_is_waited_for_so_that_no_other_meets_it(tmp_path, tiny):
    running = []

    class Slow(toy.ToyEngine):
        def run(self, images):
            running.append(True)
            time.sleep(0.2)
            running.pop()
            return super().run(images)

    (tiny / "knob/train/good/002.png").write_bytes(b"no image")
    with pytest.raises(ImageError):
        extract_knob(tmp_path / "cache", tiny, Slow())
    assert not running


# --- a process of its own ---


@pytest.fixture
def bottles(mvtec, tmp_path) -> Path:
    """30 real images."""
    for folder, n in (("train/good", 22), ("test/good", 4), ("test/broken_large", 4)):
        (tmp_path / "data/bottle" / folder).mkdir(parents=True)
        for path in sorted((mvtec / "bottle" / folder).iterdir())[:n]:
            (tmp_path / "data/bottle" / folder / path.name).symlink_to(path)
    return tmp_path / "data"


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FROM_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from gaussad_cli.__main__ import entry
entry()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("moment", ["at the start", "at work"])
def test_ctrl_c_ends_a_real_extraction_with_one_line_and_it_goes_on_to_the_same_bytes(
    gaussad, bottles, weights, tmp_path, moment
):
    command = ("extract", "--data", bottles, "--backbone", "resnet-18", "--levels", "1-4", "--batch-size", "2")
    command += ("--weights", weights / "resnet18-levels1-4.pth")
    assert gaussad(*command, "--cache", tmp_path / "whole").code == 0
    process = subprocess.Popen(
        [sys.executable, "-c", FROM_A_TERMINAL, *map(str, command), "--cache", tmp_path / "cache"],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    time.sleep(1)
    while moment == "at work" and not list((tmp_path / "cache").glob(".graphs/*.onnx")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    line = error.splitlines()[-1]
    assert "Traceback" not in error
    assert (process.returncode, line.startswith("gaussad: interrupted")) == (130, True)
    assert "run the same command again" in line
    assert gaussad(*command, "--cache", tmp_path / "cache").code == 0
    assert files(tmp_path / "cache") == files(tmp_path / "whole")


PROGRAM = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started the tests in the background ignores it
from gaussad_cli import __main__, cli

def main():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        {at_the_end}

cli.main = main
__main__.entry()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("at_the_end", "signals", "code", "said"),
    [
        ("raise ImportError('half a compiled module')", 1, 130, f"{STOPPED}\n"),
        ("print('working', flush=True); time.sleep(60)", 2, -signal.SIGINT, ""),
    ],
    ids=["the first comes up as another error", "the first takes long to come up and a second does not wait"],
)
def test_a_process_ends_after_ctrl_c_without_a_traceback(at_the_end, signals, code, said):
    program = PROGRAM.format(at_the_end=at_the_end)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        for _ in range(signals):
            assert process.stdout.readline() == "working\n"
            process.send_signal(signal.SIGINT)
        error = process.communicate()[1]
    assert (process.returncode, error) == (code, said)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_error_without_ctrl_c_keeps_its_traceback():
    program = PROGRAM.format(at_the_end="raise ImportError('a bug')").replace("time.sleep(60)", "pass")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: a bug" in done.stderr
