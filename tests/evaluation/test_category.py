"""A category is opened once, and says which features, levels and labels it has."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import KFold

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import category as category_module
from gaussad_cli.evaluation.calibration import ThresholdsWanted
from gaussad_cli.evaluation.evaluate import evaluate_dataset
from gaussad_cli.evaluation.scorings import Scoring
from gaussad_cli.evaluation.selection import Selection
from gaussad_cli.extraction import store

RECIPE = store.Recipe("net", 9, "net-1234", "a" * 64, "native", 32)
AUGMENTED = dataclasses.replace(RECIPE, epochs=2, augmentation="mvtec", seed=7)
LABELS = ["good"] * 4 + ["scratch"] * 3 + ["dent"] * 3  # of the test images
N_TRAIN, DIM = 20, 6


def write_split(cache, name, split, features, recipe=RECIPE, labels=None):
    """Write features by level as a split of data set "d"; its images are "good" if there are no labels."""
    labels = labels or ["good"] * len(next(iter(features.values())))
    images = tuple(
        store.ImageEntry(f"{split}/{label}/{i}.png", label, store.digest([name, i])) for i, label in enumerate(labels)
    )
    manifest = store.Manifest("d", name, split, recipe, images, {})
    folder = store.split_folder(cache, "d", recipe, name, split)
    store.write_features(folder, manifest, features)
    return folder


def write_category(cache, name="knob", recipe=RECIPE, levels=(1, 2), seed=0):
    """Write drawn features of both splits, with plain training features beside augmented ones; return all of them."""
    rng = np.random.default_rng(seed)
    rows = {"train": (N_TRAIN,), "test": (len(LABELS),)}
    if recipe.epochs:
        rows["augmented"] = (N_TRAIN, recipe.epochs)
    drawn = {
        split: {level: rng.normal(size=(*shape, DIM)).astype(np.float32) for level in levels}
        for split, shape in rows.items()
    }
    for features in drawn["test"].values():
        features[4:] += 0.7
    write_split(cache, name, "train", drawn["train"], recipe.plain())
    write_split(cache, name, "test", drawn["test"], recipe.plain(), LABELS)
    if recipe.epochs:
        write_split(cache, name, "train", drawn["augmented"], recipe)
    return drawn


def opened(cache, recipe=RECIPE, name="knob"):
    (extraction,) = [found for found in store.find_extractions(cache, "net") if found.recipe == recipe]
    return category_module.open_category(extraction, name)


@pytest.fixture
def manifests_read(monkeypatch):
    """How often the manifest of each split was read: (key, category, split) -> times."""
    times, read_manifest = Counter(), store.read_manifest

    def counted(folder):
        times[folder.parts[-3:]] += 1
        return read_manifest(folder)

    monkeypatch.setattr(store, "read_manifest", counted)
    return times


def test_nine_levels_of_two_categories_read_each_manifest_once_but_the_one_that_names_the_recipe(
    tmp_path, manifests_read
):
    """Two per category, whatever the number of levels, and one more to find the extraction.

    A folder's name is a hash: to know whether it is of the backbone, padding and epochs that are meant, one manifest in
    it has to be read, which is the first category's.
    """
    for name in ("knob", "lid"):
        write_category(tmp_path / "cache", name, levels=range(1, 10))
    evaluate_dataset(
        Selection("net", tmp_path / "cache"), [Scoring("l2"), Scoring("mahalanobis")], tmp_path / "results"
    )
    assert manifests_read == {
        (RECIPE.key, "knob", "train"): 1 + 1,
        (RECIPE.key, "knob", "test"): 1,
        (RECIPE.key, "lid", "train"): 1,
        (RECIPE.key, "lid", "test"): 1,
    }


def test_thresholds_of_augmented_features_read_one_manifest_more(tmp_path, manifests_read):
    """That of the training images as they are, which calibrate; it lies in a folder that is searched as well."""
    write_category(tmp_path / "cache", recipe=AUGMENTED, levels=range(1, 10))
    wanted = ThresholdsWanted(("conformal",), (0.1,))
    selection = Selection("net", tmp_path / "cache", epochs=2)
    evaluate_dataset(selection, [Scoring("mahalanobis")], tmp_path / "results", wanted)
    assert manifests_read == {
        (AUGMENTED.key, "knob", "train"): 1 + 1,
        (RECIPE.key, "knob", "train"): 1 + 1,
        (RECIPE.key, "knob", "test"): 1,
    }


def test_the_levels_of_a_category_are_those_of_both_splits(tmp_path):
    rows = {"train": N_TRAIN, "test": len(LABELS)}
    for split, levels in (("train", (3, 1, 2)), ("test", (4, 3, 2))):
        write_split(tmp_path, "knob", split, {level: np.zeros((rows[split], 1), np.float32) for level in levels})
    assert opened(tmp_path).levels == (2, 3)


def test_every_test_image_that_is_not_good_is_anomalous(tmp_path):
    write_category(tmp_path)
    assert opened(tmp_path).anomalous.tolist() == [False] * 4 + [True] * 6


@pytest.mark.parametrize(("text", "levels"), [(None, (1, 2, 4)), ("1-2", (1, 2)), ("4", (4,))])
def test_the_wanted_levels_are_chosen_or_all_that_are_extracted(tmp_path, text, levels):
    write_category(tmp_path, levels=(1, 2, 4))
    assert category_module.choose_levels(opened(tmp_path), text) == levels


def test_a_level_that_is_not_extracted_is_an_error_that_says_which_are(tmp_path):
    write_category(tmp_path, levels=(1, 2, 4))
    with pytest.raises(UserError, match="'knob' has levels 1-2,4 of net extracted, not 2-3"):
        category_module.choose_levels(opened(tmp_path), "2-3")


def test_a_level_that_the_backbone_lacks_is_an_error(tmp_path):
    write_category(tmp_path)
    with pytest.raises(UserError, match="10"):
        category_module.choose_levels(opened(tmp_path), "10")


def test_splits_without_a_common_level_are_an_error(tmp_path):
    write_split(tmp_path, "knob", "train", {1: np.zeros((N_TRAIN, 1), np.float32)})
    write_split(tmp_path, "knob", "test", {2: np.zeros((len(LABELS), 1), np.float32)})
    with pytest.raises(UserError, match="'knob' has no level in both splits"):
        category_module.choose_levels(opened(tmp_path), None)


def test_plain_training_features_are_those_of_the_images_as_they_are(tmp_path):
    drawn = write_category(tmp_path, recipe=AUGMENTED)
    read = category_module.read_plain_train(opened(tmp_path, AUGMENTED), 1, DIM)
    np.testing.assert_array_equal(read, drawn["train"][1])


def test_test_features_are_those_of_the_images_as_they_are(tmp_path):
    drawn = write_category(tmp_path, recipe=AUGMENTED)
    read = category_module.read_test(opened(tmp_path, AUGMENTED), 1, DIM)
    np.testing.assert_array_equal(read, drawn["test"][1])


def test_test_features_of_another_dimension_than_the_spectra_are_an_error(tmp_path):
    write_category(tmp_path)
    with pytest.raises(UserError, match="level 1 has 6 features here and 7 where it was fitted"):
        category_module.read_test(opened(tmp_path), 1, DIM + 1)


def test_plain_training_features_without_the_level_are_an_error(tmp_path):
    write_category(tmp_path, recipe=AUGMENTED)
    write_split(tmp_path, "knob", "train", {1: np.zeros((N_TRAIN, DIM), np.float32)})
    with pytest.raises(UserError, match=r"level 2 is not in .*train"):
        category_module.read_plain_train(opened(tmp_path, AUGMENTED), 2, DIM)


@pytest.mark.parametrize(("recipe", "split"), [(RECIPE, "train"), (AUGMENTED, "augmented")])
@pytest.mark.parametrize("fold", range(5))
def test_the_training_features_of_a_fold_are_every_epoch_of_its_images(tmp_path, recipe, split, fold):
    drawn = write_category(tmp_path, recipe=recipe)[split][1]
    fitted, _ = list(KFold(5, shuffle=True, random_state=0).split(np.empty(N_TRAIN)))[fold]
    read = category_module.training_features(opened(tmp_path, recipe), 1, fold)
    np.testing.assert_array_equal(read(), drawn[fitted].reshape(-1, DIM))


def test_training_features_are_not_read_before_they_are_asked_for(tmp_path):
    write_category(tmp_path)
    category = opened(tmp_path)
    (category.folder / "train/level_1.npy").unlink()
    read = category_module.training_features(category, 1, 0)
    with pytest.raises(UserError, match=r"cannot read .*level_1\.npy"):
        read()


def test_a_category_with_a_damaged_manifest_cannot_be_opened(tmp_path):
    write_category(tmp_path)
    path = opened(tmp_path).extraction.split("knob", "test") / "manifest.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*test.manifest\.json"):
        opened(tmp_path)
