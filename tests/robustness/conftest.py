"""These tests run by `make robustness`, a few of them by `make test`; they need fork, and a process without threads."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

collect_ignore_glob = ["test_*.py"] if sys.platform == "win32" else []
settings.register_profile(
    "robustness",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # every example is a process or two: shrinking would take minutes
    suppress_health_check=list(HealthCheck),
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.robustness)


@pytest.fixture(autouse=True)
def without_threads():
    if os.environ.get("OMP_NUM_THREADS") != "1":
        pytest.skip("needs a process without threads: make robustness")


def pytest_terminal_summary(terminalreporter):
    from tests.robustness.harness import ENDS, MOST

    rows = ["", "| kind | cases | how they ended | slowest, s | most memory, MiB |", "|---|--:|---|--:|--:|"]
    for kind, ends in ENDS.items():
        how = ", ".join(f"{n} {end}" for end, n in ends.most_common())
        rows.append("| {} | {} | {} | {:.1f} | {:.0f} |".format(kind, ends.total(), how, *MOST.get(kind, (0, 0))))
    if ENDS:
        terminalreporter.write_line("\n".join(rows))
