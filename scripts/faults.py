"""Disturb every command in every way, many times: nothing whole is lost, and the next run ends as if nothing had been.

    python scripts/faults.py --count 200

Needs fork (Linux, macOS); some faults need Linux, or root. docs/faults.md has what it showed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # no thread may be there when a process is copied

import fault_kinds as kinds  # noqa: E402
from fault_bench import COMMANDS, EXTRACTIONS, Bench, Lost, Untried  # noqa: E402
from tqdm import tqdm  # noqa: E402

ALL = tuple(COMMANDS)
QUICK = tuple(command for command in ALL if command != "train autoencoder")  # which takes ten times as long


@dataclass(frozen=True)
class Fault:
    """A kind of fault, the commands it is tried on in turn, and how often for each kill."""

    disturb: Callable[[Bench, str, random.Random], str]
    commands: tuple[str, ...] = ALL
    share: float = 0.2

    @property
    def title(self) -> str:
        """First sentence of what it is."""
        return (self.disturb.__doc__ or "").split("\n", maxsplit=1)[0].rstrip(".")


FAULTS = {
    "killed": Fault(kinds.killed, share=1.0),
    "disk-full": Fault(kinds.disk_full),
    "file-too-large": Fault(kinds.file_too_large),
    "unwritable": Fault(kinds.unwritable),
    "unreadable": Fault(kinds.unreadable),
    "read-only": Fault(kinds.read_only),
    "image-changes": Fault(kinds.image_changes, EXTRACTIONS),
    "two-processes": Fault(kinds.two_processes),
    "two-tasks": Fault(kinds.two_tasks, ("extract", "evaluate")),
    "clock-jumps": Fault(kinds.clock_jumps),
    "memory-ends": Fault(kinds.memory_ends),
    "nan-weights": Fault(kinds.nan_weights, ("extract",)),
}


@dataclass
class Tally:
    """How the attempts of one fault ended."""

    ends: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    untried: str = ""
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="kills; of the other faults, a fifth  [default: 20]")
    parser.add_argument("--seed", type=int, default=0, help="moments and kinds; the machine's own pace stays random")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), help="these faults")
    parser.add_argument(
        "--commands",
        nargs="+",
        choices=ALL,
        default=list(QUICK),
        help="on these commands  [default: all but train autoencoder]",
    )
    options = parser.parse_args()
    if not hasattr(os, "fork"):
        parser.error("needs fork: run it on Linux or macOS")
    root = Path(tempfile.mkdtemp(prefix="gaussad-faults-"))
    bench = Bench(root)
    bench.prepare(tuple(options.commands))
    tallies = {name: _try(name, options.count, options.seed, options.commands, bench) for name in options.only}
    _print(tallies)
    losses = sum(len(tally.losses) for tally in tallies.values())
    if losses:
        print(f"\n{losses} lost. What they left is in {root}.", file=sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


def _try(name: str, count: int, seed: int, chosen: list[str], bench: Bench) -> Tally:
    fault, tally, begin = FAULTS[name], Tally(), time.perf_counter()
    commands = [command for command in fault.commands if command in chosen]
    attempts = max(1, round(count * fault.share)) if commands else 0
    for number in tqdm(range(attempts), desc=name, unit="fault", disable=None, dynamic_ncols=True):
        command = commands[number % len(commands)]
        try:
            tally.ends[fault.disturb(bench, command, random.Random(f"{seed} {name} {number}"))] += 1
        except Lost as loss:
            tally.losses.append(f"{name} {number}, {command}: {loss}")
            print(f"LOST {tally.losses[-1]}", file=sys.stderr)
        except Untried as reason:
            tally.untried = str(reason)
            break
    tally.seconds = time.perf_counter() - begin
    return tally


def _print(tallies: dict[str, Tally]) -> None:
    print("| fault | what | tried | survived | lost | how they ended | s |\n|---|---|--:|--:|--:|---|--:|")
    for name, tally in tallies.items():
        survived, lost = tally.ends.total(), len(tally.losses)
        ends = tally.untried or ", ".join(f"{n} {how}" for how, n in tally.ends.most_common())
        row = (name, FAULTS[name].title, survived + lost, survived, lost, ends, round(tally.seconds))
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    sys.exit(main())
