"""What is trained, and the key that the states of a training are kept under."""

import dataclasses
import json

import numpy as np
import pytest

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.extraction.store import digest
from gaussad_cli.training.autoencoder import Reconstruction, without_noise
from gaussad_cli.training.classifier import Classification
from gaussad_cli.training.task import RECIPE, CategoryTraining, DecodedImages, FoldSplit, read_images
from tests.training import tiny


def training(folder, **changes) -> CategoryTraining:
    """A training whose recipe depends on nothing but this function."""
    images = DecodedImages(
        names=("train/good/0.png", "train/good/1.png", "test/bad/0.png"),
        sha256=("a" * 64, "b" * 64, "c" * 64),
        anomalous=np.array([False, False, True]),
        squares=np.zeros((3, tiny.SIZE, tiny.SIZE, 3), np.uint8),
    )
    content = {
        "category": "knob",
        "network": tiny.classifier(),
        "objective": Classification(),
        "images": images,
        "folds": [FoldSplit(0, np.array([0]), np.array([1]), np.array([2]))],
        "augmenter": Augmentation(read_rules(None), 3).augmenter("knob"),
        "options": tiny.options(),
        "states": folder,
    }
    return CategoryTraining(**{**content, **changes})


def test_the_key_is_that_of_earlier_releases(tmp_path):
    # Another key would mean that trainings begun before are not continued, and finished ones are trained again.
    assert training(tmp_path).key == "cdc2fea39a888ef7163ea6e0e9cc9f8ab41abda605986b6cf5616da338d5fed2"
    augmenter = without_noise(Augmentation(read_rules(None)), 3).augmenter("knob")
    other = training(tmp_path, network=tiny.autoencoder(), objective=Reconstruction(0.25), augmenter=augmenter)
    assert other.key == "c9882d574de556b403eadcaed872053b46c99c2025eb2a1893ec41632df48bbe"


def test_the_recipe_is_written_beside_the_states(tmp_path):
    (task := training(tmp_path)).write_recipe()
    assert task.folder == tmp_path / task.key[:16]
    content = json.loads((task.folder / RECIPE).read_text("utf-8"))
    assert digest(content) == task.key
    assert content["options"]["batch_size"] == 4  # the network's own
    assert content["folds"] == [[[0], [1], [2]]]


@pytest.mark.parametrize(
    "option", [{"seed": 1}, {"learning_rate": 0.1}, {"batch_size": 3}, {"max_epochs": 9}, {"patience": 9}]
)
def test_every_option_that_changes_the_numbers_changes_the_key(tmp_path, option):
    assert training(tmp_path, options=tiny.options(**option)).key != training(tmp_path).key


def test_options_that_change_no_numbers_leave_the_key(tmp_path):
    for options in (tiny.options(workers=7), tiny.options(batch_size=4)):  # 4 is the network's own
        assert training(tmp_path, options=options).key == training(tmp_path).key


@pytest.mark.parametrize(
    "option", [{"patience": 0}, {"max_epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": np.inf}]
)
def test_options_that_make_no_sense(option):
    with pytest.raises(UserError, match="needed"):
        tiny.options(**option)


def test_images_are_decoded_in_order_and_cannot_be_changed(data):
    (knob,) = find_categories(data)
    images = read_images([*knob.train, *knob.test], 10, workers=3)
    assert images.names == tuple(image.name for image in (*knob.train, *knob.test))
    assert images.squares.shape == (30, 10, 10, 3)
    np.testing.assert_array_equal(images.anomalous, [image.label == "bright" for image in (*knob.train, *knob.test)])
    assert images.squares[images.anomalous].mean() > images.squares[~images.anomalous].mean() + 50
    with pytest.raises(ValueError, match="read-only"):
        images.squares[0] = 0


def test_an_image_that_cannot_be_decoded_is_an_error(tmp_path, data):
    (knob,) = find_categories(data)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match="broken"):
        read_images([dataclasses.replace(knob.train[0], path=broken)], 10, workers=1)
