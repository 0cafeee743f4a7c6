"""Manifests, arrays, results, settings for `fuzz.py`: a tiny cache without networks, and ways to damage its files."""

from __future__ import annotations

import copy
import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from attempts import Ended, Job, attempt, gaussad
from fuzz_images import damage

from gaussad_cli.extraction import store
from gaussad_cli.files import sha256_of

Case = tuple[Job, Callable[[Ended], str]]  # what to do, and what its end is called
CONFIGS = Path(__file__).parents[1] / "configs"

_NASTY: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 3, 2**63, 10**400, 1e308, float("nan"), float("-inf"), [], {}, [1], {"a": 1}),
    *(
        "",
        "x",
        "0",
        "train",
        "a" * 100_000,
        "../../../etc/passwd",
        "/etc/passwd",
        "\x1b[31mred",
        "a\nb",
        "\ud800",
        "\0",
    ),
    [[[[[[[[]]]]]]]],
)
_CELLS = ("", "nan", "inf", "-1", "1e999", "x", '"', "a,b", "\0", "\r", "9" * 5000, "é", "\x1b[31m", "0.5", "True")
_TOKENS = (
    *("null", "~", "true", "-1", "1e400", "9" * 5000, "[]", "{}", "[[1]]", "''", "'\\0'", '"\\x1b[31m"', "2026-13-45"),
    *("!!python/object:os.system x", "!!timestamp x", "!!int x", "!!bool x", "!!binary x", "!!set {a}", "*nowhere"),
    *(
        "&a [*a]",
        "<<: 3",
        "{[1]: 2}",
        "? x",
        "%YAML 9.9",
        "|",
        ">",
        "\t",
        "a: b: c",
        "@",
        "`",
        "[" * 2000,
        "{a: " * 500,
    ),
)
# A value of 400 characters that is billions when it is written out: each list is nine times the one before.
_BILLION = (
    "{a: &a [x, x, x, x, x, x, x, x, x]"
    + "".join(f", {b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    + "}"
)


