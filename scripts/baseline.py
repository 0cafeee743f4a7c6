"""Does a change of the code leave every number alone? Record what it gives before and after, and compare the bytes.

Usage:
    python scripts/baseline.py record DIR --data MVTEC    run the main jobs into DIR with the gaussad of this checkout
    python scripts/baseline.py reopen OLD DIR --data MVTEC    finish and read with it what another one began in OLD
    python scripts/baseline.py compare OLD NEW

MVTEC has bottle, metal_nut and screw. Equal means equal bytes, of features, spectra, rows, manifests, tables, and what
predict and explain print. Model files are compared by what they predict.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
LITE = ("--backbone", "efficientnet-lite0")
AUTOENCODER = ("train", "autoencoder", "--categories", "bottle", "--size", "32", "--max-epochs", "2")
UNLIKE = {".speeds.json", "report.html", "log.txt"}  # seconds; a page that changes with its layout


def gaussad(folder: Path, *arguments: object, out: str = "log.txt") -> None:
    """Run the command line in a folder, and say what it took; its standard output goes to a file there."""
    begin = time.perf_counter()
    with (folder / out).open("a" if out == "log.txt" else "w") as target:
        _, status, usage = os.wait4(_start(folder, arguments, target).pid, 0)
    if status:
        sys.exit(f"gaussad {arguments} failed: {os.waitstatus_to_exitcode(status)}")
    seconds, megabytes = time.perf_counter() - begin, usage.ru_maxrss / 1024
    print(f"{seconds:7.1f} s  {megabytes:6.0f} MB  gaussad {' '.join(map(str, arguments))[:90]}", flush=True)


def _start(folder: Path, arguments: Sequence[object], out: IO[str] | int) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "gaussad_cli", *map(str, arguments)]
    return subprocess.Popen(program, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=out, text=True)


def record(folder: Path, data: Path) -> None:
    """Run the main jobs into a folder."""
    folder.mkdir(parents=True)
    gaussad(folder, "demo", "--folder", "demo")
    where = ("--cache", "demo/cache", "--out", "evaluate")
    gaussad(folder, "evaluate", *LITE, *where, out="evaluate.txt")
    config = ROOT / "configs" / "mvtec3.yaml"
    gaussad(folder, "run", "--config", config, "--data", data, *LITE, "--epochs", 0, out="run.txt")
    epochs = ("--categories", "bottle", "--levels", "3,7", "--epochs", "2", "--table", "4")
    gaussad(folder, "run", "--data", data, *LITE, *epochs, "--cache", "epochs/cache", "--out", "epochs/results")
    shutil.copytree(ROOT / "results" / "mvtec3", folder / "committed" / "mvtec3")
    gaussad(folder, "tables", "--results", "committed", out="tables.txt")
    good, asked = data / "screw" / "train" / "good", data / "screw" / "test"
    for name, options in {"all": (), "npca": ("--mode", "npca", "--var", "0.01"), "sum": ("--levels", "1-9")}.items():
        gaussad(folder, "train", "--normal", good, *LITE, *options, "--out", f"{name}.gaussad", out=f"train-{name}.txt")
        gaussad(folder, "predict", f"{name}.gaussad", asked, out=f"predict-{name}.csv")
    gaussad(folder, "update", "all.gaussad", "--normal", data / "screw/test/good", "--out", "more.gaussad")
    gaussad(folder, "predict", "more.gaussad", asked, out="predict-more.csv")
    image = min((asked / "thread_side").iterdir())
    gaussad(folder, "explain", "all.gaussad", image, "--json", "--out", "explained", out="explain.json")
    gaussad(folder, *AUTOENCODER, "--data", data, "--cache", "whole", "--out", "whole/results")
    process = _start(folder, (*AUTOENCODER, "--data", data, "--cache", "half", "--out", "none"), subprocess.DEVNULL)
    while process.poll() is None and not any((folder / "half").rglob("fold_1.pt")):
        time.sleep(0.05)
    process.kill()
    process.wait()


def reopen(old: Path, folder: Path, data: Path) -> None:
    """Read a cache and models that another gaussad wrote, and finish the training that it was killed in."""
    folder.mkdir(parents=True)
    shutil.copytree(old / "cache", folder / "cache")
    shutil.copytree(old / "half", folder / "half")
    gaussad(
        folder, "run", "--config", ROOT / "configs/mvtec3.yaml", "--data", data, *LITE, "--epochs", 0, out="run.txt"
    )
    for name in ("all", "npca", "sum", "more"):
        gaussad(folder, "predict", old / f"{name}.gaussad", data / "screw" / "test", out=f"predict-{name}.csv")
    gaussad(folder, *AUTOENCODER, "--data", data, "--cache", "half", "--out", "whole/results")
    shutil.rmtree(folder / "half")


def compare(old: Path, new: Path) -> bool:
    """Print which of the files that both have differ, and which only one has; return whether there are none."""
    names = [{path.relative_to(side) for path in side.rglob("*") if _counts(path)} for side in (old, new)]
    common = sorted(names[0] & names[1])
    different = [name for name in common if _content(old / name) != _content(new / name)]
    for name in different:
        print(f"differs: {name}")
    for side, only in ((old, names[0] - names[1]), (new, names[1] - names[0])):
        print(*(f"only in {side}: {name}" for name in sorted(only)), sep="\n", end="\n" if only else "")
    print(f"{len(common) - len(different)} files of {len(common)} equal to the byte")
    return not different


def _content(path: Path) -> bytes:
    """Return a file's bytes; of predictions, without the last column, which is the time."""
    content = path.read_bytes()
    if not path.name.startswith("predict-"):
        return content
    return b"\n".join(line.rpartition(b",")[0] for line in content.splitlines())


def _counts(path: Path) -> bool:
    """Whether bytes are promised: not of logs, pictures, graphs, images or states."""
    kinds = {".npy", ".npz", ".csv", ".json", ".txt", ".md", ".tex", ".html"}
    return (
        path.is_file() and path.suffix in kinds and path.name not in UNLIKE | {"log.txt"} and "data" not in path.parts
    )


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "reopen", "compare"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "mvtec3")
    options = parser.parse_args()
    folders, data = [folder.resolve() for folder in options.folders], options.data.resolve()
    if options.what == "record":
        record(folders[0], data)
    elif options.what == "reopen":
        reopen(folders[0], folders[1], data)
    elif not compare(folders[0], folders[1]):
        sys.exit(1)


if __name__ == "__main__":
    main()
