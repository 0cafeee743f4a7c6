"""Fixtures: the command line in-process, tiny image folders, and the shared real images and weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from gaussad_cli.backbones.network import LevelNetwork
from gaussad_cli.backbones.registry import Backbone
from gaussad_cli.cli import main
from gaussad_cli.extraction import onnx_engine

really_export = onnx_engine.export
ROOT = Path(__file__).parents[1]
# Small matrices: on a busy machine, BLAS threads that wait for each other cost minutes.
threadpool_limits(1, user_api="blas")


@dataclass
class Result:
    """What a run of the command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def exported() -> Callable[..., bytes]:
    """Export a network once in a session: every test has a cache of its own, and an export takes seconds."""
    graphs: dict[tuple[object, ...], bytes] = {}

    def export(network: LevelNetwork, backbone: Backbone) -> bytes:
        content = hashlib.sha256(repr(network).encode())
        for name, tensor in network.state_dict().items():
            content.update(name.encode() + tensor.numpy().tobytes())
        key = (backbone, network.levels, content.hexdigest())
        if key not in graphs:
            graphs[key] = really_export(network, backbone)
        return graphs[key]

    return export


@pytest.fixture
def gaussad(
    exported: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Run `gaussad ARGS` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnx_engine, "export", exported)

    def run(*args: object) -> Result:
        monkeypatch.setattr("sys.argv", ["gaussad", *map(str, args)])
        capfd.readouterr()
        try:
            code = main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Result(code, *capfd.readouterr())

    return run


def assert_user_error(result: Result, *fragments: str) -> None:
    """One line on stderr that says what is asked of it, and exit code 2."""
    assert result.code == 2, result
    lines = [line for line in result.err.splitlines() if line.startswith("gaussad: error: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    for fragment in fragments:
        assert fragment in lines[0], result.err


def shared(variable: str, default: str) -> Path:
    """A folder of the shared development material, or a skip that says why."""
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not folder.is_dir():
        pytest.skip(f"needs the shared development material: {folder} is not there (set {variable})")
    return folder


@pytest.fixture(scope="session")
def mvtec() -> Path:
    """Real MVTec AD images: bottle, metal_nut and screw."""
    return shared("GAUSSAD_TEST_DATA", "data/mvtec3")


@pytest.fixture(scope="session")
def weights() -> Path:
    """Real weight files: EfficientNet-B4 levels 1 to 7, ResNet-18 levels 1 to 4."""
    return shared("GAUSSAD_TEST_WEIGHTS", "weights")


def write_image(path: Path, seed: int, size: int = 40) -> Path:
    """Write a small image of smooth noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR).save(path)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A data set `tiny` of categories `knob` and `lid`: 6 training images, 3 good and 3 scratched ones to test."""
    root = tmp_path / "tiny"
    for number, category in enumerate(("knob", "lid")):
        for folder, n in (("train/good", 6), ("test/good", 3), ("test/scratch", 3)):
            for i in range(n):
                write_image(root / category / folder / f"{i:03d}.png", seed=1000 * number + 100 * len(folder) + i)
    return root
