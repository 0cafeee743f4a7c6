"""Whole files: what killed writers left goes, what living ones write stays."""

import os
import stat
import subprocess
import sys

import pytest

from gaussad_cli import files
from gaussad_cli.errors import UserError
from gaussad_cli.files import fit_name, is_name, write_whole
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


def put(path, content=b"ours"):
    write_whole(path, lambda file: file.write(content))


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other links, modes and devices")


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_stays(tmp_path, there):
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far/a.csv").write_bytes(b"old")
    (tmp_path / "a.csv").symlink_to("far/a.csv")
    write_whole(tmp_path / "a.csv", lambda file: file.write(b"ours"), tmp_path / "scratch")
    assert (tmp_path / "a.csv").is_symlink()
    assert (tmp_path / "far/a.csv").read_bytes() == b"ours"
    assert names(tmp_path / "far") == ["a.csv"]
    assert names(tmp_path) == ["a.csv", "far"]


@posix
def test_devices_and_pipes_are_refused_and_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name, is_kind in (("pipe", stat.S_ISFIFO), ("null", stat.S_ISCHR)):
        with pytest.raises(UserError, match=f"{name}: it is a device or a pipe"):
            put(tmp_path / name)
        assert is_kind((tmp_path / name).stat().st_mode)
    assert names(tmp_path) == ["null", "pipe"]


@posix
def test_links_in_a_circle_are_one_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="cannot write"):
        put(tmp_path / "a")
    assert names(tmp_path) == ["a", "b"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_file_that_is_written_again_keeps_its_mode(tmp_path, mode):
    put(tmp_path / "a.csv", b"old")
    (tmp_path / "a.csv").chmod(mode)
    put(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"ours"
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == mode


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can make another user's file")
@pytest.mark.parametrize("may_give_away", [True, False])
def test_another_users_file_stays_theirs(tmp_path, monkeypatch, may_give_away):
    def refused(*_):
        raise PermissionError

    path = tmp_path / "a.csv"
    put(path, b"an older and longer content")
    os.chown(path, 12345, 12345)
    if not may_give_away:
        monkeypatch.setattr(os, "chown", refused)
    put(path)
    assert path.read_bytes() == b"ours"
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("name", ["a" * 255, "検" * 85, "a" * 251 + ".csv"])
def test_a_name_as_long_as_may_be_is_written_and_what_a_killed_writer_left_of_it_goes(tmp_path, name):
    with writer(tmp_path / name) as process:
        process.kill()
    assert len(names(tmp_path)) == 1
    put(tmp_path / name)
    assert names(tmp_path) == [name]


def test_a_name_that_its_suffix_makes_too_long_is_cut_and_told_from_others():
    assert fit_name("screw", ".csv") == "screw.csv"
    cut = {fit_name(name, ".csv") for name in ("検" * 85, "查" * 85, "検" * 84 + "查")}
    assert len(cut) == 3
    assert all(len(name.encode()) <= 255 and name.endswith(".csv") for name in cut)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "/etc", r"..\a", "a\0"])
def test_what_leads_elsewhere_is_not_a_name(text):
    assert not is_name(text)


def test_what_only_looks_odd_is_a_name():
    assert all(map(is_name, ["metal nut", "..a", "a..", "検", "~"]))


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
