"""Augmented epochs in the cache: which views are there, and that nothing but the seed changes them."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.evaluation import fitting
from gaussad_cli.evaluation.evaluate import fit_and_forget
from gaussad_cli.evaluation.fitting import level_spectra
from gaussad_cli.extraction import pipeline, store
from gaussad_cli.extraction.augment import DEFAULT, Augmentation, read_rules
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.pipeline import Extractor, Target
from gaussad_cli.files import sha256_of
from tests.conftest import write_image
from tests.extraction.test_pipeline import files, nothing
from tests.extraction.toy import RECIPE, ToyEngine

EPOCHS = 11
AUGMENTED = replace(RECIPE, epochs=EPOCHS, augmentation="paper/1")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD", 8)


def extractor(tmp_path, engine=None, cache="cache", seed=0, epochs=EPOCHS, **options):
    targets = [Target(engine or ToyEngine(), replace(AUGMENTED, seed=seed, epochs=epochs))]
    augmentation = Augmentation(read_rules(None), seed)
    return Extractor(targets, tmp_path / cache, "tiny", **{"batch_size": 3, "augmentation": augmentation, **options})


def folder(tmp_path, cache="cache", recipe=AUGMENTED):
    return store.split_folder(tmp_path / cache, "tiny", recipe, "knob", "train")


def features(tmp_path, level=2, **where):
    return store.read_features(folder(tmp_path, **where), store.read_manifest(folder(tmp_path, **where)), level)


def spectra_of(split, level):
    return level_spectra(split.parent, store.read_manifest(split), level)


def test_every_training_image_is_there_in_every_epoch_and_no_test_image(tmp_path, tiny):
    knob, engine = find_categories(tiny)[0], ToyEngine()
    advanced = []
    assert extractor(tmp_path, engine)(knob, advanced.append) == sum(advanced) == 6 * EPOCHS
    assert not folder(tmp_path).with_name("test").exists()
    manifest = store.read_manifest(folder(tmp_path))
    assert (manifest.rows, manifest.levels[2].shape) == ((6, EPOCHS), (6, EPOCHS, 4))
    assert manifest.rules["flip"] == 0.5
    augment = Augmentation(read_rules(None)).augmenter("knob")
    for i, image in enumerate(knob.train):
        square = read_squares(image.path, [16]).by_size[16]
        views = np.stack([augment(square, image.name, epoch) for epoch in range(EPOCHS)])
        np.testing.assert_array_equal(features(tmp_path)[i], ToyEngine().run(views)[2])


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (5, 1), (64, 4)])
def test_views_do_not_depend_on_batch_size_and_workers(tmp_path, tiny, batch_size, workers):
    knob = find_categories(tiny)[0]
    extractor(tmp_path)(knob, nothing)
    extractor(tmp_path, cache="other", batch_size=batch_size, workers=workers)(knob, nothing)
    assert files(tmp_path / "cache") == files(tmp_path / "other")


@pytest.mark.parametrize("fail_after", [1, 20, 50, 60])
def test_interrupted_epochs_continue_to_the_same_bytes(tmp_path, tiny, fail_after):
    knob = find_categories(tiny)[0]
    extractor(tmp_path, cache="whole")(knob, nothing)
    with pytest.raises(KeyboardInterrupt):
        extractor(tmp_path, ToyEngine(fail_after))(knob, nothing)
    second = ToyEngine()
    extractor(tmp_path, second)(knob, nothing)
    assert files(tmp_path / "cache") == files(tmp_path / "whole")
    assert second.seen <= 66 - fail_after // 8 * 8 + 3


def test_another_seed_gives_other_views_under_another_key(tmp_path, tiny):
    knob = find_categories(tiny)[0]
    for seed in (0, 1):
        extractor(tmp_path, seed=seed)(knob, nothing)
    one, other = features(tmp_path), features(tmp_path, recipe=replace(AUGMENTED, seed=1))
    assert one.shape == other.shape
    assert (one != other).any()


def test_epochs_are_the_same_however_many_follow(tmp_path, tiny):
    knob = find_categories(tiny)[0]
    extractor(tmp_path)(knob, nothing)
    extractor(tmp_path, epochs=4)(knob, nothing)
    few = features(tmp_path, recipe=replace(AUGMENTED, epochs=4))
    np.testing.assert_array_equal(few, features(tmp_path)[:, :4])


def test_keys_of_images_as_they_are_know_no_augmentation():
    assert replace(RECIPE, seed=3, augmentation="x").key == RECIPE.key == AUGMENTED.plain().key
    keys = {replace(AUGMENTED, **change).key for change in ({}, {"seed": 1}, {"epochs": 5}, {"augmentation": "x"})}
    assert len(keys) == 4


def test_a_file_is_read_once_for_several_views(tmp_path, tiny, monkeypatch):
    read = []

    def counted(path, sizes, depth, read_squares=pipeline.read_squares):
        read.append(path)
        return read_squares(path, sizes, depth)

    monkeypatch.setattr(pipeline, "read_squares", counted)
    monkeypatch.setattr(pipeline, "SHARD", 64)
    extractor(tmp_path, batch_size=64)(find_categories(tiny)[0], nothing)
    assert len(read) == 6 * 2 + 1  # 11 views are two readings; one image lies on the border of two shards


def test_spectra_stand_for_features_that_are_not_kept(tmp_path, tiny):
    knob = find_categories(tiny)[0]
    extractor(tmp_path, cache="kept")(knob, nothing)
    kept, _ = spectra_of(folder(tmp_path, cache="kept"), 2)
    extractor(tmp_path)(knob, nothing)
    fit_and_forget(folder(tmp_path).parent)
    assert [path.name for path in folder(tmp_path).iterdir()] == ["manifest.json"]
    spectra, fitted = spectra_of(folder(tmp_path), 2)
    assert not fitted
    for one, other in zip(spectra, kept, strict=True):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert extractor(tmp_path)(knob, nothing) == 0
    with pytest.raises(UserError, match="were not kept"):
        features(tmp_path)
    store.spectra_path(folder(tmp_path).parent, 2).unlink()
    with pytest.raises(UserError, match="were not kept"):
        spectra_of(folder(tmp_path), 2)
    assert extractor(tmp_path)(knob, nothing) == 6 * EPOCHS


def test_features_that_are_not_finite_name_the_image_when_fitted(tmp_path, tiny):
    extractor(tmp_path)(find_categories(tiny)[0], nothing)
    values = np.array(features(tmp_path))
    values[3, 5, 1] = np.nan
    path = folder(tmp_path) / "level_2.npy"
    np.save(path, values)
    manifest = store.read_manifest(folder(tmp_path))
    entry = replace(manifest.levels[2], sha256=store.sha256_of(path))
    store._write_manifest(folder(tmp_path), replace(manifest, levels={**manifest.levels, 2: entry}))
    with pytest.raises(UserError, match=r"NaN or infinite features for image knob/train/good/003\.png"):
        spectra_of(folder(tmp_path), 2)


def test_memory_does_not_grow_with_the_number_of_epochs(tmp_path, monkeypatch):
    """Features of 80 epochs, 4.8 MB, are in memory together neither when extracted nor when fitted.

    No step of the augmentation fires: it would take most of the time, and no memory that stays.
    """
    monkeypatch.setattr(fitting, "CHUNK_ROWS", 100)
    never = Augmentation({DEFAULT: replace(read_rules(None)[DEFAULT], any=0.0)})

    class Wide(ToyEngine):
        levels = (1,)

        def run(self, images):
            noise = np.random.default_rng(int(images.astype(int).sum())).standard_normal((len(images), 500))
            return {1: noise.astype(np.float32)}

    for folder_, count in (("train/good", 30), ("test/good", 5)):
        for i in range(count):
            write_image(tmp_path / f"data/knob/{folder_}/{i:03d}.png", seed=i, size=16)
    knob = find_categories(tmp_path / "data")[0]
    peaks = {}
    for epochs in (20, 80):
        monkeypatch.setattr(pipeline, "SHARD", 64)
        tracemalloc.start()
        extractor(tmp_path, Wide(), epochs=epochs, batch_size=32, augmentation=never)(knob, nothing)
        extracted = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        spectra_of(folder(tmp_path, recipe=replace(AUGMENTED, epochs=epochs)), 1)
        peaks[epochs] = extracted, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[80][0] < peaks[20][0] + 1e6
    assert peaks[80][1] < peaks[20][1] + 1e6


def test_an_image_that_changes_between_two_readings_for_its_epochs_is_named_and_nothing_is_kept_of_it(
    tmp_path, tiny, monkeypatch
):
    """Half of its epochs would be of one image, half of another, and the manifest would know one of them."""
    monkeypatch.setattr(pipeline, "VIEWS_PER_READING", 1)
    (category, _) = find_categories(tiny)
    recipe = replace(RECIPE, epochs=2, augmentation="a")
    augmentation = Augmentation(read_rules(None))
    extractor = Extractor(
        [Target(ToyEngine(), recipe)], tmp_path / "cache", "tiny", 1, workers=0, augmentation=augmentation
    )
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "read_squares", changing(pipeline.read_squares))
        with pytest.raises(ImageError, match=r"003\.png changed during the extraction"):
            extractor(category, lambda _: None)
    folder = store.split_folder(tmp_path / "cache", "tiny", recipe, "knob", "train")
    assert not (folder / store.MANIFEST).exists()
    extractor(category, lambda _: None)
    assert store.read_manifest(folder).images[3].sha256 == sha256_of(tiny / "knob/train/good/003.png")


def changing(read):
    """Let 003.png be another image as soon as it was read for the first time."""
    changes = iter([True])

    def read_and_change(path, sizes, depth):
        squares = read(path, sizes, depth)
        if path.name == "003.png" and next(changes, False):
            write_image(path, seed=4711)
        return squares

    return read_and_change
