"""The help: plain text of 80 columns, at once, with the values that options take; and what shells complete."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from gaussad_cli.backbones.registry import BACKBONES
from gaussad_cli.cli import download, export, options, predict
from gaussad_cli.cli.app import COMMANDS
from gaussad_cli.comparators import gmm
from gaussad_cli.datasets.download import SOURCES
from gaussad_cli.detector import onnx_graph
from gaussad_cli.detector import predict as prediction
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import calibration, scorings
from gaussad_cli.extraction.engine import choose_engine
from gaussad_cli.gaussian import compression, places
from tests.conftest import ROOT

NAMES = [name for section in COMMANDS.values() for name in section]
PAGES = ["", *NAMES, "train classifier", "train autoencoder"]
NOT_COMMANDS = {"__init__", "app", "layout", "options"}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in the source tree."""
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_of_the_command_line_is_listed():
    modules = {path.stem.replace("_", "-") for path in (ROOT / "gaussad_cli" / "cli").glob("*.py")}
    assert modules - {name.replace("_", "-") for name in NOT_COMMANDS} == set(NAMES)


@pytest.mark.parametrize("page", PAGES)
def test_help_is_plain_text_of_80_columns(gaussad, page):
    done = gaussad(*page.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert f" {page} [OPTIONS]" in done.out.replace("\n", " ") if page else "COMMAND" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert done.out.replace("\n", "").isprintable()


@pytest.mark.parametrize("page", ["", "run", "train", "train classifier"])
def test_help_imports_neither_what_draws_nor_what_converts_nor_what_computes(page):
    script = (
        f"import sys; sys.argv = ['gaussad', *{page!r}.split(), '--help']\n"
        "from gaussad_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'pydantic', 'numpy', 'torch', 'yaml', 'importlib.metadata'} & set(sys.modules)\n"
        "sys.exit(f'help imports {heavy}' if heavy else 0)"
    )
    done = run("-c", script)
    assert done.returncode == 0, done.stderr


def test_commands_and_options_stand_in_sections(gaussad):
    assert "\nOn your own images:\n  train " in gaussad("--help").out
    predicting = gaussad("predict", "--help").out
    sections = [line for line in predicting.splitlines() if line.endswith(":") and line[0] != " "]
    assert sections == [f"{name}:" for name in ("Arguments", "Images", "Network", "Threshold", "Computing",
                                                "Cache and results", "Options")]  # fmt: skip
    assert "\n  --device [auto|cpu|cuda] " in predicting
    assert "\n  --copy-to DIR " in predicting


def test_options_of_a_group_come_before_its_commands(gaussad):
    """A command's name first: the group's own options are not looked at. An option first: they are."""
    assert gaussad("--version").out.startswith("gaussad ")
    assert "Missing option '--data'" in gaussad("train", "--grid", "4", "classifier").err
    assert "Invalid value for '--grid'" in gaussad("train", "--grid", "x", "classifier").err


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (options.PADDINGS, BACKBONES["efficientnet-b0"].paddings),
        (options.SCORES, tuple(name for name in scorings.SCORES if not name.startswith("places-"))),
        (options.MODES, get_args(compression.Mode)),
        (options.COVARIANCES, get_args(gmm.Covariance)),
        (options.TARGETS, get_args(places.Target)),
        (options.METHODS, (*calibration.METHODS, "all")),
        (predict.FORMATS, prediction.FORMATS),
        (export.INPUTS, onnx_graph.INPUTS),
        (tuple(download.DATASETS), tuple(SOURCES)),
    ],
)
def test_the_values_that_help_lists_are_those_that_are_taken(offered, taken):
    assert offered == taken


@pytest.mark.parametrize(
    ("offered", "wrong"),
    [
        (options.ENGINES, ("x", "auto", "fp32")),
        (options.DEVICES, ("auto", "x", "fp32")),
        (options.PRECISIONS, ("auto", "auto", "x")),
    ],
)
def test_the_engines_that_help_lists_are_those_that_are_taken(offered, wrong):
    with pytest.raises(UserError, match=f"Known: {', '.join(offered)}"):
        choose_engine(*wrong)


def test_a_misspelt_command_is_recognised(gaussad):
    done = gaussad("trian")
    assert done.code == 2
    assert "No such command 'trian'. Did you mean 'train'?" in done.err


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("gaussad ex", ["explain", "export", "extract"]),
        ("gaussad train class", ["classifier"]),
        ("gaussad extract --device c", ["cpu", "cuda"]),
        ("gaussad extract --backbone efficientnet-lite", [f"efficientnet-lite{n}" for n in range(3)]),
        ("gaussad run --config table", [f"table{n}" for n in (1, 2, 3, 4, 5, 7, 8)]),
        ("gaussad download m", ["mvtec"]),
    ],
)
def test_the_shell_completes_commands_options_and_values(typed, completed):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_GAUSSAD_COMPLETE": "complete_bash"}
    done = run("-c", "import sys; sys.argv[0] = 'gaussad'; from gaussad_cli.cli import main; main()", **words)
    assert sorted(done.stdout.split()) == completed


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_completion_installs_itself_for_the_shell_that_it_is_called_from(tmp_path):
    program = "import sys; sys.argv = ['gaussad', '--install-completion']; from gaussad_cli.cli import main; main()"
    script = f'{sys.executable} -c "{program}"; exit $?'
    home = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=home, capture_output=True, text=True, check=False)
    assert "bash completion installed" in done.stdout, done.stderr
    assert "gaussad" in Path(tmp_path, ".bash_completions", "gaussad.sh").read_text("utf-8")
