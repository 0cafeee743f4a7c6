"""Features of places through the command line: extraction, masks, and that nothing takes them for averaged features."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaussad_cli.extraction import store
from tests.cli.test_main_job import link
from tests.conftest import assert_user_error

LITE0 = ("--backbone", "efficientnet-lite0")
LID = ("--categories", "lid")


def write_masks(tiny, size=40):
    (tiny / "lid/ground_truth/scratch").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.full((size, size), 255, np.uint8)).save(tiny / f"lid/ground_truth/scratch/00{i}_mask.png")


def read(folder, level):
    return store.read_features(folder, store.read_manifest(folder), level)


def test_a_grid_keeps_the_middle_levels_and_their_means_are_the_averaged_features(gaussad, tiny):
    write_masks(tiny)
    places, pooled = (
        Path(gaussad("extract", "--data", tiny, *LITE0, *LID, *options).out.strip())
        for options in (("--grid", "14"), ("--levels", "3-6"))
    )
    assert places != pooled
    for split in ("train", "test"):
        manifest = store.read_manifest(places / "lid" / split)
        assert (sorted(manifest.levels), manifest.recipe.grid) == ([3, 4, 5, 6], 14)
        for level, channels in ((3, 24), (4, 40), (5, 80), (6, 112)):
            values = read(places / "lid" / split, level).reshape(6, 14 * 14, channels)
            np.testing.assert_allclose(values.mean(axis=1), read(pooled / "lid" / split, level), rtol=1e-4, atol=1e-4)
    masks = store.read_masks(places / "lid/test", store.read_manifest(places / "lid/test"))
    assert [bool(mask.all()) for mask in masks] == [False] * 3 + [True] * 3
    assert "0 images of 1 categories extracted" in gaussad("extract", "--data", tiny, *LITE0, *LID, "--grid", "14").err


def test_fit_and_evaluate_do_not_take_places_for_averaged_features(gaussad, tiny, extract_once):
    extract_once(tiny, *LITE0, *LID, "--grid", "2")
    for command in (("fit",), ("evaluate", "--score", "l2")):
        assert_user_error(gaussad(*command, *LITE0), "averaged over the image", "Run first: gaussad extract --data")
    extract_once(tiny, *LITE0, *LID, "--levels", "3")
    (done,) = {gaussad("fit", *LITE0).err}
    assert done == "1 levels fitted, 0 were already there.\n"


def test_augmented_epochs_have_places_too_and_need_their_features(gaussad, tiny):
    grid = ("--data", tiny, *LITE0, *LID, "--levels", "6", "--grid", "2", "--epochs", "2")
    done = gaussad("extract", *grid)
    assert read(Path(done.out.strip()) / "lid/train", 6).shape == (6, 2, 4 * 112)
    for command in ("extract", "run"):
        assert_user_error(gaussad(command, *grid, "--moments-only"), "--moments-only", "leave it out with --grid")


def test_a_mask_of_another_size_than_its_image_is_an_error_of_its_category(gaussad, tiny):
    write_masks(tiny, size=41)
    done = gaussad("extract", "--data", tiny, *LITE0, "--levels", "1", "--grid", "2")
    assert_user_error(done, "000_mask.png has 41 x 41 pixels", "has 40 x 40", "1 of 2 categories are done")


@pytest.mark.parametrize("grid", ["-1", "225"])
def test_a_grid_that_cannot_be_is_an_error(gaussad, tiny, grid):
    done = gaussad("extract", "--data", tiny, *LITE0, "--grid", grid)
    assert done.code == 2
    assert "grid" in done.err


def test_run_plans_and_extracts_places_and_shows_no_tables(gaussad, tiny):
    places = ("--data", tiny, *LITE0, *LID, "--levels", "3", "--grid", "7")
    plan = gaussad("run", *places, "--dry-run")
    assert plan.code == 0, plan.err
    assert f"{12 * 49 * 24 * 4 / 1e6:.1f} MB" in plan.out
    assert "7 x 7 places" in plan.out
    done = gaussad("run", *places)
    assert (done.code, done.out) == (0, "")
    (level,) = Path("cache").glob("tiny/*/*/lid/train/level_*.npy")
    assert np.load(level).shape == (6, 49 * 24)


def test_a_config_extracts_places(gaussad, tiny):
    Path("places.yaml").write_text("backbone: efficientnet-lite0\nlevels: 5\ngrid: 2\nscore: []\n")
    assert gaussad("run", "--config", "places.yaml", "--data", tiny, *LID).code == 0
    (level,) = Path("cache").glob("tiny/*/*/lid/train/level_5.npy")
    assert np.load(level).shape == (6, 4 * 80)
    Path("places.yaml").write_text("backbone: efficientnet-lite0\ngrid: 2\n")
    done = gaussad("run", "--config", "places.yaml", "--data", tiny, *LID)
    assert_user_error(done, "'score: paper' works on averaged ones", "leave the grid out")


def test_real_masks_are_read_from_the_cache_as_from_the_files(gaussad, mvtec, tmp_path):
    data = link(mvtec, tmp_path / "data", "screw", every=10)
    (data / "screw/ground_truth").symlink_to(mvtec / "screw/ground_truth")
    done = gaussad("extract", "--data", data, *LITE0, "--levels", "6", "--grid", "2")
    assert done.code == 0, done.err
    folder = Path(done.out.strip()) / "screw/test"
    manifest = store.read_manifest(folder)
    for image, mask in zip(manifest.images, store.read_masks(folder, manifest), strict=True):
        _, label, name = image.name.split("/")
        path = mvtec / "screw/ground_truth" / label / f"{Path(name).stem}_mask.png"
        expected = np.asarray(Image.open(path)) > 127 if label != "good" else np.zeros(mask.shape)
        np.testing.assert_array_equal(mask, expected)


def test_heat_maps_never_outlive_the_rows_that_they_belong_to(gaussad, tiny, extract_once):
    extract_once(tiny, *LITE0, *LID, "--grid", "4", "--levels", "3")
    evaluate = ("evaluate", *LITE0, "--score", "places", "--mode", "all")
    maps = Path("results/tiny/maps")
    for options, kept in (("--maps",), 1), ((), 0):
        done = gaussad(*evaluate, *options)
        assert done.code == 0, done.err
        assert len(list(maps.iterdir())) == kept
        page = gaussad("report", "--data", tiny)
        assert page.code == 0, page.err
        assert ("No heat maps of lid were kept" in Path(page.out.strip()).read_text("utf-8")) == (kept == 0)
