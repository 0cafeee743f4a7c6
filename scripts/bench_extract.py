"""Extraction against a plain timm loop, side by side in one run, and against the machine's limits.

    python scripts/bench_extract.py --data MVTEC --backbone efficientnet-lite0 [--images 256] [--repeats 2]
    python scripts/bench_extract.py --backbone efficientnet-b0 --roofline --device cuda
    python scripts/bench_extract.py --data MVTEC --levels 1 --memory [--counts 1000 10000]
    python scripts/bench_extract.py --data MVTEC --auroc [--categories bottle screw]

Every measurement is a process of its own, in turns, without imports, building networks and the first batch:

  plain      what a user would write: DataLoader, timm model in eval mode, hooks, float32, batches of 32
  onnx, ...  gaussad's engines, from files to a finished cache
  decode     files to squares alone, on all cores
  augment    squares to augmented squares alone, on all cores
  epochs     gaussad's fastest engine on augmented views, from files to a finished cache; not comparable with plain
  network    the fastest engine alone, on squares in memory

Features must equal the plain loop's to 1e-4 of the level's root mean square, or the run fails. `--roofline` runs the
torch engine on images in memory instead, by batch size and precision, beside the time that its multiply-adds and bytes
would take at the matrix product rate and the memory bandwidth measured on the same device.

`--memory` extracts two data sets of so many images, the given ones over and over by links, and compares the peaks of
resident memory; the graph is exported before, so that no peak is the export's. `--auroc` puts the plain loop's features
of whole categories into a cache, evaluates them and gaussad's own in the same way, and compares every AUROC.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gaussad_cli.backbones.info import measure_shape
from gaussad_cli.backbones.network import create_model, normalise
from gaussad_cli.backbones.padding import use_paper_padding
from gaussad_cli.backbones.registry import Backbone, Padding, format_levels
from gaussad_cli.backbones.resolve import NetworkOptions, ResolvedNetwork, resolve
from gaussad_cli.backbones.weights import load_levels
from gaussad_cli.datasets.index import SPLITS, Category, ImageFile, find_categories
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.evaluate import evaluate_dataset
from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.extraction import store
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import Compute, Engine, EngineChoice, build_engine, choose_engine, usable_cores
from gaussad_cli.extraction.extract import Request, extract_dataset
from gaussad_cli.extraction.pipeline import Extractor, Target

TOLERANCE = 1e-4
MEMORY_TOLERANCE = 1.1  # ten times the images may take so much of the memory
AUROC_TOLERANCE = 0.05  # percentage points
PLAIN_BATCH = 32
EPOCHS = 8
AUGMENTATION = Augmentation(read_rules(None))  # by the default's rules, those of most texture categories
Features = dict[int, NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """What is measured: one network, on the first images of a data set."""

    options: NetworkOptions
    network: ResolvedNetwork
    category: Category

    @classmethod
    def of(cls, options: argparse.Namespace) -> Setting:
        """Take the options."""
        network = NetworkOptions(options.backbone, options.levels, options.weights)
        images = [image for category in find_categories(options.data) for image in (*category.train, *category.test)]
        step = max(1, len(images) // options.images)
        chosen = tuple(images[::step][: options.images])
        category = Category("bench", chosen, chosen[:1])  # a split cannot be empty
        return cls(network, resolve(network), category)

    def engine(self, choice: EngineChoice, cache: Path) -> Engine:
        """Build an engine."""
        return build_engine(choice, self.network, cache)

    @property
    def backbone(self) -> Backbone:
        """The network's backbone."""
        return self.network.backbone

    @property
    def levels(self) -> tuple[int, ...]:
        """The network's levels."""
        return self.network.levels

    def squares(self, n: int) -> NDArray[np.uint8]:
        """Decode the first n images."""
        size = self.backbone.input_size
        return np.stack([read_squares(image.path, [size]).by_size[size] for image in self.category.train[:n]])


# --- the measurements: each returns seconds for all images, and features where it has them ---


