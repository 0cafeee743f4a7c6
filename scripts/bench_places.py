"""gaussad's detector beside anomalib's PaDiM and PatchCore: the same images, the same network, in turns in one run.

All get EfficientNet-Lite0 with the same weights, the same images resized in the same way, and two things to do: train
on all of train/good, and score all of test. gaussad runs by its command line. anomalib runs in an environment of its
own (`python3 -m venv DIR; DIR/bin/pip install anomalib`), by `anomalib_worker.py`:

    padim-100       levels 3 to 6 on level 3's grid (56 x 56), 100 random channels of the 256
    padim-all       the same with all 256
    patchcore-0.01  levels 4 and 6 (the last of strides 8 and 16, as layer2 and layer3 of a ResNet), coreset of 1 %
    patchcore-0.002, patchcore-0.1   the same with 0.2 %, and with anomalib's default of 10 %

The defaults leave the last two out. Choosing a coreset takes time by the square of the training images: by passes timed
at full size, 1 % of screw's 320 x 784 places (2,509 passes) would take 6 minutes or more on two cores, 10 % an hour.

Training is told with and without start-up, milliseconds per image are without it: for gaussad, start-up is the time in
which it scores a single image, for anomalib, imports, building the network and, before it predicts, scoring one image.
"maps" adds writing a map for each image. Memory is the peak resident set. The size of a model is without the network's
weights. The image's score is each tool's own. AUROCs are scikit-learn's, pixels at the mask's resolution. Times, memory
and size are the best of --repeats, AUROCs those of the last. Runs on Linux and macOS.

The machine must be quiet: beside other programs, torch's threads wait for each other, and PaDiM took from 2 to
80 times as long to predict with two threads as with one (OMP_NUM_THREADS=1; 6 images, load 6, two cores).

    python scripts/bench_places.py --anomalib DIR/bin/python [--data DIR] [--categories screw] [--methods gaussad ...]
        [--images 12 6] [--repeats 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from itertools import count, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from gaussad_cli.backbones.registry import BACKBONES

NETWORK = BACKBONES["efficientnet-lite0"]
GAUSSAD = "gaussad"
TIMED_IMAGES = 500  # that gaussad predicts, at least
WORKER = Path(__file__).with_name("anomalib_worker.py")


def layers(*levels: int) -> tuple[str, ...]:
    """Return the worker's argument for feature levels."""
    return ("--layers", *(NETWORK.level_modules[level - 1][-1] for level in levels))


METHODS: dict[str, tuple[str, ...]] = {  # the worker's arguments
    GAUSSAD: (),
    "padim-100": ("--model", "padim", *layers(3, 4, 5, 6), "--channels", "100"),
    "padim-all": ("--model", "padim", *layers(3, 4, 5, 6), "--channels", "256"),
    "patchcore-0.01": ("--model", "patchcore", *layers(4, 6), "--coreset", "0.01"),
    "patchcore-0.002": ("--model", "patchcore", *layers(4, 6), "--coreset", "0.002"),
    "patchcore-0.1": ("--model", "patchcore", *layers(4, 6), "--coreset", "0.1"),
}
DEFAULT_METHODS = [GAUSSAD, "padim-100", "padim-all", "patchcore-0.01"]


