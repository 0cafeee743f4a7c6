"""One odd name, or a standard stream that is closed or of another encoding, ends nothing."""

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gaussad_cli.detector.container import read_model
from tests.conftest import ROOT, assert_user_error, write_image

LEVEL = ("--backbone", "efficientnet-lite0", "--levels", "2")
SOME = ("--pooled", *LEVEL)
ODD = b"caf\xe9 \x1b[31m\xe6\xa4\x9c\r.png"  # not UTF-8, and what terminals obey
posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell, and names of any bytes")


@pytest.fixture
def trained(gaussad, tmp_path):
    for i in range(9):
        write_image(tmp_path / f"good/{i}.png", seed=i)
    assert gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.2", *SOME).code == 0
    return gaussad


def process(*arguments, redirection="", stdin=b"", **variables):
    """Run gaussad as a process of its own, by a shell that redirects standard streams."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "gaussad_cli", *map(str, arguments)],
        input=stdin,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        check=False,
    )


@posix
@pytest.mark.parametrize("encoding", ["cp1252", "ascii:strict"])
def test_every_name_gets_a_row_whatever_the_encoding_of_stdout(trained, encoding):
    names = [b"good/0.png", b"in/" + ODD, b"in/\xe6\xa4\x9c\xe6\x9f\xbb.png", b"gone\n.png", b"good/1.png"]
    Path("in").mkdir()
    for name in names[1:3]:
        shutil.copy("good/2.png", os.fsdecode(name))
    options = ("-", "-0", "--copy-to", "sorted")
    done = process("predict", "m.gaussad", *options, stdin=b"\0".join(names), PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == b"gaussad: error: 1 of 5 files could not be scored: see their rows."
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("utf-8", "surrogateescape"), newline="")))
    assert [os.fsencode(row["path"]) for row in rows] == names
    assert [row["decision"] == "error" for row in rows] == [False, False, False, True, False]
    assert rows[3]["error"].startswith(r"cannot read the image gone\n.png: No such file")
    copies = {os.fsencode(path.name) for path in Path("sorted").rglob("*.png")}
    assert copies == {b"0.png", b"1.png", ODD, names[2].removeprefix(b"in/")}


def test_nul_in_a_list_is_one_row_and_says_what_to_do(trained, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"good/0.png\0good/1.png\ngood/2.png\n")))
    done = trained("predict", "m.gaussad", "-")
    assert_user_error(done, "1 of 2 files")
    first, second = csv.DictReader(io.StringIO(done.out))
    assert (first["path"], first["decision"]) == (r"good/0.png\0good/1.png", "error")
    assert "--null" in first["error"]
    assert second["path"] == "good/2.png"
    assert second["decision"] != "error"


@posix
def test_a_terminal_gets_no_name_that_it_would_obey(trained, monkeypatch):
    name = "\x1b[31mred\n.png"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    done = trained("predict", "m.gaussad", name, "good/0.png")
    assert [line.partition(",")[0] for line in done.out.splitlines()] == ["path", r'"\x1b[31mred\n.png"', "good/0.png"]
    explained = trained("explain", "m.gaussad", shutil.copy("good/0.png", name))
    assert explained.code == 0, explained.err
    assert "\x1b" not in explained.out + explained.err
    assert explained.out.startswith(r"\x1b[31mred")


@posix
def test_a_name_that_cannot_be_drawn_as_it_is_ends_no_explanation(trained):
    for name in (b"$\\frac$.png", ODD):
        shutil.copy("good/0.png", os.fsdecode(b"good/" + name))
    explained = trained("explain", "m.gaussad", "good", "--json")
    assert explained.code == 0, explained.err
    assert len(list(Path("explanations").iterdir())) == len(explained.out.splitlines()) == 11


@posix
def test_without_stderr_the_work_is_done_and_no_file_takes_its_number(trained):
    done = process("train", "--normal", "good", "--out", "n.gaussad", "--fpr", "0.2", *SOME, redirection="2>&-")
    assert (done.returncode, done.stdout) == (0, b"n.gaussad\n")
    assert read_model(Path("n.gaussad")).level_numbers == (2,)


@posix
def test_messages_that_cannot_be_written_end_nothing():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    assert process("info", "resnet-19", redirection="2>/dev/full").returncode == 2


@posix
@pytest.mark.parametrize(
    ("arguments", "redirection", "error"),
    [
        (["info"], ">&-", b"standard output is closed"),
        (["info"], "<&- >&-", b"standard output is closed"),
        (["info"], "1</dev/null", b"the results cannot be printed: Bad file descriptor"),
        (["predict", "m.gaussad", "-"], "<&-", b"standard input is closed"),
        (["predict", "m.gaussad", "-"], "0>list", b"cannot read the list of images on standard input"),
        (["download", "mvtec"], "<&-", b"the licence was not accepted"),
    ],
    ids=["stdout", "stdin and stdout", "stdout to read from", "stdin", "stdin to write to", "stdin of a question"],
)
def test_a_stream_that_is_closed_and_needed_is_one_line(trained, arguments, redirection, error):
    done = process(*arguments, redirection=redirection)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(b"gaussad: error: ")]
    assert error in line
    assert b"Traceback" not in done.stderr


@posix
def test_two_processes_work_without_any_standard_stream(gaussad, extract_once, tiny):
    extract_once(tiny, *LEVEL)
    done = process("evaluate", *LEVEL, "--jobs", "2", redirection="<&- >/dev/null 2>&-")
    assert done.returncode == 0
    assert Path("results/tiny/metrics.csv").exists()
