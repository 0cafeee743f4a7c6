"""Adding images to a model from its moments equals fitting to all of them."""

from dataclasses import replace

import numpy as np
import pytest

from gaussad_cli.detector.model import Calibration, fit_level
from gaussad_cli.detector.update import update, update_level
from gaussad_cli.errors import UserError
from gaussad_cli.gaussian.compression import Compression
from tests.detector.tiny_network import features, pictures, tiny_model


def data(n, dim, offset, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) * np.geomspace(2, 0.05, dim)
    return (mixed + offset).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize(("n", "dim"), [(200, 8), (30, 60)], ids=["n > D", "n < D"])
@pytest.mark.parametrize("parts", [1, 10])
def test_one_update_or_ten_equal_a_fit_to_all(n, dim, offset, parts):
    x, test = data(n, dim, offset), data(20, dim, offset, seed=1)
    whole = fit_level(7, x)
    level = fit_level(7, x[: n // 2])
    for chunk in np.array_split(x[n // 2 :], parts):
        level = update_level(level, chunk)
    assert level.n == n
    assert level.spectrum.rank == whole.spectrum.rank
    np.testing.assert_allclose(level.shrinkage.intensity, whole.shrinkage.intensity, rtol=1e-9)
    np.testing.assert_allclose(level.score(test), whole.score(test), rtol=1e-9)


def test_new_distances_to_the_old_model_join_the_calibration():
    model = tiny_model()
    new = features(pictures(8, seed=5))
    updated = update(model, new, ("ab" * 8,) * 8)
    assert updated.calibration.distances.size == model.calibration.distances.size + 8
    assert set(model.score(new)) <= set(updated.calibration.distances)
    assert (np.diff(updated.calibration.distances) >= 0).all()
    assert updated.levels[0].n == model.levels[0].n + 8
    assert len(updated.hashes) == len(model.hashes) + 8
    assert updated.provenance["updates"] == 1


def test_the_threshold_is_made_anew_for_the_same_rate():
    model = tiny_model()
    far = replace(model, calibration=Calibration(np.zeros(3), 0.3, 0.0))
    assert update(far, features(pictures(8, seed=5)), ("ab" * 8,) * 8).calibration.threshold > 0


def test_a_compressed_model_is_not_updated():
    with pytest.raises(UserError, match="Train it again"):
        update(tiny_model(compression=Compression("npca", 0.1)), features(pictures(3)), ("ab" * 8,) * 3)
