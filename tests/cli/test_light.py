"""Asking a model needs its file and some ten packages: no torch, no weights, no cache."""

import csv
import io
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT, write_image

REQUIREMENTS = ROOT / "requirements-predict.txt"
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
# A shell that starts the tests in the background ignores Ctrl-C.
LISTENING = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
COMMAND = WITHOUT + LISTENING + "from gaussad_cli.__main__ import entry\nentry()\n"


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


def closure(lines):
    """Names of packages and of all that they depend on, as pip would install them."""
    found, wanted = set(), [Requirement(line) for line in lines]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            wanted += map(Requirement, metadata.requires(name) or ())
    return found


def imported(*arguments):
    """Names of the packages that a command imports, other than gaussad itself."""
    script = "import sys\nbefore = set(sys.modules)\nfrom gaussad_cli.__main__ import entry\n"
    script += "try: entry()\nfinally: print(*set(sys.modules) - before, file=sys.stderr)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packages = metadata.packages_distributions()
    modules = {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}
    return {canonicalize_name(package) for name in modules for package in packages.get(name, ())} - {"gaussad"}


def test_the_commands_import_nothing_beyond_the_requirements_for_predicting(model):
    lines = [line for line in REQUIREMENTS.read_text("ascii").splitlines() if not line.startswith("#")]
    asked = imported("predict", "m.gaussad", "new") | imported("explain", "m.gaussad", "new/00.png")
    changed = imported("update", "m.gaussad", "--normal", "new", "--allow-anomalous")
    told = imported("info", "m.gaussad") | imported("export", "m.gaussad", "--out", "m.onnx")
    assert asked | changed | told <= closure(lines)


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
