"""What the README shows works as written."""

import re
from pathlib import Path

import numpy as np

from gaussad_cli.evaluation.results import read_metrics
from gaussad_cli.tables.markup import as_markdown
from gaussad_cli.tables.write import build_all
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")
FILES = (ROOT / "docs" / "files.md").read_text("utf-8")


def test_features_made_elsewhere_are_dropped_in_and_evaluated(gaussad):
    (snippet,) = re.findall(r"```python\n(.*?)```", FILES, re.DOTALL)
    rng = np.random.default_rng(0)
    names = {
        "train_names": [f"train/good/{i}.png" for i in range(20)],
        "test_names": [f"test/{label}/{i}.png" for label in ("good", "bent") for i in range(10)],
        "train": rng.standard_normal((20, 8)).astype(np.float32),
        "test": rng.standard_normal((20, 8)).astype(np.float32) + np.repeat([[0], [9]], 10, axis=0).astype(np.float32),
    }
    exec(snippet, names)
    assert gaussad("evaluate", "--backbone", "my-net", "--score", "mahalanobis").code == 0
    metrics = read_metrics(Path("results"), "my-data")
    assert (len(metrics), set(metrics["auroc"])) == (5, {1.0})


def test_every_command_of_the_readme_exists(gaussad):
    commands = set(re.findall(r"(?:^ +|`)gaussad ([a-z-]+)", README, re.MULTILINE))
    listed = gaussad("--help").out
    assert {"extract", "fit", "evaluate", "tables", "run", "demo"} <= commands
    for command in commands:
        assert f"\n  {command} " in listed, command


def test_the_table_of_the_readme_is_that_of_the_committed_results():
    (table,) = build_all([2], None, ROOT / "results", "mvtec3").tables
    body = [line for line in as_markdown(table).splitlines() if line.startswith("|")]
    assert "\n".join(body) in README


def test_every_link_of_the_readme_and_the_docs_leads_to_a_file():
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md")]
    for path in (*pages, *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
