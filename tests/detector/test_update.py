"""Adding images to a model gives the model of training on all of them at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gaussad_cli.detector.model import PooledModel, calibrate, fit_levels
from gaussad_cli.detector.update import check_normal, update
from gaussad_cli.errors import UserError
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from tests.detector.tiny_network import features, pictures, tiny_model

HASHES = tuple(f"{i:016x}" for i in range(24))


def trained(images, compression=NO_COMPRESSION, fpr=0.2):
    """A model as training gives it."""
    model = tiny_model(compression=compression)
    levels = fit_levels(features(images), compression)
    return replace(model, gaussians=PooledModel(levels), calibration=calibrate(levels, fpr), hashes=())


@pytest.mark.parametrize("compression", [NO_COMPRESSION, Compression("pca", 0.95), Compression("npca", 0.1)], ids=str)
@pytest.mark.parametrize("steps", [1, 3])
def test_one_update_or_several_equal_training_on_all_to_the_bit(compression, steps):
    images, asked = pictures(48), features(pictures(9, seed=3))
    model, whole = trained(images[:24], compression), trained(images, compression)
    for part, hashes in zip(np.array_split(images[24:], steps), np.array_split(HASHES, steps), strict=True):
        model = update(model, features(part), tuple(hashes))
    assert model.score(asked).tobytes() == whole.score(asked).tobytes()
    assert model.calibration.distances.tobytes() == whole.calibration.distances.tobytes()
    assert model.calibration.threshold == whole.calibration.threshold
    assert (model.provenance["updates"], model.levels[0].n, len(model.hashes)) == (steps, 48, 24)


def test_a_model_without_the_features_of_its_images_is_not_updated():
    model = trained(pictures(24))
    levels = tuple(replace(level, features=None) for level in model.levels)
    older = replace(model, gaussians=PooledModel(levels))
    with pytest.raises(UserError, match="did not keep the features"):
        update(older, features(pictures(3)), HASHES[:3])


@pytest.mark.parametrize(("beyond", "n"), [(0, 10), (1, 1), (4, 10), (20, 100), (30, 100)])
def test_as_many_images_beyond_the_threshold_as_chance_allows_are_added(beyond, n):
    check_normal(trained(pictures(24)), [Path(f"{i}.png") for i in range(beyond)], n)


@pytest.mark.parametrize(("beyond", "n"), [(6, 10), (31, 100), (20, 20)])  # binomial tail at rate 0.2 below 0.01
def test_more_than_that_are_counted_named_and_refused(beyond, n):
    paths = [Path(f"defect-{i}.png") for i in range(beyond)]
    with pytest.raises(UserError, match=rf"{beyond} of {n} new images are beyond .*defect-0\.png.*--allow-anomalous"):
        check_normal(trained(pictures(24)), paths, n)
