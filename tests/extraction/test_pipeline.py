"""Extraction into the cache with a stand-in for the network: resuming, extending, refusing."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.extraction import pipeline, store
from gaussad_cli.extraction.pipeline import Extractor, Target
from gaussad_cli.files import sha256_of
from tests.conftest import write_image
from tests.extraction.toy import RECIPE, ToyEngine


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD", 4)


def extractor(tmp_path, engine=None, cache="cache", **options):
    targets = [Target(engine or ToyEngine(), RECIPE)]
    return Extractor(targets, tmp_path / cache, "tiny", **{"batch_size": 2, **options})


def features(tmp_path, category="knob", split="train", level=2, cache="cache"):
    folder = store.split_folder(tmp_path / cache, "tiny", RECIPE, category, split)
    return store.read_features(folder, store.read_manifest(folder), level)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def nothing(_):
    return None


def test_what_is_there_is_not_done_again(tmp_path, tiny):
    knob = find_categories(tiny)[0]
    assert extractor(tmp_path)(knob, nothing) == 12
    assert extractor(tmp_path)(knob, nothing) == 0


def test_progress_counts_every_image_once(tmp_path, tiny):
    knob = find_categories(tiny)[0]
    for _ in range(2):
        advanced = []
        extractor(tmp_path)(knob, advanced.append)
        assert sum(advanced) == 12


@pytest.mark.parametrize("fail_after", [1, 3, 5, 7, 9])
def test_interrupted_work_continues_to_the_same_bytes(tmp_path, tiny, fail_after):
    knob = find_categories(tiny)[0]
    extractor(tmp_path, cache="whole")(knob, nothing)
    with pytest.raises(KeyboardInterrupt):
        extractor(tmp_path, ToyEngine(fail_after))(knob, nothing)
    second = ToyEngine()
    extractor(tmp_path, second)(knob, nothing)
    assert files(tmp_path / "cache") == files(tmp_path / "whole")
    assert second.seen <= 12 - fail_after // 4 * 4 + 2  # whole shards of four are kept


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 1), (64, 4)])
def test_features_do_not_depend_on_batch_size_and_workers(tmp_path, tiny, batch_size, workers):
    knob = find_categories(tiny)[0]
    extractor(tmp_path)(knob, nothing)
    extractor(tmp_path, cache="other", batch_size=batch_size, workers=workers)(knob, nothing)
    assert files(tmp_path / "cache") == files(tmp_path / "other")


def test_a_changed_image_is_extracted_again(tmp_path, tiny):
    extractor(tmp_path)(find_categories(tiny)[0], nothing)
    before = features(tmp_path)
    write_image(tiny / "knob/train/good/002.png", seed=99)
    engine = ToyEngine()
    extractor(tmp_path, engine)(find_categories(tiny)[0], nothing)
    assert engine.seen == 6  # the training split; the test split is as it was
    changed = (features(tmp_path) != before).any(axis=1)
    assert changed.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-8]), lambda path: path.unlink()])
def test_a_damaged_level_is_rebuilt(tmp_path, tiny, damage):
    knob = find_categories(tiny)[0]
    extractor(tmp_path)(knob, nothing)
    whole = files(tmp_path / "cache")
    damage(store.split_folder(tmp_path / "cache", "tiny", RECIPE, "knob", "train") / "level_1.npy")
    with pytest.raises(UserError, match=r"level_1\.npy.*Run 'gaussad extract' again"):
        features(tmp_path, level=1)
    extractor(tmp_path)(knob, nothing)
    assert files(tmp_path / "cache") == whole


def test_levels_can_be_added_later(tmp_path, tiny):
    knob = find_categories(tiny)[0]
    first, second = ToyEngine(), ToyEngine()
    first.levels, second.levels = (1,), (2,)
    extractor(tmp_path, first)(knob, nothing)
    extractor(tmp_path, second)(knob, nothing)
    extractor(tmp_path, cache="whole")(knob, nothing)
    assert files(tmp_path / "cache") == files(tmp_path / "whole")


def test_a_bad_image_is_named_and_shards_before_it_are_kept(tmp_path, tiny):
    (tiny / "knob/train/good/005.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"005\.png"):
        extractor(tmp_path)(find_categories(tiny)[0], nothing)
    write_image(tiny / "knob/train/good/005.png", seed=5)
    engine = ToyEngine()
    extractor(tmp_path, engine)(find_categories(tiny)[0], nothing)
    assert engine.seen == 12 - 4


def test_features_that_are_not_finite_are_an_error_that_names_the_image(tmp_path, tiny):
    class Broken(ToyEngine):
        def run(self, images):
            return {level: values * np.nan for level, values in super().run(images).items()}

    with pytest.raises(UserError, match=r"NaN or infinite features for image knob/train/good/000\.png and 3 more"):
        extractor(tmp_path, Broken())(find_categories(tiny)[0], nothing)


def test_the_key_changes_with_everything_that_changes_the_numbers():
    changes = {"weights_sha256": "1" * 64, "padding": "tf", "input_size": 17, "precision": "bf16", "epochs": 1}
    keys = {replace(RECIPE, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {RECIPE.key}) == len(changes) + 1
    assert replace(RECIPE, weights="another name of the same file").key == RECIPE.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:100], "JSONDecodeError"),
        (lambda text: text.replace('"schema": 1', '"schema": 7'), "schema 7"),
        (lambda text: text.replace('"images"', '"pictures"'), "edited"),
        (lambda text: text.replace('"file": "level_1.npy"', '"file": "../../../level_1.npy"'), "edited"),
        (lambda text: text.replace('"label": "good"', '"label": "bad"', 1), "edited"),
        (lambda text: "[]", "TypeError"),
        (lambda text: "[" * 100_000, "RecursionError"),
    ],
)
def test_an_edited_manifest_is_an_error_that_names_it(tmp_path, tiny, change, message):
    extractor(tmp_path)(find_categories(tiny)[0], nothing)
    path = store.split_folder(tmp_path / "cache", "tiny", RECIPE, "knob", "train") / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=rf"manifest\.json.*{message}"):
        features(tmp_path, level=1)


def test_a_pickle_in_place_of_features_is_refused(tmp_path, tiny):
    extractor(tmp_path)(find_categories(tiny)[0], nothing)
    folder = store.split_folder(tmp_path / "cache", "tiny", RECIPE, "knob", "train")
    np.save(folder / "level_1.npy", np.array([{"code": 1}] * 6, dtype=object), allow_pickle=True)
    manifest = store.read_manifest(folder)
    sha256 = sha256_of(folder / "level_1.npy")  # even if the manifest vouches for it
    levels = {**manifest.levels, 1: replace(manifest.levels[1], sha256=sha256)}
    with pytest.raises(UserError, match=r"level_1\.npy is not an array of numbers"):
        store.read_features(folder, replace(manifest, levels=levels), 1)


@pytest.mark.parametrize(
    "values", [np.ones((6, 3)), np.ones(6, np.float32), np.ones((5, 3), np.float32), np.ones((6, 0), np.float32)]
)
def test_features_made_elsewhere_must_be_float32_with_a_row_per_image(tmp_path, values):
    images = tuple(store.ImageEntry(f"train/good/{i}.png", "good", "") for i in range(6))
    manifest = store.Manifest("mine", "lid", "train", RECIPE, images, {})
    with pytest.raises(UserError, match=r"must be \(6, D\) float32"):
        store.write_features(tmp_path / "lid", manifest, {1: values})


def test_several_backbones_share_one_reading_of_each_file(tmp_path, tiny, monkeypatch):
    knob, read = find_categories(tiny)[0], []
    other = replace(RECIPE, backbone="other", input_size=8)
    extractor(tmp_path, cache="alone")(knob, nothing)
    Extractor([Target(ToyEngine(), other)], tmp_path / "alone", "tiny", batch_size=2)(knob, nothing)

    def counted(path, sizes, depth, read_squares=pipeline.read_squares):
        read.append(path)
        return read_squares(path, sizes, depth)

    monkeypatch.setattr(pipeline, "read_squares", counted)
    targets = [Target(ToyEngine(), RECIPE), Target(ToyEngine(), other)]
    done = Extractor(targets, tmp_path / "cache", "tiny", batch_size=2)(knob, nothing)
    assert done == 2 * 12
    assert len(read) == len(set(read)) == 12
    assert files(tmp_path / "cache") == files(tmp_path / "alone")


def test_a_backbone_that_is_done_is_not_run_for_another(tmp_path, tiny):
    knob = find_categories(tiny)[0]
    extractor(tmp_path)(knob, nothing)
    first, second = ToyEngine(), ToyEngine()
    targets = [Target(first, RECIPE), Target(second, replace(RECIPE, backbone="other"))]
    assert Extractor(targets, tmp_path / "cache", "tiny")(knob, nothing) == 12
    assert (first.seen, second.seen) == (0, 12)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Features of 500 images, 16 MB, are never in memory together."""

    class Wide(ToyEngine):
        levels = (1,)

        def run(self, images):
            return {1: np.ones((len(images), 8000), np.float32)}

    peaks = {}
    image = write_image(tmp_path / "image.png", seed=0)
    for n in (50, 500):
        for folder, count in (("train/good", n), ("test/good", 5), ("test/bad", 5)):
            (tmp_path / f"{n}/knob/{folder}").mkdir(parents=True)
            for i in range(count):
                (tmp_path / f"{n}/knob/{folder}/{i:04d}.png").symlink_to(image)
        knob = find_categories(tmp_path / str(n))[0]
        tracemalloc.start()
        extractor(tmp_path, Wide(), cache=f"cache{n}", batch_size=16)(knob, nothing)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[500] < peaks[50] + 4e6


@pytest.mark.parametrize("workers", [0, 2])
def test_what_bounds_the_rate_is_found_out(tmp_path, tiny, monkeypatch, workers):
    def slow(path, sizes, depth, read_squares=pipeline.read_squares):
        time.sleep(0.02)
        return read_squares(path, sizes, depth)

    class SlowEngine(ToyEngine):
        def run(self, images):
            time.sleep(0.05)
            return super().run(images)

    network = extractor(tmp_path, SlowEngine(), workers=workers)
    network(find_categories(tiny)[0], nothing)
    assert network.meter.bound == "network"
    assert network.meter.images == 12
    monkeypatch.setattr(pipeline, "read_squares", slow)
    decode = extractor(tmp_path, cache="other", workers=workers)
    decode(find_categories(tiny)[0], nothing)
    assert decode.meter.bound == "decode"
