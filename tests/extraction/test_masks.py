"""Masks: where they lie, and that their copy in the cache is of these images and these files."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gaussad_cli.datasets.index import ImageFile, find_categories
from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.extraction import masks as masks_module
from gaussad_cli.extraction import store
from gaussad_cli.extraction.decode import decode_pixels, read_shape
from gaussad_cli.extraction.masks import mask_path
from gaussad_cli.extraction.pipeline import Extractor, Target
from tests.conftest import write_image
from tests.extraction.toy import PLACES, RECIPE, PlacesEngine, ToyEngine

FOLDER = "lid/ground_truth/scratch"


def test_masks_of_nested_images_are_nested_too(tmp_path):
    image = ImageFile("test/crack/lot/7.png", "crack", tmp_path / "knob/test/crack/lot/7.png")
    assert mask_path(image) == tmp_path / "knob/ground_truth/crack/lot/7_mask.png"


def write_mask(path, size=40, rows=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size, size), np.uint8)
    mask[:rows, 2:] = 255
    Image.fromarray(mask).save(path)


@pytest.fixture
def lid(tiny):
    """A data set whose category `lid` has masks for two of three scratches."""
    for i in (0, 1):
        write_mask(tiny / FOLDER / f"00{i}_mask.png", rows=3 + i)
    return tiny


def extract(data, tmp_path, target=None):
    (category,) = find_categories(data, ["lid"])
    recipe = target.recipe if target else PLACES
    Extractor([target or Target(PlacesEngine(tmp_path / "log"), PLACES)], tmp_path / "cache", "tiny")(category, len_1)
    return store.split_folder(tmp_path / "cache", "tiny", recipe, "lid", "test")


def len_1(_):
    return None


def read(folder):
    return store.read_masks(folder, store.read_manifest(folder))


def test_masks_are_those_of_the_files_in_the_order_of_the_images(lid, tmp_path):
    folder = extract(lid, tmp_path)
    names = [image.name for image in store.read_manifest(folder).images]
    assert names == [f"test/{label}/00{i}.png" for label in ("good", "scratch") for i in range(3)]
    *normal, first, second, without = read(folder)
    assert all(mask.shape == (40, 40) and not mask.any() for mask in normal)
    for mask, name in ((first, "000"), (second, "001")):
        np.testing.assert_array_equal(mask, np.asarray(Image.open(lid / FOLDER / f"{name}_mask.png")) > 0)
    assert without is None


def test_masks_whose_pixels_do_not_fill_bytes_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    written = [rng.random((3, 5)) > 0.5, None, rng.random((7, 1)) > 0.5]
    images = tuple(store.ImageEntry(f"test/bad/{i}.png", "bad", f"{i}") for i in range(3))
    folder = store.split_folder(tmp_path, "d", PLACES, "knob", "test")
    store.write_masks(folder, images, written, ["a", "", "b"])
    found = store.read_masks(folder, store.Manifest("d", "knob", "test", PLACES, images, {}))
    assert found[1] is None
    for ours, theirs in ((found[0], written[0]), (found[2], written[2])):
        assert ours.dtype == bool
        np.testing.assert_array_equal(ours, theirs)


def test_a_mask_of_a_normal_image_counts_if_there_is_one(lid, tmp_path):
    write_mask(lid / "lid/ground_truth/good/001_mask.png")
    assert read(extract(lid, tmp_path))[1].any()


def test_a_data_set_without_masks_has_none_in_the_cache(tiny, tmp_path):
    folder = extract(tiny, tmp_path)
    assert not (folder / store.MASKS).exists()
    assert read(folder) is None


def test_averaged_features_have_no_masks(lid, tmp_path):
    assert not (extract(lid, tmp_path, Target(ToyEngine(), RECIPE)) / store.MASKS).exists()


def test_masks_are_written_anew_only_where_something_changed(lid, tmp_path, monkeypatch):
    folder = extract(lid, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(masks_module, "read_mask", None)  # not called
        extract(lid, tmp_path)
    write_mask(lid / FOLDER / "001_mask.png", rows=9)
    write_mask(lid / FOLDER / "002_mask.png", rows=1)
    extract(lid, tmp_path)
    assert [int(mask.sum()) for mask in read(folder)[3:]] == [3 * 38, 9 * 38, 38]
    for path in (lid / FOLDER).iterdir():
        path.unlink()
    extract(lid, tmp_path)
    assert read(folder)[3:] == [None, None, None]
    (lid / FOLDER).rmdir()
    (lid / "lid/ground_truth").rmdir()
    extract(lid, tmp_path)
    assert read(folder) is None


def test_damaged_masks_are_an_error_until_they_are_extracted_again(lid, tmp_path):
    folder = extract(lid, tmp_path)
    before = (folder / store.MASKS).read_bytes()
    for damaged in (before[:-9], b"", before.replace(b"names", b"nomes")):
        (folder / store.MASKS).write_bytes(damaged)
        with pytest.raises(UserError, match=r"masks\.npz is damaged\. Run 'gaussad extract' again"):
            read(folder)
        extract(lid, tmp_path)
        assert len(read(folder)) == 6


def test_masks_of_other_images_are_an_error(lid, tmp_path):
    folder = extract(lid, tmp_path)
    manifest = store.read_manifest(folder)
    other = replace(manifest.images[0], sha256="1" * 64)
    for images in ((other, *manifest.images[1:]), manifest.images[1:]):
        with pytest.raises(
            UserError, match=r"masks of other images than .*manifest\.json\. Run 'gaussad extract' again"
        ):
            store.read_masks(folder, replace(manifest, images=images))


@pytest.mark.parametrize(
    "change", [{"bits": np.zeros(1, np.uint8)}, {"shapes": np.array([[-3, 4]] * 6)}, {"shapes": np.zeros(6)}]
)
def test_masks_that_cannot_be_are_an_error_though_their_digest_is_right(lid, tmp_path, change):
    folder = extract(lid, tmp_path)
    store.write_arrays(folder / store.MASKS, {**store.read_arrays(folder / store.MASKS), **change})
    with pytest.raises(UserError, match="does not hold masks"):
        read(folder)


def test_a_mask_of_another_size_than_its_image_names_both(lid, tmp_path):
    write_mask(lid / FOLDER / "002_mask.png", size=41)
    with pytest.raises(
        ImageError, match=r"002_mask\.png has 41 x 41 pixels and .*scratch.002\.png has 40 x 40: replace"
    ):
        extract(lid, tmp_path)
    write_mask(lid / FOLDER / "002_mask.png")
    assert read(extract(lid, tmp_path))[5].any()


def test_a_mask_that_cannot_be_read_is_named(lid, tmp_path):
    (lid / FOLDER / "001_mask.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="001_mask"):
        extract(lid, tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(9, 9), (20, 10)])
def test_the_shape_of_an_image_is_that_of_its_pixels(tmp_path, suffix, orientation, size):
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    assert read_shape(path) == decode_pixels(path.read_bytes(), path).shape[:2]


def test_the_shape_of_what_is_no_image_is_an_error(tmp_path):
    path = write_image(tmp_path / "x.png", 0)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ImageError, match=r"cannot read the image .*x\.png"):
        read_shape(path)
