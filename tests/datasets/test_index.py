import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from gaussad_cli.datasets.folds import training_folds
from gaussad_cli.datasets.images import MOST_BYTES
from gaussad_cli.datasets.index import check_holds, dataset_name, describe_categories, find_categories
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


def test_a_folder_is_told_from_another_of_the_same_name_by_its_categories(tiny):
    check_holds(tiny, ["lid"], Path("cache/tiny"))
    with pytest.raises(UserError, match=r"cache/tiny holds a, b, c, \.\.\., which .*--dataset NAME"):
        check_holds(tiny, ["lid", *"dcba"], Path("cache/tiny"))


def test_nested_images_of_a_class_are_taken_and_flat_folders_keep_their_order(tiny):
    flat = find_categories(tiny)[0]
    for name in ("train/good/lot2/000.png", "test/good/lot/7.png", "test/scratch/a/b/7.png"):
        write_image(tiny / "knob" / name, 7)
    nested = find_categories(tiny)[0]
    assert [image for image in nested.train if not image.is_nested] == list(flat.train)
    assert [image for image in nested.test if not image.is_nested] == list(flat.test)
    assert [(image.name, image.label) for image in nested.test if image.is_nested] == [
        ("test/good/lot/7.png", "good"),
        ("test/scratch/a/b/7.png", "scratch"),
    ]
    assert describe_categories(tiny, find_categories(tiny)) == (
        f"{tiny}: 2 categories, 13 training and 14 test images, 3 of them in nested folders."
    )


def test_folders_that_are_not_of_the_layout_are_said(tiny):
    for name in ("knob/license.txt", "knob/ground_truth/scratch/000_mask.png", "readme.txt"):
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).touch()
    assert "Left out" not in describe_categories(tiny, find_categories(tiny))
    for name in ("knob/val/good/1.png", "knob/1.png", "screw/1.png"):
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).touch()
    assert describe_categories(tiny, find_categories(tiny)).endswith(
        f"folders without train and test: 1 ({tiny / 'screw'}); "
        f"neither in train nor in test: 2 ({tiny / 'knob/1.png'}, {tiny / 'knob/val'})."
    )


def test_what_is_left_out_is_said(tiny):
    for name in ("train/good/.x.png", "train/good/a.heic", "train/bad/1.png", "test/loose.png", "test/@eaDir/1.png"):
        (tiny / "knob" / name).parent.mkdir(exist_ok=True)
        (tiny / "knob" / name).touch()
    said = describe_categories(tiny, find_categories(tiny))
    assert said.startswith(f"{tiny}: 2 categories, 12 training and 12 test images. Left out: .heic: 1 (")
    for part in (
        f"hidden or system: 2 ({tiny / 'knob/train/good/.x.png'}, {tiny / 'knob/test/@eaDir'})",
        f"training folders other than good: 1 ({tiny / 'knob/train/bad'})",
        f"images outside of a class folder: 1 ({tiny / 'knob/test/loose.png'})",
    ):
        assert part in said


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["OK", "ok", "Good", "GOOD", "normal", "Normal "])
def test_a_normal_class_of_another_name_is_refused_before_the_work(tiny, split, name):
    (tiny / "knob" / split / "good").rename(tiny / "knob" / split / name)
    with pytest.raises(UserError, match=f"{split}/{name} looks like a folder of normal images.*rename it to good"):
        find_categories(tiny)
    assert [category.name for category in find_categories(tiny, ["lid"])] == ["lid"]


@pytest.mark.parametrize(("gone", "lacking"), [("good", "image in test/good"), ("scratch", "outside of test/good")])
def test_a_test_set_of_one_class_is_said_before_the_work(tiny, gone, lacking):
    shutil.rmtree(tiny / "knob/test" / gone)
    said = describe_categories(tiny, find_categories(tiny))
    assert f"{lacking} of knob, so AUROC will be undefined there." in said


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tiny):
    os.truncate(tiny / "lid/test/good/001.png", MOST_BYTES + 1)
    with pytest.raises(UserError, match=r"001\.png: it has 537 MB, more than the 537 MB that are allowed"):
        find_categories(tiny)


def test_a_folder_that_cannot_be_read_is_named(tiny, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)  # root may read everything
    with pytest.raises(UserError, match=r"cannot read the folder .*tiny: Permission denied"):
        find_categories(tiny)


@pytest.mark.skipif(os.name == "nt", reason="needs names of any bytes")
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"Icon\r.png"])
def test_names_that_results_cannot_contain_are_named(tiny, name):
    path = tiny / "lid/test/scratch" / os.fsdecode(name)
    write_image(tiny / "image.png", 1).rename(path)
    with pytest.raises(UserError, match="results cannot contain it"):
        find_categories(tiny)
    with pytest.raises(UserError, match="cannot name a data set"):
        dataset_name(tiny, path.stem)
