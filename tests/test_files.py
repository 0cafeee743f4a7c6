"""Whole files: what killed writers left goes, what living ones write stays."""

import os
import subprocess
import sys

import pytest

from gaussad_cli import files
from gaussad_cli.errors import UserError
from gaussad_cli.files import write_whole
from gaussad_cli.settings import read_yaml
from tests.conftest import ROOT

WRITER = """
import os, sys
from pathlib import Path
from gaussad_cli.files import write_whole

def write(file):
    print("writing", flush=True)
    sys.stdin.readline()
    file.write(b"theirs")

write_whole(Path(sys.argv[1]), write)
"""


def writer(path):
    """Start a process that is in the middle of writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    process.stdout.readline()
    return process


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_writer_left_goes_when_the_file_is_written_again(tmp_path):
    with writer(tmp_path / "spectra.npz") as process:
        process.kill()
    assert len(names(tmp_path)) == 1
    write_whole(tmp_path / "spectra.npz", lambda file: file.write(b"ours"))
    assert names(tmp_path) == ["spectra.npz"]


def test_what_another_process_is_writing_stays_and_the_last_to_finish_wins(tmp_path):
    path = tmp_path / "spectra.npz"
    with writer(path) as process:
        write_whole(path, lambda file: file.write(b"ours"))
        assert len(names(tmp_path)) == 2
        process.communicate(b"\n")
    assert process.returncode == 0
    assert (names(tmp_path), path.read_bytes()) == (["spectra.npz"], b"theirs")


@pytest.mark.parametrize("left", [".a.npz.0000beef-4711.tmp", ".a.npz.{host}-mine.tmp", ".b.npz.{host}-{dead}.tmp"])
def test_what_may_be_somebody_elses_stays(tmp_path, left):
    """Of another machine, which may share the folder; of no process; of another file."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    other = tmp_path / left.format(host=files._HOST, dead=process.pid)
    other.touch()
    write_whole(tmp_path / "a.npz", lambda file: file.write(b"ours"))
    assert names(tmp_path) == sorted([other.name, "a.npz"])


def test_a_process_of_another_user_is_alive(tmp_path, monkeypatch):
    def refused(pid, signal):
        raise PermissionError

    left = tmp_path / f".a.npz.{files._HOST}-4711.tmp"
    left.touch()
    monkeypatch.setattr(os, "kill", refused)
    write_whole(tmp_path / "a.npz", lambda file: file.write(b"ours"))
    assert left.exists()


LISTS = "".join(f", {b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("x: {a: &a [x, x, x, x, x, x, x, x, x]" + LISTS + "}", "too large"),
        ("x: &a [*a]", "too large"),
        ("#" * 1_000_001, "too large"),
        ("x: !!timestamp y", "not valid YAML"),
        ("x: !!bool y", "not valid YAML"),
        ("x: !!int ''", "not valid YAML"),
        ("[" * 500, "not valid YAML"),
    ],
)  # fmt: skip
def test_settings_that_are_no_settings_are_refused_at_once(tmp_path, text, fragment):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=fragment):
        read_yaml(tmp_path / "x.yaml")
