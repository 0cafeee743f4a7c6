"""A fold in batches: how they are cut, in which order they come, and what augmentation they get."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.training.batches import FoldBatches, cut
from gaussad_cli.training.classifier import classifier_training
from tests.training import tiny


@pytest.fixture
def batches(data, tmp_path):
    (knob,) = find_categories(data)
    augmentation = Augmentation(read_rules(None))
    training = classifier_training(knob, tiny.classifier(), augmentation, tiny.options(seed=5), tmp_path)
    with ThreadPoolExecutor(2) as pool:
        yield FoldBatches(training, training.folds[1], pool)


def test_an_epoch_has_every_training_image_once_as_the_augmenter_makes_it(batches):
    training, seen = batches.training, []
    for numbers, squares in batches.augmented(3):
        for number, square in zip(numbers, squares, strict=True):
            image = training.images.squares[number]
            np.testing.assert_array_equal(square, training.augmenter(image, training.images.names[number], 3))
            seen.append(number)
    assert sorted(seen) == batches.fold.train.tolist()
    assert training.augmenter.seed == 5


def test_the_order_follows_from_the_epoch_alone(batches):
    first, again, other = (
        np.concatenate([numbers for numbers, _ in batches.augmented(epoch)]).tolist() for epoch in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_plain_batches_are_the_images_in_order(batches):
    parts = list(batches.plain(batches.fold.valid))
    numbers = np.concatenate([part for part, _ in parts])
    np.testing.assert_array_equal(numbers, batches.fold.valid)
    squares = np.concatenate([squares for _, squares in parts])
    np.testing.assert_array_equal(squares, batches.training.images.squares[numbers])


def test_the_sample_is_a_batch_of_the_training_part(batches):
    images = batches.training.images.squares
    numbers = [np.flatnonzero((images == square).all(axis=(1, 2, 3)))[0] for square in batches.sample()]
    assert len(set(numbers)) == 4
    assert set(numbers) <= set(batches.fold.train)


@pytest.mark.parametrize(("n", "sizes"), [(8, [4, 4]), (9, [4, 5]), (1, [1]), (10, [4, 4, 2]), (4, [4])])
def test_no_batch_is_a_single_image_that_is_left_over(n, sizes):
    parts = cut(np.arange(n), 4)
    assert [len(part) for part in parts] == sizes
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
