"""A small run of the fault campaign; a check that it sees a loss; an image that changes between two readings."""

import subprocess
import sys
from dataclasses import replace

import pytest

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction import pipeline, store
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.files import sha256_of
from tests.conftest import ROOT, write_image
from tests.extraction import toy

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


@needs_fork
def test_faults_in_an_extraction_lose_nothing_and_the_next_run_ends_as_if_nothing_had_been():
    faults = ["killed", "image-changes", "two-processes"]
    command = [sys.executable, ROOT / "scripts/faults.py", "--count", "2", "--commands", "extract", "--only", *faults]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in done.stdout.strip().split("\n")[2:]]
    assert [row[0] for row in rows] == faults
    assert [row[2:5] for row in rows] == [["2", "2", "0"]] + [["1", "1", "0"]] * 2


LOSSES = """
import sys; from pathlib import Path; import fault_bench as b
root = Path(sys.argv[1])
bench = b.Bench(root)
(root / "after/cache").mkdir(parents=True)
for name in ("a.npy", "b.npy"):
    (root / f"after/cache/{name}").write_bytes(b"whole")
bench.references["extract"] = b.Reference(root / "before", root / "after", 1.0)
import shutil; shutil.copytree(root / "after", root / "work")
before = b.contents(root / "work")
bench.nothing_lost("extract", before, root / "work")
for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(b"half")):
    damage(root / "work/cache/a.npy")
    try:
        bench.nothing_lost("extract", before, root / "work")
    except b.Lost as loss:
        print(loss)
"""


@needs_fork
def test_a_loss_is_seen(tmp_path):
    command = [sys.executable, "-c", LOSSES, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout.split("\n") == ["cache/a.npy is gone", "cache/a.npy is not whole", ""], done.stderr


def test_an_image_that_changes_between_two_readings_for_its_epochs_is_named_and_nothing_is_kept_of_it(
    tmp_path, tiny, monkeypatch
):
    """Half of its epochs would be of one image, half of another, and the manifest would know one of them."""
    monkeypatch.setattr(pipeline, "VIEWS_PER_READING", 1)
    (category, _) = find_categories(tiny)
    recipe = replace(toy.RECIPE, epochs=2, augmentation="a")
    augmentation = Augmentation(read_rules(None))
    extractor = pipeline.Extractor(
        [pipeline.Target(toy.ToyEngine(), recipe)], tmp_path / "cache", "tiny", 1, workers=0, augmentation=augmentation
    )
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "read_squares", changing(pipeline.read_squares))
        with pytest.raises(ImageError, match=r"003\.png changed while"):
            extractor(category, lambda _: None)
    folder = store.split_folder(tmp_path / "cache", "tiny", recipe, "knob", "train")
    assert not (folder / store.MANIFEST).exists()
    extractor(category, lambda _: None)
    assert store.read_manifest(folder).images[3].sha256 == sha256_of(tiny / "knob/train/good/003.png")


def changing(read):
    """Let 003.png be another image as soon as it was read for the first time."""
    changes = iter([True])

    def read_and_change(path, sizes):
        squares = read(path, sizes)
        if path.name == "003.png" and next(changes, False):
            write_image(path, seed=4711)
        return squares

    return read_and_change