def plain(setting: Setting, _: str) -> tuple[float, Features]:
    """Do what a user would write."""
    backbone = setting.backbone
    model = create_model(backbone)
    load_levels(model, backbone, setting.network.checkpoint, setting.levels)
    if setting.network.padding == "paper":
        use_paper_padding(model, backbone.input_size)
    maps: dict[int, Tensor] = {}
    for level in setting.levels:
        module = model.get_submodule(backbone.level_modules[level - 1][-1])
        module.register_forward_hook(lambda _m, _i, output, level=level: maps.update({level: output}))
    paths = [image.path for image in setting.category.train]
    loader = torch.utils.data.DataLoader(_Files(paths, backbone), PLAIN_BATCH, num_workers=usable_cores())
    features: dict[int, list[NDArray[Any]]] = {level: [] for level in setting.levels}
    with torch.inference_mode():
        model(torch.zeros(1, 3, backbone.input_size, backbone.input_size))
        begin = time.perf_counter()
        for batch in loader:
            model(batch)
            for level, feature_map in maps.items():
                features[level].append(feature_map.mean(dim=(2, 3)).numpy())
        seconds = time.perf_counter() - begin
    return seconds, {level: np.concatenate(parts) for level, parts in features.items()}


class _Files(torch.utils.data.Dataset[Tensor]):
    def __init__(self, paths: list[Path], backbone: Backbone) -> None:
        self.paths, self.backbone = paths, backbone

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        size = self.backbone.input_size
        square = read_squares(self.paths[number], [size]).by_size[size]
        return normalise(torch.from_numpy(square)[None], self.backbone)[0].contiguous()


def extraction(setting: Setting, choice: str) -> tuple[float, Features]:
    """Files to a finished cache."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = store.Recipe(setting.backbone.name, 9, "", "", setting.network.padding, setting.backbone.input_size)
        seconds = _extract(setting, choice, recipe, None, Path(folder))
        split = store.split_folder(Path(folder), "bench", recipe, "bench", "train")
        manifest = store.read_manifest(split)
        return seconds, {level: store.read_features(split, manifest, level) for level in setting.levels}


def epochs(setting: Setting, choice: str) -> tuple[float, Features]:
    """Augmented views of files to a finished cache: an eighth of the images, eight times."""
    few = replace(setting, category=replace(setting.category, train=setting.category.train[::EPOCHS]))
    recipe = store.Recipe(
        setting.backbone.name, 9, "", "", setting.network.padding, setting.backbone.input_size, epochs=EPOCHS
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = _extract(few, choice, recipe, AUGMENTATION, Path(folder))
        return seconds * len(setting.category.train) / len(few.category.train), {}


def _extract(
    setting: Setting, choice: str, recipe: store.Recipe, augmentation: Augmentation | None, folder: Path
) -> float:
    """Return seconds per pass of the training images."""
    chosen = choose_engine(*choice.split("/"))
    engine = setting.engine(chosen, folder)
    engine.run(setting.squares(2))
    targets, workers = [Target(engine, recipe)], usable_cores()
    extractor = Extractor(targets, folder, "bench", chosen.batch_size, workers, augmentation=augmentation)
    begin = time.perf_counter()
    passes = extractor(setting.category, lambda _: None)
    return (time.perf_counter() - begin) * len(setting.category.train) / passes


def decode(setting: Setting, _: str) -> tuple[float, Features]:
    """Files to squares."""
    size = setting.backbone.input_size
    with ThreadPoolExecutor(usable_cores()) as pool:
        begin = time.perf_counter()
        for _square in pool.map(lambda image: read_squares(image.path, [size]).by_size[size], setting.category.train):
            pass
        return time.perf_counter() - begin, {}


def augment(setting: Setting, _: str) -> tuple[float, Features]:
    """Squares to augmented squares."""
    augmenter = AUGMENTATION.augmenter("bench")
    squares = setting.squares(min(64, len(setting.category.train)))
    augmenter(squares[0], "first", 0)
    n = len(setting.category.train)
    with ThreadPoolExecutor(usable_cores()) as pool:
        begin = time.perf_counter()
        for _view in pool.map(lambda i: augmenter(squares[i % len(squares)], str(i), 0), range(n)):
            pass
        return time.perf_counter() - begin, {}


def network(setting: Setting, choice: str) -> tuple[float, Features]:
    """Squares to features."""
    chosen = choose_engine(*choice.split("/"))
    with tempfile.TemporaryDirectory() as folder:
        engine = setting.engine(chosen, Path(folder))
    squares, n = setting.squares(chosen.batch_size), len(setting.category.train)
    engine.run(squares)
    begin = time.perf_counter()
    for _batch in range(max(1, n // len(squares))):
        engine.run(squares)
    return (time.perf_counter() - begin) * n / (max(1, n // len(squares)) * len(squares)), {}


def memory(setting: Setting, argument: str) -> tuple[float, Features]:
    """Extract a data set of "<count>:<folder>" images into the folder's cache."""
    count, _, folder = argument.partition(":")
    data = Path(folder) / f"images-{count}"
    repeat_images(setting.category.train, data / "bench", int(count))
    begin = time.perf_counter()
    report = extract_dataset(Request(data, [setting.options], Path(folder) / "cache", compute=Compute(device="cpu")))
    return (time.perf_counter() - begin) * len(setting.category.train) / report.extracted, {}