class Cache:
    """A category's features and spectra, and its results, made once; each case damages a copy."""

    def __init__(self, root: Path) -> None:
        self.base, self.work = root / "base", root / "work"
        recipe = store.Recipe("efficientnet-lite0", 9, "none", "0" * 64, "tf", 224)
        generator = np.random.default_rng(0)
        for split, n in (("train", 8), ("test", 6)):
            images = tuple(
                store.ImageEntry(f"{split}/{label}/{i}.png", label, f"{i:064x}")
                for i, label in enumerate(["good"] * (n if split == "train" else 3) + ["bad"] * 3)
                if i < n
            )
            folder = store.split_folder(self.base / "cache", "tiny", recipe, "knob", split)
            features = {level: generator.standard_normal((n, 5), dtype=np.float32) for level in (1, 2)}
            store.write_features(folder, store.Manifest("tiny", "knob", split, recipe, images, {}), features)
        self.category = folder.parent.relative_to(self.base)
        self.results = Path("results/tiny")
        self.expected = b""

    def evaluate(self, at: Path) -> Job:
        """Return the job of an evaluation."""
        where = ("--cache", at / "cache", "--out", at / "results")
        return gaussad("evaluate", "--backbone", "efficientnet-lite0", "--mode", "all", "--levels", "1", *where)

    def make_results(self) -> None:
        """Fit and evaluate the sound cache."""
        fitted = attempt(gaussad("fit", "--backbone", "efficientnet-lite0", "--cache", self.base / "cache"))
        evaluated = attempt(self.evaluate(self.base))
        if fitted.code or evaluated.code:
            raise RuntimeError(f"sound files are refused: {fitted.err} {evaluated.err}")
        self.expected = (self.base / self.results / "metrics.csv").read_bytes()

    def copy(self, *without: str) -> Path:
        """Return a sound copy."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.base, self.work)
        for name in without:
            shutil.rmtree(self.work / name)
        return self.work

    def judge(self, ended: Ended, made_anew: bool) -> str:
        """Say how an evaluation of damaged files ended; results must be the right ones, but for files made anew."""
        if ended.code:
            return "refused"
        path = self.work / self.results / "metrics.csv"
        if path.read_bytes() == self.expected:
            return "correct"
        if not made_anew:
            raise AssertionError("took damaged files for sound ones: other results")
        return "taken as made anew"


def manifests(cache: Cache, rng: random.Random) -> Case:
    """Damage the bytes of a manifest, or any value in it, with its digest made right again or not."""
    folder = cache.copy("results") / cache.category / rng.choice(("train", "test"))
    path, seal = folder / store.MANIFEST, rng.random() < 0.5
    if rng.random() < 0.4:
        seal = False
        path.write_bytes(damage(path.read_bytes(), rng, [b"{}", b"[]", b"null", b'"\xff"']))
    else:
        content = json.loads(path.read_text("utf-8"))
        for _ in range(rng.choice((1, 1, 3))):
            damage_value(content, rng)
        if seal and isinstance(content, dict):
            content = store.sealed(content)
        path.write_text(json.dumps(content), "utf-8")
    return cache.evaluate(cache.work), lambda ended: cache.judge(ended, seal)


def damage_value(content: Any, rng: random.Random) -> None:
    """Replace, remove or repeat a value of a JSON object, anywhere."""
    places = list(_places(content))
    if places:
        holder, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.15:
            del holder[key]
        elif kind < 0.25 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            other, there = rng.choice(places)
            holder[key] = rng.choice((*_NASTY, copy.deepcopy(other[there])))  # a copy: it may be what this is in


def _places(content: Any) -> Any:
    for key in list(content) if isinstance(content, dict) else range(len(content) if isinstance(content, list) else 0):
        yield content, key
        yield from _places(content[key])


def arrays(cache: Cache, rng: random.Random) -> Case:
    """Damage a feature file, its header above all, with the hash in the manifest made right again or not."""
    folder = cache.copy("results", str(cache.category / "spectra")) / cache.category / rng.choice(("train", "test"))
    path, seal = folder / "level_1.npy", rng.random() < 0.6
    content = path.read_bytes()
    place = rng.choice((128, 128, len(content)))
    changed = _new_header(rng) if rng.random() < 0.4 else damage(content[:place], rng, [b"PK\3\4", content])
    path.write_bytes(changed + content[place:])
    if seal:
        manifest = json.loads((folder / store.MANIFEST).read_text("utf-8"))
        manifest["levels"]["1"]["sha256"] = sha256_of(path)
        (folder / store.MANIFEST).write_text(json.dumps(store.sealed(manifest)), "utf-8")
    return cache.evaluate(cache.work), lambda ended: cache.judge(ended, seal)


def _new_header(rng: random.Random) -> bytes:
    shape = rng.choice(
        ("(8, 5)", "(2**40, 5)", "(99999999999, 99999)", "(-1, 5)", "(0, 5)", "()", "(8,)", "(8, 5, 1)", "x")
    )
    kind = rng.choice(("'<f4'", "'>f4'", "'<f8'", "'|O'", "'|V4'", "'<U1'", "[('a', '<f4')]", "'<M8[s]'", "'zz'", "1"))
    order = rng.choice(("False", "True", "None", "()"))
    text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}" + rng.choice(("", "\0", "(" * 200))
    version, form = rng.choice(((1, "<H"), (2, "<I"), (3, "<I"), (9, "<I")))
    length = rng.choice((len(text) + 1, len(text) + 1, len(text) + 1, 0, 65535))
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack(form, length) + text.encode() + b"\n"


def spectra(cache: Cache, rng: random.Random) -> Case:
    """Damage fitted spectra: the bytes, or the arrays in a file that is sound otherwise."""
    path = cache.copy("results") / cache.category / "spectra" / "level_1.npz"
    anew = rng.random() < 0.6
    if anew:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        name = rng.choice([name for name in content if name != "source"])
        content[name] = _other_array(content[name], rng)
        rng.choice((np.savez, np.savez_compressed))(path, **content)
    else:
        path.write_bytes(damage(path.read_bytes(), rng, [b"PK\3\4", b"\x93NUMPY"]))
    return cache.evaluate(cache.work), lambda ended: cache.judge(ended, anew)


def _other_array(values: Any, rng: random.Random) -> Any:
    numbers = np.asarray(values, dtype=np.float64)
    return rng.choice(
        (
            np.full_like(numbers, np.nan),
            np.full_like(numbers, np.inf),
            -numbers,
            0 * numbers,
            numbers[..., None],
            numbers.reshape(-1)[:1],
            np.zeros(0),
            np.array("x"),
            np.array(-5),
            np.array(2**62),
            numbers.astype(complex),
            np.zeros((3000, 3000)),
        )
    )


def results(cache: Cache, rng: random.Random) -> Case:
    """Damage a results file: its bytes, or its cells, rows and columns; then tables, evaluate, compare read it."""
    work = cache.copy()
    path = rng.choice([path for path in sorted((work / cache.results).rglob("*")) if path.is_file()])
    content = path.read_bytes()
    if rng.random() < 0.4:
        path.write_bytes(damage(content, rng, [b"\xff\xfe", b"\0" * 9, content]))
    elif path.suffix == ".csv":
        path.write_text(_other_cells(content.decode(), rng), "utf-8", newline="")
    else:
        values = json.loads(content)
        damage_value(values, rng)
        path.write_text(json.dumps(values), "utf-8")
    compare = gaussad("compare", cache.base / "results", work / "results")
    readers = (gaussad("tables", "--results", work / "results"), cache.evaluate(work), compare)
    return rng.choice(readers), lambda ended: "refused" if ended.code else "read"


def _other_cells(text: str, rng: random.Random) -> str:
    rows = [line.split(",") for line in text.split("\n")]
    for _ in range(rng.choice((1, 1, 3))):
        row = rng.choice(rows[:-1] or [[""]])
        column = rng.randrange(len(row)) if row else 0
        kind = rng.random()
        if kind < 0.6 and row:
            row[column] = rng.choice((*_CELLS, rng.choice(row)))
        elif kind < 0.7:
            rows.insert(1, list(row))
        elif kind < 0.8:
            rows = [each[:column] + each[column + 1 :] for each in rows]
        else:
            rows.remove(row) if row in rows else None
    return "\n".join(map(",".join, rows))


def settings(folder: Path, rng: random.Random) -> Case:
    """Damage an experiment file or augmentation rules; the data set that they are read for is missing."""
    files = [*sorted(CONFIGS.glob("*.yaml")), Path(store.__file__).with_name("augmentation.yaml")]
    source, path = rng.choice(files), folder / "settings.yaml"
    content = source.read_bytes()
    if rng.random() < 0.3:
        path.write_bytes(damage(content, rng, [b"\xff\xfe", b"&a [*a]", content]))
    else:
        path.write_text(_other_lines(content.decode(), rng), "utf-8")
    missing = ("--data", folder / "missing")
    if source.parent == CONFIGS:
        job = gaussad("run", "--config", path, *missing)
    else:
        job = gaussad("augment-preview", "--augmentation", path, *missing)
    return job, lambda ended: "taken" if "no such folder" in ended.err else "refused"


def _other_lines(text: str, rng: random.Random) -> str:
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.randrange(len(lines))
        key, colon, _value = lines[number].partition(":")
        kind = rng.random()
        if kind < 0.6:
            lines[number] = f"{key}{colon or ':'} {rng.choice(_TOKENS)}"
        elif kind < 0.8:
            lines[number] = rng.choice(_TOKENS)
        elif kind < 0.9:
            lines[number] = f"{key}{colon or ':'} {_BILLION}"
        else:
            lines.insert(number, rng.choice(lines))
    return "\n".join(lines)
