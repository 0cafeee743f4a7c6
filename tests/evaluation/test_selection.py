"""Which extraction and categories are meant: none, one or several fit."""

import dataclasses

import numpy as np
import pytest

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.selection import Selection, select_categories, select_extraction
from gaussad_cli.extraction import store

TF = store.Recipe("efficientnet-b4", 9, "b4-1234", "a" * 64, "tf", 380)
PAPER = dataclasses.replace(TF, padding="paper")
AUGMENTED = dataclasses.replace(PAPER, epochs=100, augmentation="mvtec")


def write(cache, recipe, dataset="mvtec", categories=("knob",)):
    for name in categories:
        for split, of_split in (("train", recipe), ("test", recipe.plain())):
            image = store.ImageEntry(f"{split}/good/0.png", "good", "0" * 64)
            folder = store.split_folder(cache, dataset, of_split, name, split)
            manifest = store.Manifest(dataset, name, split, of_split, (image,), {})
            store.write_features(folder, manifest, {1: np.zeros((*manifest.rows, recipe.grid**2 or 1), np.float32)})


def select(cache, **options):
    return select_extraction(Selection("efficientnet-b4", cache, **options))


def test_the_only_extraction_needs_no_options(tmp_path):
    write(tmp_path, TF)
    assert select(tmp_path).recipe == TF


def test_an_empty_cache_says_what_to_run(tmp_path):
    command = f"Run first: gaussad extract --data DIR --backbone efficientnet-b4 --cache {tmp_path}"
    with pytest.raises(UserError) as error:
        select(tmp_path)
    assert str(error.value).endswith(command)


def test_an_unknown_backbone_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"no backbone 'efficientnet-b44'\. Did you mean efficientnet-b4\?"):
        select_extraction(Selection("efficientnet-b44", tmp_path))


def test_a_known_backbone_is_not_called_unknown(tmp_path):
    with pytest.raises(UserError) as error:
        select(tmp_path)
    assert "knows no backbone" not in str(error.value)


def test_a_data_set_without_features_is_named(tmp_path):
    write(tmp_path, TF)
    with pytest.raises(UserError, match="of dataset 'visa'"):
        select(tmp_path, dataset="visa")


@pytest.mark.parametrize(
    "options", [{"padding": "native"}, {"key": "none"}, {"epochs": 100}], ids=["padding", "key", "epochs"]
)
def test_where_none_fits_the_options_those_that_are_there_are_listed(tmp_path, options):
    write(tmp_path, TF)
    with pytest.raises(UserError, match=f"no efficientnet-b4 features with these options.*padding tf.*key {TF.key}"):
        select(tmp_path, **options)


def test_several_paddings_are_told_apart_by_the_option(tmp_path):
    write(tmp_path, TF)
    write(tmp_path, PAPER)
    with pytest.raises(UserError, match="Choose with --padding paper or tf"):
        select(tmp_path)


def test_the_padding_chooses(tmp_path):
    write(tmp_path, TF)
    write(tmp_path, PAPER)
    assert select(tmp_path, padding="paper").recipe == PAPER


def test_several_data_sets_are_told_apart_by_the_option(tmp_path):
    write(tmp_path, TF, "mvtec")
    write(tmp_path, PAPER, "visa")
    with pytest.raises(UserError, match="Choose with --dataset mvtec or visa"):
        select(tmp_path)


def test_the_data_set_chooses(tmp_path):
    write(tmp_path, TF, "mvtec")
    write(tmp_path, TF, "visa")
    assert select(tmp_path, dataset="visa").dataset == "visa"


def test_extractions_that_differ_in_something_else_are_told_apart_by_their_keys(tmp_path):
    onnx = dataclasses.replace(TF, engine="onnx")
    write(tmp_path, TF)
    write(tmp_path, onnx)
    with pytest.raises(UserError, match=f"Choose with --key {' or '.join(sorted([TF.key, onnx.key]))}"):
        select(tmp_path)


