"""The folder tree is the architecture: imports run one way, and importing does nothing but switch off telemetry."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gaussad_cli

PACKAGE = Path(gaussad_cli.__file__).parent
# DESIGN.md: imports go downward only; the modules beside the folders serve all.
LAYERS = ["cli", "report", "compare", "experiments", "tables", "detector", "training", "evaluation", "comparators"]
LAYERS += ["extraction", "backbones", "datasets", "gaussian"]
SERVE_ALL = {"errors", "files", "settings", "parallel", "lookahead"}
_FRONTS = {"__main__.py": {"cli"}, "__init__.py": {"detector"}}  # the command, and the Python API
PURE = {"functools", "numpy", "scipy", "gaussad_cli", "__future__", "dataclasses", "typing", "collections"}
PURE |= {"concurrent"}  # threads, each for some of the places


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    folder = path.relative_to(PACKAGE).parts[0]
    allowed = LAYERS[LAYERS.index(folder) :] if folder in LAYERS else []
    own = {name.split(".")[1] for name in imports(path) if name.startswith("gaussad_cli.")}
    assert own <= {*allowed, *SERVE_ALL, *_FRONTS.get(folder, ())}


@pytest.mark.parametrize("path", sorted((PACKAGE / "gaussian").glob("*.py")), ids=lambda path: path.name)
def test_the_core_needs_only_numpy_and_scipy_and_itself(path):
    assert {name.split(".")[0] for name in imports(path)} <= PURE
    own = {name for name in imports(path) if name.startswith("gaussad_cli")}
    assert all(name.startswith("gaussad_cli.gaussian") for name in own)


def test_help_loads_neither_torch_nor_pandas_nor_scikit_learn():
    script = (
        "import sys; sys.argv = ['gaussad', '--help']\n"
        "from gaussad_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'pandas', 'sklearn', 'scipy', 'numpy', 'cv2'} & set(sys.modules)\n"
        "sys.exit(f'help imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout


def test_importing_the_package_only_switches_off_the_telemetry_of_onnx_runtime():
    script = (
        "import os, sys; before, modules = dict(os.environ), set(sys.modules)\n"
        "import gaussad_cli\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - modules} - sys.stdlib_module_names\n"
        "print(set(os.environ.items()) ^ set(before.items()), loaded)"
    )
    unset = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", script], env=unset, capture_output=True, text=True, check=True)
    assert done.stdout == "{('ORT_DISABLE_TELEMETRY', '1')} {'gaussad_cli'}\n"