@dataclass(frozen=True)
class Cost:
    """What a method took on a category.

    Attributes
    ----------
    train_s, train_work_s : seconds to train, with and without start-up
    image_ms, image_maps_ms : milliseconds per test image without start-up; the second with a map written for each
    train_mb, predict_mb : peak resident memory, MiB
    model_bytes : size of the saved model without the network
    """

    train_s: float
    train_work_s: float
    image_ms: float
    image_maps_ms: float
    train_mb: float
    predict_mb: float
    model_bytes: float

    def best(self, other: Cost) -> Cost:
        """Return the smaller of each figure."""
        return Cost(**{f.name: min(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Outcome:
    """Costs and scores of a run; `scores` maps the images' names below ``test`` to their scores, `maps` is a folder."""

    cost: Cost
    scores: Mapping[str, float]
    maps: Path


@dataclass(frozen=True)
class Row:
    """A line of the table; AUROCs in percent, `without_mask` images are in the image AUROC only."""

    method: str
    category: str
    image_auroc: float
    pixel_auroc: float
    without_mask: int
    cost: Cost


# --- running programs ---


@dataclass(frozen=True)
class Finished:
    """A program that has ended well: its seconds, peak resident memory in MiB, and output."""

    seconds: float
    memory_mb: float
    output: str


def finish(command: Sequence[object]) -> Finished:
    """Run a program. Linux counts its starter's memory as its own, so this process must stay small: no torch in it."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as messages:
        quiet = os.environ | {"TQDM_DISABLE": "1"}
        begin = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=messages, env=quiet)
        _, status, usage = os.wait4(process.pid, 0)  # Popen.wait would not tell the memory
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        messages.seek(0)
        if process.returncode:
            raise SystemExit(f"{messages.read()}\nexit status {process.returncode}: {' '.join(map(str, command))}")
        return Finished(seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), output.read())


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own, so that this one stays small."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# --- gaussad ---


def run_gaussad(category: Path, scratch: Path) -> Outcome:
    """Train and predict by gaussad's command line, every time from an empty cache.

    Its loop cannot be timed from outside, only whole runs. So that start-up's seconds, which vary by tenths, do not
    blur an image's milliseconds, it predicts the test images several times over, in one run.
    """
    numbers = count()

    def gaussad(*arguments: object) -> Finished:
        cache = scratch / f"cache-{next(numbers)}"
        return finish([sys.executable, "-m", "gaussad_cli", *arguments, "--cache", cache])

    model, images, maps = scratch / "m.gaussad", scratch / "copies", scratch / "maps"
    n = lay_out_copies(category / "test", images)
    trained = gaussad("train", "--normal", category / "train" / "good", "--out", model, "--backbone", NETWORK.name)
    start = gaussad("predict", model, images / list_images(images)[0]).seconds
    plain = gaussad("predict", model, images, "--format", "json")
    mapped = gaussad("predict", model, images, "--format", "json", "--maps", maps)
    cost = Cost(
        trained.seconds,
        trained.seconds - start,
        1000 * (plain.seconds - start) / (n - 1),  # the first image is in the start-up
        1000 * (mapped.seconds - start) / (n - 1),
        trained.memory_mb,
        max(plain.memory_mb, mapped.memory_mb),
        model.stat().st_size,
    )
    rows = [json.loads(line) for line in plain.output.splitlines()]
    scores = {Path(row["path"]).relative_to(images): row["score"] for row in rows}
    first = {name.relative_to("0").as_posix(): score for name, score in scores.items() if name.parts[0] == "0"}
    return Outcome(cost, first, maps / "0")


def lay_out_copies(source: Path, target: Path) -> int:
    """Link test images as ``0/<class>/<name>``, ``1/<class>/<name>`` and so on; return how many links there are."""
    names = list_images(source)
    copies = -(-TIMED_IMAGES // len(names))
    for copy, name in product(range(copies), names):
        link(source / name, target / str(copy) / name)
    return copies * len(names)


def link(source: Path, target: Path) -> None:
    """Link to a file, in a folder that is made if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def read_map(maps: Path, name: str) -> NDArray[np.float32]:
    """Return the map (h, w) of a test image, such as ``scratch/003.png``, from the folder that a method wrote."""
    return np.asarray(np.load(maps / f"{name}.npy"), dtype=np.float32)


# --- anomalib ---


def run_anomalib(category: Path, scratch: Path, python: Path, arguments: Sequence[str]) -> Outcome:
    """Train and predict by anomalib's models, each in a process of its own, in anomalib's environment."""
    model, maps = scratch / "model.pt", scratch / "maps"

    def work(step: str, images: Path, *more: object) -> tuple[Finished, dict[str, Any]]:
        network = scratch.parent / "network.json"
        common = ("--network", network, "--images", images, "--file", model, *arguments)
        finished = finish([python, WORKER, step, *common, *more])
        return finished, json.loads(finished.output.splitlines()[-1])

    trained, training = work("train", category / "train" / "good")
    predicted, prediction = work("predict", category / "test", "--maps", maps)
    rate = 1000 / len(prediction["scores"])
    cost = Cost(
        trained.seconds,
        training["seconds"],
        prediction["seconds"] * rate,
        prediction["maps_seconds"] * rate,
        trained.memory_mb,
        predicted.memory_mb,
        model.stat().st_size,
    )
    return Outcome(cost, prediction["scores"], maps)


def write_network(folder: Path) -> None:
    """Write what the worker needs to build gaussad's network: its name, preprocessing, and weights by timm's names."""
    import timm
    from safetensors.torch import save_file

    from gaussad_cli.backbones.weights import find_checkpoint, to_timm_names

    weights = folder / "network.safetensors"
    tensors = to_timm_names(find_checkpoint(NETWORK, None).tensors, timm.create_model(NETWORK.timm_name))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights)
    described = {"timm_name": NETWORK.timm_name, "weights": str(weights), "size": NETWORK.input_size}
    (folder / "network.json").write_text(json.dumps(described | {"mean": NETWORK.mean, "std": NETWORK.std}))


# --- images and metrics ---


def list_images(folder: Path) -> list[str]:
    """Return the names of all files below a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def lay_out(source: Path, target: Path, limits: Sequence[int] | None) -> None:
    """Link the images of a category, or evenly spaced ones: so many to train and to test."""
    for split, limit in zip(("train/good", "test"), limits or (None, None), strict=True):
        names = list_images(source / split)
        chosen = np.linspace(0, len(names) - 1, min(limit or len(names), len(names))).round().astype(int)
        for name in (names[i] for i in chosen):
            link(source / split / name, target / split / name)


def evaluate(outcome: Outcome, source: Path) -> tuple[float, float, int]:
    """Return image and pixel AUROC in percent, and how many anomalous images have no mask."""
    anomalous = [is_anomalous(name) for name in outcome.scores]
    image = roc_auc_score(anomalous, list(outcome.scores.values()))
    masks = {name: read_mask(source, name) for name in outcome.scores}
    known = {name: mask for name, mask in masks.items() if mask is not None}
    maps = (stretch(read_map(outcome.maps, name), mask.shape) for name, mask in known.items())
    pixel = roc_auc_score(joined(known.values()), joined(maps))
    return 100 * float(image), 100 * float(pixel), len(masks) - len(known)


def is_anomalous(name: str) -> bool:
    """Whether a test image is anomalous, by its class folder."""
    return Path(name).parts[0] != "good"


def read_mask(source: Path, name: str) -> NDArray[np.bool_] | None:
    """Return the mask (h, w) of a test image: all False for normal ones, None for anomalous ones without a mask."""
    image = source / "test" / name
    if not is_anomalous(name):
        return np.zeros(read_grey(image).shape, dtype=np.bool_)
    path = source / "ground_truth" / Path(name).with_name(f"{image.stem}_mask.png")
    return read_grey(path) >= 128 if path.exists() else None


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Return an image file as grey values (h, w)."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def stretch(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bring a map to a mask's shape, bilinearly."""
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def joined(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Return all values of arrays of any shapes, (n,)."""
    return np.concatenate([values.ravel() for values in arrays])


# --- the table ---


def measure(options: argparse.Namespace, name: str, method: str, scratch: Path) -> Row:
    """Run a method on a category once and evaluate what it says."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        if method == GAUSSAD:
            outcome = run_gaussad(scratch / name, Path(folder))
        else:
            outcome = run_anomalib(scratch / name, Path(folder), options.anomalib, METHODS[method])
        image, pixel, without_mask = apart(evaluate, outcome, options.data / name)
        return Row(method, name, image, pixel, without_mask, outcome.cost)


def measure_all(options: argparse.Namespace, scratch: Path) -> Iterator[list[Row]]:
    """Run all methods in turns on one category after the other; yield all rows so far after every run."""
    rows: dict[tuple[str, str], Row] = {}
    for name in options.categories:
        lay_out(options.data / name, scratch / name, options.images)
        for _, method in product(range(options.repeats), options.methods):
            row = measure(options, name, method, scratch)
            before = rows.get((name, method))
            rows[name, method] = replace(row, cost=row.cost.best(before.cost)) if before else row
            show(rows[name, method])
            yield list(rows.values())


def show(row: Row) -> None:
    """Print a line of the table."""
    c = row.cost
    print(
        f"{row.method:<15} {row.category:<10} {row.image_auroc:>6.2f} {row.pixel_auroc:>6.2f} {c.train_s:>8.1f} "
        f"{c.train_work_s:>8.1f} {c.image_ms:>8.1f} {c.image_maps_ms:>8.1f} {c.train_mb:>9.0f} {c.predict_mb:>10.0f} "
        f"{c.model_bytes / 1e6:>9.2f}",
        flush=True,
    )


def save(path: Path | None, surroundings: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Write the figures so far, and their means, to a JSON file if one is wanted: an interrupted run leaves them."""
    if path:
        figures = {"environment": surroundings, "rows": [asdict(row) for row in (*rows, *means(rows))]}
        path.write_text(json.dumps(figures, indent=1) + "\n")


def means(rows: Sequence[Row]) -> list[Row]:
    """Return the mean over the categories of each method."""
    methods = dict.fromkeys(row.method for row in rows)
    return [mean([row for row in rows if row.method == method]) for method in methods]


def mean(rows: Sequence[Row]) -> Row:
    """Return the mean over the categories of one method."""
    cost = Cost(**{f.name: float(np.mean([getattr(row.cost, f.name) for row in rows])) for f in fields(Cost)})
    image, pixel = (float(np.mean([getattr(row, key) for row in rows])) for key in ("image_auroc", "pixel_auroc"))
    return Row(rows[0].method, "mean", image, pixel, sum(row.without_mask for row in rows), cost)


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Return what the figures depend on."""
    versions = "import importlib.metadata as m; print(*(f'{p} {m.version(p)}' for p in PACKAGES), sep=', ')"
    interpreters = {"gaussad": (sys.executable, ["torch", "onnxruntime", "timm"])}
    if options.anomalib:
        interpreters["anomalib"] = (str(options.anomalib), ["anomalib", "torch", "timm"])
    run = {
        key: finish([python, "-c", versions.replace("PACKAGES", str(packages))]).output.strip()
        for key, (python, packages) in interpreters.items()
    }
    return {"cores": str(os.cpu_count()), "load": f"{os.getloadavg()[0]:.2f}", "network": NETWORK.name, **run}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib", type=Path, help="Python interpreter of an environment with anomalib")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mvtec3"), help="folder in the MVTec layout")
    parser.add_argument("--categories", nargs="+", default=["bottle", "metal_nut", "screw"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT_METHODS)
    parser.add_argument("--images", type=int, nargs=2, metavar=("TRAIN", "TEST"), help="only so many, for a trial")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if options.anomalib is None and set(options.methods) != {GAUSSAD}:
        parser.error("--anomalib: give the interpreter of an environment with anomalib, or --methods gaussad")
    surroundings = environment(options)
    print("; ".join(f"{key} {value}" for key, value in surroundings.items()))
    print("                           AUROC, %       train, s     predict, ms/image     peak memory, MiB     model")
    print(
        "method          category    image  pixel    whole     work     plain     maps     train    predict        MB"
    )
    with tempfile.TemporaryDirectory() as folder:
        apart(write_network, Path(folder))
        for rows in measure_all(options, Path(folder)):
            save(options.json, surroundings, rows)
    for row in means(rows):
        show(row)


if __name__ == "__main__":
    main()
