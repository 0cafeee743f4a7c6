"""The model of cost: what is known exactly is exact, and the rest grows as the work does."""

import numpy as np
import pytest

from gaussad_cli.backbones.info import measure_shape
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.evaluation import fitting
from gaussad_cli.experiments import cost
from gaussad_cli.extraction.store import ImageEntry, Manifest, Recipe, spectra_path, split_folder, write_features

DIMS = (6, 40)
B4 = find_backbone("efficientnet-b4").dims


@pytest.mark.parametrize("epochs", [0, 3])
def test_features_and_spectra_on_disk_are_as_large_as_predicted(tmp_path, epochs):
    recipe = Recipe("toy", 2, "none", "", "tf", 16, epochs=epochs)
    images = tuple(ImageEntry(f"train/good/{i}.png", "good", "") for i in range(30))
    rng = np.random.default_rng(0)
    shape = (30, epochs) if epochs else (30,)
    features = {level: rng.standard_normal((*shape, dim), dtype=np.float32) for level, dim in enumerate(DIMS, start=1)}
    train = split_folder(tmp_path, "data", recipe, "knob", "train")
    manifest = write_features(train, Manifest("data", "knob", "train", recipe, images, {}), features)
    for level in features:
        spectra, _ = fitting.level_spectra(train.parent, manifest, level)
        fitting.store_spectra(train.parent, manifest, level, spectra)
    headers = 128 * len(DIMS)
    assert sum(path.stat().st_size for path in train.glob("*.npy")) == cost.feature_bytes(30, epochs, DIMS) + headers
    spectra = [np.load(spectra_path(train.parent, level)) for level in features]
    values = sum(arrays[name].nbytes for arrays in spectra for name in arrays.files if arrays[name].ndim)
    # Of n <= D, centring takes one component more than the model knows of.
    assert 0.95 < values / cost.spectra_bytes(30, epochs, DIMS) <= 1


def test_extraction_takes_the_network_and_decoding_or_a_measured_rate():
    macs = measure_shape(find_backbone("efficientnet-lite0"), "tf").multiply_adds[-1]
    expected = 100 * (macs / cost.MACS_PER_SECOND + 1 / cost.VIEWS_PER_SECOND)
    assert cost.extraction_seconds(100, macs) == pytest.approx(expected)
    assert cost.extraction_seconds(100, macs, 2 * cost.MACS_PER_SECOND) < expected
    assert cost.extraction_seconds(100, macs, images_per_s=50.0) == 2.0
    assert cost.extraction_seconds(0, macs) == 0.0


@pytest.mark.parametrize(
    ("larger", "at_least", "at_most"),
    [
        ({"n_train": 2000}, 2, 4.1),  # n * D * min(n, D): up to the square
        ({"n_test": 10_000}, 2, 11),
        ({"epochs": 20}, 2, 40),
        ({"dims": (*B4, *B4)}, 1.8, 2),
        ({"n_scorings": 80}, 2, 10),
    ],
)
def test_evaluation_grows_with_everything_it_depends_on(larger, at_least, at_most):
    usual = {"n_train": 1000, "n_test": 1000, "epochs": 0, "dims": B4, "n_scorings": 8}
    ratio = cost.evaluation_seconds(**usual | larger) / cost.evaluation_seconds(**usual)
    assert at_least <= ratio <= at_most


def test_a_thousand_images_of_lite0_take_the_seconds_that_were_measured():
    """docs/cost.md, by scripts/cost.py: 4.9 s; 7.6 s for 300 images and 20 epochs."""
    dims = find_backbone("efficientnet-lite0").dims
    assert cost.evaluation_seconds(1000, 500, 0, dims, 8) == pytest.approx(4.9, rel=0.5)
    assert cost.evaluation_seconds(300, 150, 20, dims, 8) == pytest.approx(7.6, rel=0.5)
