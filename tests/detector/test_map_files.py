"""Files of heat maps: what is in them, what they are called, and what they never overwrite."""

import cv2
import numpy as np
import pytest

from gaussad_cli.detector.heatmaps import Scale, mask_of, overlay
from gaussad_cli.detector.map_files import DISTANCES, MASK, OVERLAY, MapFolder, remove_unfinished
from gaussad_cli.errors import ImageError, UserError
from tests.detector.tiny_network import pictures, write_pictures

DISTANCES_OF = np.random.default_rng(0).gamma(3.0, 4.0, (4, 4))
SCALE = Scale(10.0, 15.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return MapFolder(tmp_path / "maps", SCALE, 16)


def read(path, flags=cv2.IMREAD_UNCHANGED):
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flags)


def test_the_files_are_the_overlay_the_mask_and_the_distances(folder, tmp_path):
    (image,) = write_pictures(tmp_path / "in", pictures(1, height=40, width=60))
    folder.write(image, DISTANCES_OF)
    drawn, mask = read(folder.path_of(image, OVERLAY)), read(folder.path_of(image, MASK))
    np.testing.assert_array_equal(drawn[..., ::-1], overlay(pictures(1, height=40, width=60)[0], DISTANCES_OF, SCALE))
    np.testing.assert_array_equal(mask, 255 * mask_of(DISTANCES_OF, SCALE.threshold, (40, 60)))
    distances = np.load(folder.path_of(image, DISTANCES), allow_pickle=False)
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(distances, DISTANCES_OF.astype(np.float32))


def test_names_are_the_images_paths(folder, tmp_path):
    root = tmp_path / "in"
    inside = MapFolder(folder.folder, SCALE, 16, root)
    assert inside.path_of(root / "a/0.png", MASK) == folder.folder / "a/0.png.mask.png"
    assert folder.path_of(root / "a/0.png", MASK) == folder.folder / "in/a/0.png.mask.png"
    assert folder.path_of(root.relative_to(tmp_path) / "0.jpg", MASK) == folder.folder / "in/0.jpg.mask.png"
    elsewhere = tmp_path.parent / "other/0.png"
    assert folder.path_of(elsewhere, MASK) == folder.folder / elsewhere.relative_to(elsewhere.anchor).with_name(
        "0.png.mask.png"
    )
    long = folder.path_of(root / f"{'x' * 250}.png", OVERLAY).name
    assert len(long) <= 255
    assert long.endswith(OVERLAY)


def test_another_run_replaces_the_files(folder, tmp_path):
    (image,) = write_pictures(tmp_path / "in", pictures(1))
    folder.write(image, DISTANCES_OF)
    folder.write(image, 2 * DISTANCES_OF)
    assert len(list((folder.folder / "in").iterdir())) == 3
    np.testing.assert_allclose(np.load(folder.path_of(image, DISTANCES)), 2 * DISTANCES_OF, rtol=1e-6)


def test_nothing_unfinished_is_left(folder, tmp_path):
    (image,) = write_pictures(tmp_path / "in", pictures(1))
    folder.write(image, DISTANCES_OF)
    remove_unfinished(folder.folder)
    remove_unfinished(folder.folder)
    assert [path.name for path in folder.folder.iterdir()] == ["in"]
    assert len(list((folder.folder / "in").iterdir())) == 3


def test_an_image_in_the_folder_of_the_maps_is_refused(folder):
    (image,) = write_pictures(folder.folder / "in", pictures(1))
    with pytest.raises(UserError, match=r"lies in --maps .*choose another folder"):
        folder.write(image, DISTANCES_OF)
    assert [path.name for path in folder.folder.rglob("*.*")] == [image.name]


def test_a_link_in_the_place_of_a_file_is_not_followed(folder, tmp_path):
    image, other = write_pictures(tmp_path / "in", pictures(2))
    before = other.read_bytes()
    path = folder.path_of(image, OVERLAY)
    path.parent.mkdir(parents=True)
    path.symlink_to(other)
    with pytest.raises(UserError, match="it is a link"):
        folder.write(image, DISTANCES_OF)
    assert other.read_bytes() == before


def test_an_image_that_is_gone_is_a_clear_error(folder, tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png"):
        folder.write(tmp_path / "gone.png", DISTANCES_OF)
    assert not folder.folder.exists()
