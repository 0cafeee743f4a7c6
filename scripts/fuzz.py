"""Feed gaussad damaged images, manifests, arrays, results and settings: each is refused in one line, or right.

    python scripts/fuzz.py --count 2000

Every case runs in a process of its own, within a limit of time and memory. Needs fork (Linux, macOS).
docs/faults.md has what it showed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # no thread may be there when a process is copied

import fuzz_files as files  # noqa: E402
from attempts import ERROR, REFUSED, Job, attempt, gaussad, import_what_they_import  # noqa: E402
from fuzz_images import BOMBS, absurd_size, damage, sound_images  # noqa: E402
from tqdm import tqdm  # noqa: E402

from gaussad_cli.errors import ImageError  # noqa: E402
from gaussad_cli.extraction.decode import read_squares  # noqa: E402

SECONDS = 20.0  # that a case may take
MIB = 2**20
# Share of the cases (bombs: each once), and MiB that one may take beyond what the program itself has
KINDS = {
    "images": (1.0, 1250),
    "bombs": (0.0, 1250),
    "manifests": (0.25, 128),
    "arrays": (0.15, 128),
    "spectra": (0.1, 128),
    "results": (0.25, 128),
    "settings": (0.25, 128),
}


@dataclass
class Tally:
    """How the cases of a kind ended, and the most that one took."""

    ends: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="images; of the others a share  [default: 200]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    if not hasattr(os, "fork"):
        parser.error("needs fork: run it on Linux or macOS")
    root = Path(tempfile.mkdtemp(prefix="gaussad-fuzz-"))
    tallies = {kind: _fuzz(kind, options.count, options.seed, root) for kind in KINDS if kind in options.only}
    _print(tallies)
    if complaints := sum(len(tally.complaints) for tally in tallies.values()):
        print(f"\n{complaints} complaints. Their files are in {root / 'complaints'}.", file=sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


def _fuzz(kind: str, count: int, seed: int, root: Path) -> Tally:
    folder, tally = root / kind, Tally()
    share, most = KINDS[kind]
    folder.mkdir()
    cases, total = _cases(kind, max(1, round(count * share)), seed, folder)
    base = attempt(lambda: None).memory
    for name, make in tqdm(cases, total=total, desc=kind, unit="case", disable=None, dynamic_ncols=True):
        job, judge = make()
        ended = attempt(job, SECONDS)
        memory = (ended.memory - base) // MIB
        tally.slowest, tally.largest = max(tally.slowest, ended.seconds), max(tally.largest, memory)
        try:
            how = judge(ended)
            complaint = ended.complaint or _too_much(memory, most)
        except AssertionError as wrong:
            complaint = str(wrong)
        if complaint:
            tally.complaints.append(complaint)
            print(f"COMPLAINT {kind} {name}: {complaint[:300]}", file=sys.stderr)
            shutil.copytree(folder, root / "complaints" / f"{kind}-{name}", ignore=shutil.ignore_patterns("base"))
        else:
            tally.ends[how] += 1
    return tally


def _too_much(memory: int, most: int) -> str | None:
    return f"took {memory} MiB, more than {most}" if memory > most else None


Make = Callable[[], files.Case]


def _cases(kind: str, count: int, seed: int, folder: Path) -> tuple[Iterator[tuple[str, Make]], int]:
    """Return what makes each case, with a name, and how many there are."""
    if kind == "bombs":
        return ((name, lambda name=name: _bomb(folder, name)) for name in BOMBS), len(BOMBS)
    draws = ((str(number), random.Random(f"{seed} {kind} {number}")) for number in range(count))
    if kind == "images":
        sound = sound_images()
        return ((name, lambda rng=rng: _image(folder, sound, rng)) for name, rng in draws), count
    if kind == "settings":
        import_what_they_import(_sound_settings(folder))
        return ((name, lambda rng=rng: files.settings(folder, rng)) for name, rng in draws), count
    cache = files.Cache(folder)
    import_what_they_import([cache.evaluate(cache.copy())])
    cache.make_results()
    return ((name, lambda rng=rng: getattr(files, kind)(cache, rng)) for name, rng in draws), count


def _sound_settings(folder: Path) -> Iterator[Job]:
    """Yield jobs that read sound settings: what they import is imported once."""
    path = folder / "settings.yaml"
    path.write_text("default: {flip: 0}\n")
    yield _refused(gaussad("augment-preview", "--augmentation", path, "--data", folder / "missing"))
    yield _refused(gaussad("run", "--config", files.CONFIGS / "table1.yaml", "--data", folder / "missing"))


def _refused(job: Job) -> Job:
    return lambda: job() != REFUSED


def _image(folder: Path, sound: dict[str, bytes], rng: random.Random) -> files.Case:
    name = rng.choice(sorted(sound))
    kind = rng.random()
    content = absurd_size(sound[name], rng) if kind < 0.35 else damage(sound[name], rng, list(sound.values()))
    if kind < 0.1:
        content = damage(content, rng, list(sound.values()))
    return _decoding(folder / name, content)


def _bomb(folder: Path, name: str) -> files.Case:
    path = folder / name
    for other in folder.iterdir():
        other.unlink()
    attempt(lambda: path.write_bytes(BOMBS[name]()) * 0)
    return _decoding(path, path.read_bytes())


def _decoding(path: Path, content: bytes) -> files.Case:
    """Read an image as `gaussad extract` does, and print an error as it does."""
    path.write_bytes(content)

    def read() -> int:
        try:
            square = read_squares(path, [224]).by_size[224]
        except ImageError as error:
            print(f"{ERROR}{error}", file=sys.stderr)
            return REFUSED if path.name in str(error) else 1
        return int(square.shape != (224, 224, 3) or str(square.dtype) != "uint8")

    return read, lambda ended: "refused" if ended.code else "decoded"


def _print(tallies: dict[str, Tally]) -> None:
    print("| kind | cases | how they ended | complaints | slowest, s | most memory, MiB |\n|---|--:|---|--:|--:|--:|")
    for kind, tally in tallies.items():
        ends = ", ".join(f"{n} {how}" for how, n in tally.ends.most_common())
        wrong = len(tally.complaints)
        print(f"| {kind} | {tally.ends.total() + wrong} | {ends} | {wrong} | {tally.slowest:.1f} | {tally.largest} |")


if __name__ == "__main__":
    sys.exit(main())
