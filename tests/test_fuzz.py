"""A small run of the fuzzer; a check that it would see what it looks for; and the limits on what an image may claim."""

import dataclasses
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.extraction import decode, store
from gaussad_cli.files import sha256_of
from gaussad_cli.settings import read_yaml
from tests.conftest import ROOT

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=False, timeout=100)


@needs_fork
def test_damaged_images_and_manifests_are_refused_in_one_line_or_right():
    command = [sys.executable, ROOT / "scripts/fuzz.py", "--count", "48", "--only", "images", "manifests"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in done.stdout.strip().split("\n")[2:]]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("images", "48", "0"),
        ("manifests", "12", "0"),
    ]
    assert "decoded" in rows[0][2]
    assert all("refused" in row[2] for row in rows)


@needs_fork
@pytest.mark.parametrize(
    ("job", "complaint"),
    [
        ("lambda: 1 / 0", "traceback: ZeroDivisionError"),
        ("lambda: os.abort()", "crashed: SIGABRT"),
        ("lambda: time.sleep(60)", "hung"),
        ("lambda: 2", "exit status 2, and not one line of error"),
        (r"lambda: (print('gaussad: error: a\nb', file=sys.stderr), 2)[1]", "not one line of error"),
        (r"lambda: (print('gaussad: error: \x1b[2J', file=sys.stderr), 2)[1]", "unprintable"),
        ("lambda: (print('gaussad: error: no', file=sys.stderr), 2)[1]", "None"),
        ("lambda: 0", "None"),
    ],
)
def test_whatever_else_happens_is_seen(job, complaint):
    done = run(f"import os, sys, time; from attempts import attempt; print(attempt({job}, 1.0).complaint)")
    assert complaint in done.stdout, done


def jpeg(scans: int = 6) -> bytes:
    """A progressive JPEG, of 6 scans; more are the last one again."""
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    assert content.count(b"\xff\xda") == 6
    return content[:-2] + content[content.rfind(b"\xff\xda") : -2] * (scans - 6) + content[-2:]


def test_an_image_of_more_pixels_than_the_limit_is_refused_before_they_are_decoded(tmp_path, monkeypatch):
    content = jpeg()
    monkeypatch.setattr(decode, "MOST_PIXELS", 64 * 64)
    assert decode.decode_pixels(content, tmp_path / "x.jpg").shape == (64, 64)
    monkeypatch.setattr(decode, "MOST_PIXELS", 64 * 64 - 1)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"x\.jpg claims more than 0 million pixels"):
        decode.decode_pixels(content, tmp_path / "x.jpg")


def test_a_jpeg_of_many_scans_is_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_PASSES", 20 * 64 * 64)
    assert decode.decode_pixels(jpeg(scans=20), tmp_path / "x.jpg").shape == (64, 64)
    with pytest.raises(ImageError, match=r"x\.jpg is a JPEG of more scans"):
        decode.decode_pixels(jpeg(scans=21), tmp_path / "x.jpg")


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


RECIPE = store.Recipe("toy", 2, "none", "0" * 64, "native", 16)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("recipe/epochs", "3"),
        ("recipe/backbone", {}),
        ("images/0/label", None),
        ("images/0/name", "\ud800"),
        ("versions", 3),
    ],
)
def test_a_manifest_with_a_value_of_another_type_is_refused_though_its_digest_is_right(tmp_path, where, value):
    manifest = store.Manifest("tiny", "knob", "train", RECIPE, (store.ImageEntry("a.png", "good", "0" * 64),), {})
    store.write_features(tmp_path, manifest, {})
    path = tmp_path / store.MANIFEST
    content = json.loads(path.read_text())
    *parents, last = where.split("/")
    holder = content
    for name in parents:
        holder = holder[int(name) if name.isdecimal() else name]
    holder[last] = value
    path.write_text(json.dumps(store.sealed(content)))
    with pytest.raises(UserError, match="cannot read"):
        store.read_manifest(tmp_path)


def test_an_array_whose_header_numpy_fails_on_is_refused(tmp_path):
    manifest = store.Manifest("tiny", "knob", "train", RECIPE, (store.ImageEntry("a.png", "good", "0" * 64),), {})
    manifest = store.write_features(tmp_path, manifest, {1: np.zeros((1, 3), np.float32)})
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3L), " + "(" * 40
    (tmp_path / "level_1.npy").write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode())
    entry = store.LevelEntry("level_1.npy", (1, 3), "float32", sha256_of(tmp_path / "level_1.npy"))
    with pytest.raises(UserError, match="not an array of numbers"):
        store.read_features(tmp_path, dataclasses.replace(manifest, levels={1: entry}), 1)
