"""Asking a model needs its file and some ten packages: no torch, no weights, no cache."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, write_image

HEAVY = ["torch", "torchvision", "timm", "albumentations", "pandas", "sklearn", "matplotlib", "scipy"]
HEAVY += ["huggingface_hub", "onnxscript", "jinja2", "joblib", "yaml"]

# A process of its own, in which importing one of these packages fails as if it were not installed.
WITHOUT = f"""
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
COMMAND = WITHOUT + "from gaussad_cli.__main__ import entry\nentry()\n"


def light(*arguments):
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )


@pytest.fixture(params=[("--grid", 8, "--levels", "2"), ("--pooled", "--levels", "2,3")], ids=["places", "pooled"])
def model(gaussad, tmp_path, request):
    for i in range(12):
        write_image(tmp_path / f"good/{i:02}.png", seed=i)
        write_image(tmp_path / f"new/{i:02}.png", seed=100 + i)
    options = ("--backbone", "efficientnet-lite0", "--fpr", "0.2", "--cache", "elsewhere")
    done = gaussad("train", "--normal", "good", "--out", "m.gaussad", *options, *request.param)
    assert done.code == 0, done.err
    return gaussad


def rows(text):
    return [{**row, "time": ""} for row in csv.DictReader(io.StringIO(text))]


def test_a_model_is_asked_where_torch_and_the_rest_are_missing(model):
    here = model("predict", "m.gaussad", "new")
    there = light("predict", "m.gaussad", "new")
    assert there.returncode == 0, there.stderr
    assert rows(there.stdout) == rows(here.out)
    assert not Path("cache").exists()  # nothing was exported


def test_a_model_is_explained_exported_and_updated_there(model):
    for arguments in (
        ("explain", "m.gaussad", "new/00.png"),
        ("export", "m.gaussad", "--out", "m.onnx", "--image", "new/00.png"),
        ("export", "m.gaussad", "--out", "r.onnx", "--resize"),
        ("info", "m.gaussad"),
        ("update", "m.gaussad", "--normal", "new", "--allow-anomalous"),
    ):
        done = light(*arguments)
        assert done.returncode == 0, done.stderr
    assert "24 normal ones" in light("info", "m.gaussad").stdout
    assert not Path("cache").exists()


def test_in_python_too(model):
    script = WITHOUT + (
        "import json; from gaussad_cli import ImageDetector\n"
        "print(json.dumps(ImageDetector.load('m.gaussad').score('new').tolist()))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores = [float(row["score"]) for row in rows(model("predict", "m.gaussad", "new").out)]
    np.testing.assert_array_equal(json.loads(done.stdout), scores)


def test_what_needs_the_whole_gaussad_says_so(model):
    done = light("predict", "m.gaussad", "new", "--engine", "torch")
    assert done.returncode == 2, done.stderr
    assert "pip install gaussad" in done.stderr and "Traceback" not in done.stderr
