"""The harness sees a hang, a crash, a traceback and a loss."""

import os
import sys
import time

import pytest

from tests.robustness.bench import Case, Reference, contents
from tests.robustness.harness import REFUSED, attempt


def refuse(text):
    print(f"gaussad: error: {text}", file=sys.stderr)
    return REFUSED


@pytest.mark.parametrize(
    ("job", "is_clear"),
    [
        (lambda: 1 / 0, False),
        (os.abort, False),
        (lambda: time.sleep(60), False),
        (lambda: REFUSED, False),
        (lambda: refuse("a\nb"), False),
        (lambda: refuse("\x1b[2J"), False),
        (lambda: refuse("no"), True),
        (lambda: 0, True),
    ],
)
def test_a_job_that_neither_completes_nor_refuses_in_one_line_is_seen(job, is_clear):
    assert attempt(job, 1.0).is_clear == is_clear


def test_the_memory_of_a_job_is_seen():
    assert 45 < attempt(lambda: len(bytearray(os.urandom(50 << 20))) * 0).memory < 120


@pytest.mark.parametrize(
    ("damage", "loss"), [(lambda p: p.unlink(), "gone"), (lambda p: p.write_bytes(b"half"), "whole")]
)
def test_a_loss_is_seen(tmp_path, damage, loss):
    class ToyBench:
        data = tmp_path

        def reference(self, _):
            return Reference(tmp_path / "after", tmp_path / "after", 1.0)

    (tmp_path / "after/cache").mkdir(parents=True)
    for name in ("a.npy", "b.npy"):
        (tmp_path / f"after/cache/{name}").write_bytes(b"whole")
    case = Case(ToyBench(), "extract", tmp_path, None)
    before = contents(case.work)
    case.nothing_lost(before)
    damage(case.work / "cache/a.npy")
    with pytest.raises(AssertionError, match=rf"cache/a\.npy is (not )?{loss}"):
        case.nothing_lost(before)