def test_the_beginning_of_a_key_chooses(tmp_path):
    write(tmp_path, TF)
    write(tmp_path, PAPER)
    assert select(tmp_path, key=PAPER.key[:8]).recipe == PAPER


def test_augmented_features_are_not_meant_unless_they_are_asked_for(tmp_path):
    write(tmp_path, PAPER)
    write(tmp_path, AUGMENTED)
    assert select(tmp_path).recipe == PAPER


def test_the_epochs_choose(tmp_path):
    write(tmp_path, PAPER)
    write(tmp_path, AUGMENTED)
    assert select(tmp_path, epochs=100).recipe == AUGMENTED


def test_the_key_of_augmented_features_asks_for_them(tmp_path):
    write(tmp_path, PAPER)
    write(tmp_path, AUGMENTED)
    assert select(tmp_path, key=AUGMENTED.key).recipe == AUGMENTED


def test_a_key_with_other_epochs_fits_nothing(tmp_path):
    write(tmp_path, AUGMENTED)
    with pytest.raises(UserError, match=r"epochs 100 \(seed 0, augmentation mvtec\)"):
        select(tmp_path, key=AUGMENTED.key, epochs=0)


PLACES = dataclasses.replace(PAPER, grid=1)


def test_averaged_features_are_chosen_though_there_are_places(tmp_path):
    write(tmp_path, PAPER)
    write(tmp_path, PLACES)
    assert select(tmp_path).recipe == PAPER


def test_places_are_chosen_where_they_are_asked_for(tmp_path):
    write(tmp_path, PAPER)
    write(tmp_path, PLACES)
    assert select(tmp_path, grid=None).recipe == PLACES
    assert select(tmp_path, grid=1).recipe == PLACES


@pytest.mark.parametrize("options", [{}, {"key": PLACES.key}])
def test_places_never_stand_for_averaged_features(tmp_path, options):
    write(tmp_path, PLACES)
    message = "features averaged over the image in .*grid 1, key .* Run first: gaussad extract --data"
    with pytest.raises(UserError, match=message):
        select(tmp_path, **options)


@pytest.mark.parametrize(("grid", "wanted"), [(None, 28), (14, 14)])
def test_averaged_features_never_stand_for_places(tmp_path, grid, wanted):
    write(tmp_path, PAPER)
    message = f"features of places in .* Run first: gaussad extract --grid {wanted} --data"
    with pytest.raises(UserError, match=message):
        select(tmp_path, grid=grid)


def test_the_key_of_averaged_features_does_not_choose_places(tmp_path):
    write(tmp_path, PAPER)
    write(tmp_path, PLACES)
    with pytest.raises(UserError, match="no efficientnet-b4 features with these options"):
        select(tmp_path, key=PLACES.key)


def test_several_grids_are_told_apart_by_the_option(tmp_path):
    write(tmp_path, PLACES)
    write(tmp_path, dataclasses.replace(PLACES, grid=2))
    with pytest.raises(UserError, match="Choose with --grid 1 or 2"):
        select(tmp_path, grid=None)


def test_an_empty_cache_says_how_to_extract_places(tmp_path):
    with pytest.raises(UserError, match="Run first: gaussad extract --grid 28 --data DIR"):
        select(tmp_path, grid=None)


@pytest.mark.parametrize(
    ("chosen", "names"), [(None, ["bolt", "knob", "lid"]), (["lid", "bolt"], ["bolt", "lid"]), ([], [])]
)
def test_chosen_categories_come_in_the_order_of_the_extraction(tmp_path, chosen, names):
    write(tmp_path, TF, categories=("lid", "bolt", "knob"))
    assert select_categories(select(tmp_path), chosen) == names


def test_a_category_that_is_not_there_is_answered_with_the_nearest_and_all(tmp_path):
    write(tmp_path, TF, categories=("lid", "knob"))
    with pytest.raises(UserError, match=r"'knobb' is not extracted in .*Did you mean knob\? There are: knob, lid\."):
        select_categories(select(tmp_path), ["lid", "knobb"])
