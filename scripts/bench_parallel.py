"""An evaluation, fit and all, by one process and by several, side by side; the results must be the same bytes.

The extraction is copied without its spectra first, so that every run fits anew. Start-up is counted: it is what a user
waits for.

    python scripts/bench_parallel.py --cache cache --backbone efficientnet-b4 [--epochs 20] [--jobs 2] [--repeat 3]
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = (sys.executable, "-m", "gaussad_cli", "evaluate")


def run(cache: Path, results: Path, options: list[str], jobs: int) -> float:
    """Evaluate without spectra to start from; return the seconds."""
    for spectra in cache.rglob("spectra"):
        shutil.rmtree(spectra)
    command = [*COMMAND, "--cache", str(cache), "--out", str(results), *options, "--jobs", str(jobs)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def digest(results: Path) -> dict[str, str]:
    """Return the hash of every table of results."""
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*.csv"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="with one data set's extraction by the backbone")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--epochs", default="0")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="the fastest run counts  [default: 3]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work, seconds = Path(name), dict[int, float]()
        ignored = shutil.ignore_patterns("spectra", ".*")
        for copied in options.cache.glob(f"*/{options.backbone}"):
            shutil.copytree(copied, work / "cache" / copied.parent.name / copied.name, ignore=ignored)
        if not (work / "cache").exists():
            parser.error(f"{options.cache} has no extraction by {options.backbone}")
        asked = ["--backbone", options.backbone, *(["--epochs", options.epochs] if options.epochs != "0" else [])]
        for jobs in (1, options.jobs) * options.repeat:
            taken = run(work / "cache", work / f"results-{jobs}", asked, jobs)
            seconds[jobs] = min(taken, seconds.get(jobs, taken))
        if digest(work / "results-1") != digest(work / f"results-{options.jobs}"):
            raise SystemExit("results differ")
        for jobs, taken in seconds.items():
            print(f"--jobs {jobs}: {taken:.1f} s, {seconds[1] / taken:.2f} x")
        print("results: the same bytes")


if __name__ == "__main__":
    main()
