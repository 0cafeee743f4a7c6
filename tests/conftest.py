"""Fixtures: the command line in-process, tiny image folders, and the shared real images and weights."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.cli import main
from gaussad_cli.extraction import store
from gaussad_cli.extraction.graphs import GRAPHS
from gaussad_cli.extraction.graphs import load_graph as really_load_graph
from gaussad_cli.files import sha256_of

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
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Export a network once in a session: every test has a cache of its own, and an export takes a second."""
    kept = tmp_path_factory.mktemp("graphs")

    def load(network: ResolvedNetwork, cache: Path) -> bytes:
        identity = [network.backbone.name, network.padding, network.levels, network.grid, network.checkpoint.sha256]
        folder = kept / store.digest(identity)
        really_load_graph(network, folder)
        with suppress(OSError):  # a cache that cannot be written is what some tests are about
            shutil.copytree(folder / GRAPHS, cache / GRAPHS, dirs_exist_ok=True)
        return really_load_graph(network, cache)

    return load


@pytest.fixture
def gaussad(
    graphs: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Run `gaussad ARGS` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gaussad_cli.extraction.graphs.load_graph", graphs)

    def run(*args: object) -> Result:
        monkeypatch.setattr("sys.argv", ["gaussad", *map(str, args)])
        capfd.readouterr()
        try:
            code = main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def extractions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Where the session's extractions are kept, and where in there each is, by its images and options."""
    return tmp_path_factory.mktemp("extractions"), {}


@pytest.fixture
def extract_once(gaussad: Cli, extractions: tuple[Path, dict[str, Path]]) -> Callable[..., Path]:
    """Run `gaussad extract --data DATA OPTIONS` for tests of what comes after: once in a session, copied after that."""
    kept, folders = extractions

    def extract(data: Path, *options: object) -> Path:
        images = [(str(path.relative_to(data)), sha256_of(path)) for path in sorted(data.rglob("*.png"))]
        key = store.digest([data.name, images, *map(str, options)])
        if key not in folders:
            done = gaussad("extract", "--data", data, *options, "--cache", kept / key)
            assert done.code == 0, done.err
            folders[key] = "cache" / Path(done.out.strip()).relative_to(kept / key)
        ignored = shutil.ignore_patterns(GRAPHS)
        shutil.copytree(kept / key, "cache", ignore=ignored, dirs_exist_ok=True)
        return folders[key]

    return extract


@pytest.fixture(scope="session")
def processes() -> BaseContext:
    """Start processes that tests kill: by forking one that has imported torch and all, where that can be."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.tiny", "tests.extraction.toy"])
    return context


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
