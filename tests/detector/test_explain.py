"""What an explanation's numbers are, each against its definition; and that a planted defect is found."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gaussad_cli.detector import explain
from gaussad_cli.detector.attribution import direct, locate, normal_pattern, typical_distance
from gaussad_cli.detector.explain import Explainer, check_level, picture_names
from gaussad_cli.detector.model import PooledModel, fit_level
from gaussad_cli.errors import UserError
from gaussad_cli.extraction import decode
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from tests.detector.tiny_network import IDENTITY, SIZE, feature_maps, features, pictures, tiny_model, write_pictures

CASES = pytest.mark.parametrize(
    ("n", "compression"),
    [(40, NO_COMPRESSION), (5, NO_COMPRESSION), (40, Compression("pca", 0.9)), (40, Compression("npca", 0.01))],
    ids=["all", "fewer images than features", "pca", "npca"],
)


def explainer(n=40, compression=NO_COMPRESSION):
    return Explainer(tiny_model(n, compression), feature_maps)


def count_decoding(monkeypatch):
    """A list that every image which is decoded from now on is added to."""
    decoded, decode_ = [], decode._decode

    def counted(content, path, depth):
        decoded.append(path)
        return decode_(content, path, depth)

    monkeypatch.setattr(decode, "_decode", counted)
    return decoded


def gaussian(level):
    return level.spectrum, level.shrinkage


@CASES
def test_the_contribution_map_averages_to_the_squared_distance(n, compression):
    one, square = explainer(n, compression), pictures(1, seed=3)[0]
    maps = one.feature_maps(square)
    pattern = normal_pattern([one.feature_maps(other) for other in pictures(4, seed=4)])
    for level in one.model.levels:
        distance = level.score(features(square[None])[level.level])[0]
        for taken in (None, pattern[level.level]):
            located = locate(*gaussian(level), maps[level.level], taken)
            assert located.contribution.mean() == pytest.approx(distance**2, rel=1e-5)


@CASES
def test_the_distance_map_is_every_places_distance_over_its_median(n, compression):
    one, square = explainer(n, compression), pictures(1, seed=3)[0]
    for level in one.model.levels:
        local = one.feature_maps(square)[level.level]
        by_hand = np.stack([level.score(row.T) for row in local.transpose(1, 0, 2)])
        np.testing.assert_allclose(locate(*gaussian(level), local).distance, by_hand / np.median(by_hand), rtol=1e-6)


def test_an_image_that_is_nothing_but_the_normal_pattern_is_flat():
    level = tiny_model().levels[0]
    local = np.random.default_rng(0).normal(size=(6, 4, 4))
    pattern = normal_pattern([{1: local}])[1]
    np.testing.assert_allclose(pattern.mean(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(locate(*gaussian(level), local, pattern).distance, 1.0)
    assert np.ptp(locate(*gaussian(level), local).distance) > 0.1


def test_the_pattern_of_several_images_is_that_of_their_mean():
    maps = list(np.random.default_rng(0).normal(size=(3, 6, 4, 4)))
    mean = np.mean(maps, axis=0)
    expected = mean - mean.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(normal_pattern({7: one} for one in maps)[7], expected)


def test_with_the_normal_pattern_taken_away_a_defect_stands_out_in_both_maps():
    rim = pictures(1, seed=9)[0].astype(int)  # what all images share, and differs from place to place
    rng = np.random.default_rng(0)
    images = np.clip(rim + rng.integers(-12, 13, (30, 1, 1, 3)) + rng.integers(-3, 4, (30, SIZE, SIZE, 3)), 0, 255)
    normal = images.astype(np.uint8)
    levels = tuple(fit_level(level, features(normal)[level]) for level in (1, 2))
    one = Explainer(replace(tiny_model(), gaussians=PooledModel(levels)), feature_maps)
    one = replace(one, pattern=normal_pattern(map(one.feature_maps, normal[:10])))
    defect = normal[20].copy()
    defect[8:16, 20:28] = 255 - defect[8:16, 20:28]
    for level, stride in ((1, 2), (2, 4)):
        located = one.explain(defect, "defect", level).located
        for values in (located.distance, located.contribution):
            y, x = np.array(np.unravel_index(values.argmax(), values.shape)) * stride
            assert 4 <= y < 20
            assert 16 <= x < 32


@CASES
def test_shares_of_components_are_their_parts_of_the_squared_distance(n, compression):
    model, pooled = tiny_model(n, compression), features(pictures(1, seed=3))
    for level in model.levels:
        found = direct(*gaussian(level), pooled[level.level][0])
        spectrum, shrinkage = gaussian(level)
        squared = level.score(pooled[level.level])[0] ** 2
        for component in found.largest:
            j = component.number - 1
            assert shrinkage.start <= j < shrinkage.stop
            q = (pooled[level.level][0] - spectrum.mean) @ spectrum.eigenvectors[:, j]
            weight = (1 - shrinkage.intensity) * spectrum.eigenvalues[j] + shrinkage.intensity * shrinkage.scale
            assert component.share == pytest.approx(q * q / weight / squared, rel=1e-6)
            assert component.deviations == pytest.approx(q / np.sqrt(spectrum.eigenvalues[j]), rel=1e-6)
            explained = np.cumsum(spectrum.eigenvalues) / spectrum.eigenvalues.sum()
            assert component.leading == (j == 0 or explained[j - 1] <= 0.99)
        shares = [component.share for component in found.largest]
        assert shares == sorted(shares, reverse=True)
        assert sum(group.share for group in found.groups) == pytest.approx(1)
        assert sum(group.expected for group in found.groups) == pytest.approx(1)
        assert sum(group.size for group in found.groups) == shrinkage.dim


def test_what_lies_outside_the_training_data_is_a_group_of_its_own():
    level = tiny_model(n=5).levels[1]
    groups = {group.name: group for group in direct(*gaussian(level), features(pictures(1, seed=3))[2][0]).groups}
    assert groups["outside"].size == level.spectrum.dim - level.spectrum.rank
    assert groups["outside"].share > 0.01
    assert groups["outside"].expected == 0
    assert "outside" not in {g.name for g in direct(*gaussian(tiny_model().levels[0]), np.ones(6)).groups}


@CASES
def test_the_typical_distance_is_the_training_images_root_mean_square(n, compression):
    for level in tiny_model(n, compression).levels:
        distances = level.score(features(pictures(n))[level.level])
        assert typical_distance(*gaussian(level)) == pytest.approx(np.sqrt(np.mean(distances**2)), rel=1e-6)


def test_score_and_decision_and_p_value_are_the_models():
    one = explainer()
    for square in pictures(5, seed=6):
        explained, own = one.explain(square, "x"), one.model.score(features(square[None]))
        assert explained.score == pytest.approx(own[0], rel=1e-6)
        assert explained.anomalous == (own[0] > one.model.calibration.threshold)
        assert explained.p_value == one.model.calibration.p_values(own)[0]


def test_the_level_looked_at_is_the_one_that_stands_out_most_or_the_one_asked_for():
    one, square = explainer(), pictures(1, seed=6)[0]
    explained = one.explain(square, "x")
    ratio = {level.level: level.distance / level.typical for level in explained.levels}
    assert explained.level == max(ratio, key=lambda level: ratio[level])
    # Where training images were near at the other level, that one stands out, whichever is farther.
    other = 3 - explained.level
    with pytest.MonkeyPatch.context() as patch:
        typical = {level.spectrum.dim: 0.1 if level.level == other else 1.0 for level in one.model.levels}
        patch.setattr(explain, "typical_distance", lambda spectrum, _: typical[spectrum.dim])
        assert one.explain(square, "x").level == other
    asked = one.explain(square, "x", other)
    assert asked.level == other
    assert asked.located.distance.shape != explained.located.distance.shape


def test_an_image_is_read_as_the_network_sees_it_and_decoded_once(tmp_path, monkeypatch):
    (path,) = write_pictures(tmp_path, pictures(1, seed=6, height=50, width=70))
    decoded = count_decoding(monkeypatch)
    square = explainer().read(path)
    np.testing.assert_array_equal(square, decode.read_squares(path, [IDENTITY.input_size]).by_size[SIZE])
    assert decoded == [path] * 2  # by the explainer, and by this test


def test_a_level_that_the_model_lacks_is_refused():
    with pytest.raises(UserError, match=r"--level 3: the model only has level 1, 2"):
        check_level(tiny_model(), 3)


def test_the_row_is_json_even_with_an_infinite_threshold():
    one = Explainer(tiny_model(threshold=np.inf), feature_maps)
    row = json.loads(json.dumps(one.explain(pictures(1)[0], "x").row(), allow_nan=False))
    assert row["threshold"] is None
    assert not row["anomalous"]


def test_pictures_have_names_of_their_own_and_no_images(tmp_path):
    images = [tmp_path / name for name in ("a/000.png", "b/000.png", "a/000.jpg", "a/000-explained.png")]
    names = picture_names(images)
    assert names[:2] == ["a-000-explained.png", "b-000-explained.png"]
    assert len(set(names)) == len(images)
    assert not {image.name for image in images} & set(names)
    assert picture_names([Path("x.png")]) == ["x-explained.png"]


def test_pictures_of_images_on_several_drives_are_named_by_the_images(monkeypatch):
    def fail(paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", fail)
    assert picture_names([Path("c/x.png"), Path("d/x.png")]) == ["x-explained.png", "x-explained-2.png"]
