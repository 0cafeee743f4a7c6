import os

import numpy as np
import pytest

from gaussad_cli.datasets.folds import training_folds
from gaussad_cli.datasets.index import dataset_name, find_categories
from gaussad_cli.errors import UserError
from tests.conftest import write_image


def test_images_come_in_the_order_of_sorted_classes_then_names(tiny):
    write_image(tiny / "knob/test/crack/b.PNG", 1)
    write_image(tiny / "knob/test/crack/a.webp", 1)
    names = [image.name for image in find_categories(tiny)[0].test]
    assert names[:3] == ["test/crack/a.webp", "test/crack/b.PNG", "test/good/000.png"]
    assert names == sorted(names)


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "tif", "TIFF", "webp"])
def test_every_suffix_counts_in_either_case(tiny, suffix):
    write_image(tiny / f"lid/train/good/zzz.{suffix}", 1)
    assert len(find_categories(tiny, ["lid"])[0].train) == 7


def test_hidden_and_other_files_and_folders_are_left_out(tiny):
    for name in (
        "knob/train/good/._000.png",
        "knob/train/good/notes.txt",
        "LICENSE",
        ".git/train/good/x.png",
        "docs/a.png",
    ):
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).write_text("x")
    categories = find_categories(tiny)
    assert [category.name for category in categories] == ["knob", "lid"]
    assert len(categories[0].train) == 6


def test_five_folds_hold_out_every_image_once():
    held_out = [set(range(23)) - set(fold) for fold in training_folds(23)]
    assert sorted(i for part in held_out for i in part) == list(range(23))
    assert [len(fold) for fold in training_folds(23)] == [18, 18, 18, 19, 19]


def test_the_folds_are_those_of_a_seeded_legacy_shuffle_cut_in_five():
    # What KFold(5, shuffle=True, random_state=0) has always meant; NumPy's RandomState stream is frozen.
    order = np.arange(209)
    np.random.RandomState(0).shuffle(order)
    parts = [sorted(set(range(209)) - set(fold.tolist())) for fold in training_folds(209)]
    assert parts == [sorted(part.tolist()) for part in np.array_split(order, 5)]


def test_an_unknown_category_is_an_error_that_suggests(tiny):
    with pytest.raises(UserError, match=r"no category 'knop'.*Did you mean knob"):
        find_categories(tiny, ["knop"])


@pytest.mark.skipif(os.name == "nt", reason="needs names of any bytes")
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"Icon\r.png"])
def test_names_that_results_cannot_contain_are_named(tiny, name):
    path = tiny / "lid/test/scratch" / os.fsdecode(name)
    write_image(tiny / "image.png", 1).rename(path)
    with pytest.raises(UserError, match="results cannot contain it"):
        find_categories(tiny)
    with pytest.raises(UserError, match="cannot name a data set"):
        dataset_name(tiny, path.stem)