def repeat_images(images: Sequence[ImageFile], category: Path, count: int) -> None:
    """Lay out a category of `count` images, the first of them to test, by links; by copies where there are none."""
    for split in ("train", "test"):
        (category / split / "good").mkdir(parents=True)
    for i in range(count):
        source = images[i % len(images)].path.resolve()
        target = category / ("train" if i else "test") / "good" / f"{i:06d}{source.suffix}"
        try:
            target.symlink_to(source)
        except OSError:  # Windows asks for a privilege
            shutil.copyfile(source, target)


def matrix_rate(device: str = "cpu", precision: str = "fp32") -> float:
    """Multiply-adds per second of a large matrix product."""
    n = 8192 if device == "cuda" else 2048
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    a = torch.rand(n, n, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return n**3 / _best_seconds(lambda: a @ a, device)


def bandwidth(device: str) -> float:
    """Bytes read and written per second by a large copy."""
    a = torch.empty(2**28 if device == "cuda" else 2**26, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / _best_seconds(lambda: b.copy_(a), device)


def _best_seconds(function: Callable[[], object], device: str, repeats: int = 10) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best


# --- roofline of the torch engine ---


def roofline(options: argparse.Namespace) -> None:
    """Print images/s by batch size and precision, beside what the device's limits would allow."""
    resolved = resolve(NetworkOptions(options.backbone, options.levels, options.weights))
    backbone, padding, levels = resolved.backbone, resolved.padding, resolved.levels
    macs = measure_shape(backbone, padding).multiply_adds[max(levels) - 1]
    device = choose_engine("torch", options.device, "fp32").device
    bytes_per_s = bandwidth(device)
    print(f"{backbone.name}, {macs / 1e9:.2f} G multiply-adds, bandwidth {bytes_per_s / 1e9:.0f} GB/s")
    print("precision  batch  images/s   TFLOP/s peak   limit images/s   share of limit")
    for precision in ("fp32", "tf32", "bf16") if device == "cuda" else ("fp32", "bf16"):
        rate = matrix_rate(device, precision)
        choice = choose_engine("torch", device, precision)
        with tempfile.TemporaryDirectory() as folder:
            engine = build_engine(choice, resolved, Path(folder))
        moved = _activation_bytes(backbone, padding, levels, 2 if precision == "bf16" else 4)
        limit = 1 / max(macs / rate, moved / bytes_per_s)
        for batch in options.batch_sizes:
            images = np.zeros((batch, backbone.input_size, backbone.input_size, 3), np.uint8)
            engine.run(images)
            speed = batch / _best_seconds(partial(engine.run, images), device, 5)
            measured_part = f"{precision:>9} {batch:>6} {speed:>9.1f}"
            print(f"{measured_part} {2 * rate / 1e12:>14.2f} {limit:>16.1f} {speed / limit:>16.2f}", flush=True)


def _activation_bytes(backbone: Backbone, padding: Padding, levels: tuple[int, ...], width: int) -> int:
    """Bytes that convolutions and activations read and write for one image, each once: no more can be fused away."""
    from gaussad_cli.backbones.network import tap_levels

    moved = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += width * (inputs[0].numel() + output.numel())

    with torch.device("meta"):
        model = tap_levels(create_model(backbone), backbone, padding, levels)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        model(torch.empty(1, 3, backbone.input_size, backbone.input_size))
    return moved


# --- memory by number of images ---


def compare_memory(options: argparse.Namespace) -> int:
    """Print peak memory and images/s of extracting few and many images."""
    few, many = options.counts
    with tempfile.TemporaryDirectory() as folder:
        measured("memory", options, f"{EPOCHS}:{folder}")
        peaks = {}
        for count in (few, many):
            result = measured("memory", options, f"{count}:{folder}")
            peaks[count] = result["memory"]
            print(f"{count:>6} images: peak {result['memory']:.0f} MB, {result['rate']:.1f} images/s", flush=True)
    ratio = peaks[many] / peaks[few]
    print(
        f"{options.backbone}, levels {options.levels or 'all'}: {peaks[many] - peaks[few]:+.0f} MB, ratio {ratio:.3f}, "
        f"at most {MEMORY_TOLERANCE:g}"
    )
    return 0 if ratio <= MEMORY_TOLERANCE else 1


# --- AUROC by the plain loop's features and by gaussad's ---

_ROW = ["category", "level", "score", "mode", "var"]  # what names an AUROC, but for its fold


def compare_auroc(options: argparse.Namespace) -> int:
    """Print the largest difference of an AUROC over categories, levels and scorings."""
    setting = Setting.of(options)
    name = setting.backbone.name
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for category in find_categories(options.data, options.categories):
            write_plain(setting, category, cache)
        compute = Compute(device=options.device)
        report = extract_dataset(
            Request(options.data, [setting.options], cache, "gaussad", options.categories, compute)
        )
        if report.problem:
            raise UserError(report.problem)
        plain_rows, our_rows = (
            evaluate_dataset(Selection(name, cache, dataset), PAPER_SCORINGS, Path(folder)).metrics
            for dataset in ("plain", "gaussad")
        )
    differences = auroc_differences(plain_rows, our_rows)
    worst = float(differences.max())
    both = " and their sum" if len(setting.levels) > 1 else ""
    n_scorings = len(our_rows[["score", "mode", "var"]].drop_duplicates())
    print(
        f"{name}, levels {format_levels(setting.levels)}{both}, {our_rows['category'].nunique()} categories, "
        f"{n_scorings} scorings: {len(differences)} AUROCs, means over folds\n"
        f"largest difference {worst:.4f} points, at most {AUROC_TOLERANCE:g}:"
    )
    largest = differences.sort_values(ascending=False).head(5)
    print(largest.rename("points").reset_index().to_string(index=False))
    return 0 if worst <= AUROC_TOLERANCE else 1


def write_plain(setting: Setting, category: Category, cache: Path) -> None:
    """Write the plain loop's features of a category, as anybody may who made them elsewhere."""
    backbone = setting.backbone
    recipe = store.Recipe(backbone.name, backbone.n_levels, "plain", "", setting.network.padding, backbone.input_size)
    for split in SPLITS:
        images = category.split(split)
        _, features = plain(replace(setting, category=replace(setting.category, train=images)), "")
        entries = tuple(store.ImageEntry(image.name, image.label, "") for image in images)
        manifest = store.Manifest("plain", category.name, split, recipe, entries, {})
        store.write_features(store.split_folder(cache, "plain", recipe, category.name, split), manifest, features)


def auroc_differences(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Return what the fold means of two evaluations differ by, percentage points, by row; they must have the same."""
    a, b = (100 * rows.groupby(_ROW, dropna=False)["auroc"].mean() for rows in (one, other))
    if len(a) != len(b) or not a.index.isin(b.index).all():
        raise ValueError("the evaluations have not the same rows")
    return (a - b.reindex(a.index)).abs()


# --- one measurement per process ---


def measured(name: str, options: argparse.Namespace, argument: str = "") -> dict[str, Any]:
    """Run one measurement in a process of its own; return images/s, peak memory, and where its features are."""
    command = [sys.executable, __file__, *options.passed, "--measure", name, "--argument", argument]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(options: argparse.Namespace) -> None:
    """Do one measurement and print it as JSON."""
    setting = Setting.of(options)
    if options.measure == "matrix":
        print(json.dumps({"rate": matrix_rate()}))
        return
    functions = {"plain": plain, "extraction": extraction, "decode": decode, "augment": augment}
    functions |= {"epochs": epochs, "network": network, "memory": memory}
    seconds, features = functions[options.measure](setting, options.argument)
    path = None
    if features:
        path = tempfile.mkstemp(suffix=".npz")[1]
        np.savez(path, **{str(level): values for level, values in features.items()})  # type: ignore[arg-type]
    n = len(setting.category.train)
    print(json.dumps({"rate": n / seconds, "memory": _peak_memory(options.measure == "plain"), "features": path}))


def _peak_memory(has_workers: bool) -> float:
    """Peak resident memory of this process and its largest worker, MB; 0 where the platform does not tell.

    Who has no workers may still have started a program for a moment, at whose start Linux counts this process again.
    """
    try:
        import resource
    except ImportError:
        return 0.0
    processes = (resource.RUSAGE_SELF, *((resource.RUSAGE_CHILDREN,) if has_workers else ()))
    return sum(resource.getrusage(who).ru_maxrss for who in processes) / (2**20 if sys.platform == "darwin" else 2**10)


def _load() -> str:
    """Return the load of the last minute; Windows keeps none."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def _largest_difference(ours: str, theirs: str) -> float:
    with np.load(ours) as a, np.load(theirs) as b:
        return max(float(np.abs(a[k] - b[k]).max() / np.sqrt(np.square(b[k]).mean())) for k in b.files)


def compare(options: argparse.Namespace) -> int:
    """Measure everything in turns, and print the best of each."""
    fastest = "auto/auto/fp32"
    plan = [
        ("plain", "plain", ""),
        ("onnx", "extraction", "onnx/cpu/fp32"),
        ("torch", "extraction", f"torch/{options.device}/fp32"),
        ("decode only", "decode", ""),
        ("augment only", "augment", ""),
        ("epochs", "epochs", fastest),
        ("network only", "network", fastest),
    ]
    best: dict[str, dict[str, Any]] = {}
    differences: dict[str, float] = {}
    rate = 0.0
    for _ in range(options.repeats):
        for label, name, argument in plan:
            result = measured(name, options, argument)
            if label not in best or result["rate"] > best[label]["rate"]:
                best[label] = result
            if result["features"] and label != "plain":
                differences[label] = _largest_difference(result["features"], best["plain"]["features"])
        rate = max(rate, measured("matrix", options)["rate"])
    setting = Setting.of(options)
    macs = measure_shape(setting.backbone, setting.network.padding).multiply_adds[max(setting.levels) - 1]
    print(
        f"{setting.backbone.name}, levels {options.levels or 'all'}, {len(setting.category.train)} images, "
        f"{usable_cores()} cores, load {_load()}, torch {torch.__version__}, best of {options.repeats}"
    )
    print("              images/s   x plain   peak MB   largest difference   share of matrix peak")
    for label, result in best.items():
        ratio, share = result["rate"] / best["plain"]["rate"], result["rate"] * macs / rate
        difference = f"{differences[label]:.1e}" if label in differences else "-"
        shown = "-" if label in ("decode only", "augment only") else f"{share:.2f}"
        print(f"{label:<13} {result['rate']:>8.1f} {ratio:>9.2f} {result['memory']:>9.0f} {difference:>20} {shown:>22}")
    decoding, running = best["decode only"]["rate"], best["network only"]["rate"]
    whole = max(best["onnx"]["rate"], best["torch"]["rate"])
    print(f"end to end / slower of decode and network: {whole / min(decoding, running):.2f}")
    print(f"end to end / both on the same cores:       {whole * (1 / decoding + 1 / running):.2f}")
    alone = 1 / (EPOCHS * decoding) + 1 / best["augment only"]["rate"] + 1 / running
    print(f"epochs / all three on the same cores:      {best['epochs']['rate'] * alone:.2f}")
    print(f"matrix product: {2 * rate / 1e9:.0f} GFLOP/s")
    for result in best.values():
        if result["features"]:
            Path(result["features"]).unlink()
    worst = max(differences.values())
    return 0 if worst <= TOLERANCE else print(f"features differ by {worst:.1e} > {TOLERANCE:g}") or 1


def _passed(options: argparse.Namespace) -> Iterator[str]:
    for name in ("data", "backbone", "levels", "weights", "images"):
        if getattr(options, name) is not None:
            yield from (f"--{name}", str(getattr(options, name)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mvtec3"))
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--levels")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--roofline", action="store_true")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--counts", type=int, nargs=2, default=(1000, 10000))
    parser.add_argument("--auroc", action="store_true")
    parser.add_argument("--categories", nargs="+")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--argument", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.passed = list(_passed(options))
    if options.measure:
        measure(options)
        return 0
    if options.roofline:
        roofline(options)
        return 0
    if options.memory:
        return compare_memory(options)
    return compare_auroc(options) if options.auroc else compare(options)


if __name__ == "__main__":
    sys.exit(main())
