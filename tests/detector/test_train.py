"""Training: the Gaussian of all images, a threshold from images held out, and what cannot be trained."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.resolve import NetworkOptions
from gaussad_cli.datasets.own import OwnImages
from gaussad_cli.detector import train as training
from gaussad_cli.detector.model import fit_level
from gaussad_cli.detector.train import (
    DetectorOptions,
    check_rate,
    collect_features,
    default_levels,
    describe_training,
    outliers,
    separation,
    train_best_detector,
    train_detector,
)
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.engine import AUTO
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from tests.detector.tiny_network import IDENTITY, features, open_tiny_network, pictures, write_pictures

N = 24
LITE0 = NetworkOptions("efficientnet-lite0")  # a name that exists; the tiny network is opened for it


@pytest.fixture
def images(tmp_path):
    normal = write_pictures(tmp_path / "good", pictures(N))
    anomalous = write_pictures(tmp_path / "bad", pictures(6, seed=1) // 4)
    return OwnImages(tuple(normal), tuple(anomalous))


@pytest.fixture(autouse=True)
def opened(monkeypatch):
    """Open the tiny network whatever is asked for, and keep what was asked for."""
    asked = []
    monkeypatch.setattr(
        training, "open_network", lambda options, compute, cache: asked.append(options) or open_tiny_network()
    )
    return asked


@pytest.fixture
def train(tmp_path):
    def run(images, compression=NO_COMPRESSION, fpr=0.1):
        return train_detector(images, LITE0, DetectorOptions(compression, fpr), AUTO, tmp_path)

    return run


@pytest.mark.parametrize("compression", [NO_COMPRESSION, Compression("npca", 0.1)], ids=["all", "npca"])
def test_the_model_is_the_gaussian_of_all_normal_images(train, images, compression):
    model = train(images, compression).model
    assert (model.level_numbers, model.backbone) == ((1, 2), IDENTITY)
    for level, rows in features(pictures(N)).items():
        expected = fit_level(level, rows, compression)
        assert model.levels[level - 1].n == N
        np.testing.assert_allclose(model.levels[level - 1].score(rows), expected.score(rows), rtol=1e-4)


def test_every_image_calibrates_by_a_gaussian_that_has_not_seen_it(train, images):
    by_level, expected = features(pictures(N)), []
    for i in range(N):
        others = np.delete(np.arange(N), i)
        scores = [fit_level(level, rows[others]).score(rows[[i]]) for level, rows in by_level.items()]
        expected.extend(np.mean(scores, axis=0))
    np.testing.assert_allclose(train(images).model.calibration.distances, np.sort(expected), rtol=1e-4)


# A new image that is beyond the threshold counts as well: (beyond + 1) / (24 + 1) is at most the rate.
@pytest.mark.parametrize(("fpr", "beyond"), [(0.04, 0), (0.1, 1), (0.5, 11)])
def test_the_threshold_leaves_the_wanted_share_of_held_out_images_beyond(train, images, fpr, beyond):
    calibration = train(images, fpr=fpr).model.calibration
    assert calibration.fpr == fpr
    assert (calibration.distances > calibration.threshold).sum() == beyond


def test_anomalous_images_are_reported_and_change_nothing(train, images):
    trained, alone = train(images), train(OwnImages(images.normal))
    assert trained.auroc > 0.9
    assert 0.0 <= trained.tpr <= 1.0
    assert (alone.auroc, alone.tpr) == (None, None)
    assert trained.model.calibration.threshold == alone.model.calibration.threshold


def test_copies_are_counted(train, images):
    shutil.copy(images.normal[0], images.normal[5])
    assert train(images).duplicates == 1


def test_the_default_level_is_the_papers_or_the_last_but_one(train, images, opened):
    train(images)
    assert [options.levels for options in opened] == ["7"]
    assert default_levels(find_backbone("efficientnet-b4")) == "7"
    resnet = find_backbone("resnet-18")
    assert default_levels(resnet) == str(resnet.n_levels - 1)


@pytest.mark.parametrize(("n", "fpr"), [(99, 0.01), (9, 0.1), (5, 0.5)])
def test_enough_images_for_a_rate(n, fpr):
    check_rate(fpr, n)


@pytest.mark.parametrize(
    ("n", "fpr", "message"),
    [
        (98, 0.01, "98 images allow false-positive rates down to 1 %. Give at least 99 normal images"),
        (4, 0.5, "give at least 5"),
        (99, 0.0, "between 0 and 1"),
        (99, 1.0, "between 0 and 1"),
        (99, float("nan"), "between 0 and 1"),
    ],
)
def test_too_few_images_for_a_rate(n, fpr, message):
    with pytest.raises(UserError, match=message):
        check_rate(fpr, n)


def test_a_rate_that_cannot_be_reached_is_refused_before_the_network_is_opened(train, images, opened):
    with pytest.raises(UserError, match="24 images allow"):
        train(images, fpr=0.01)
    assert not opened


def test_images_that_cannot_be_read_are_all_named(images):
    for path in (*images.normal[3:8:2], images.anomalous[1]):
        path.write_bytes(b"")
    named = r"4 images cannot be used.*003\.png.*005\.png.*007\.png.*bad/001\.png.*--skip-unreadable"
    with pytest.raises(UserError, match=named):
        collect_features(images, open_tiny_network())


def test_images_that_cannot_be_read_are_skipped_and_told_if_asked_for(images, train, capsys):
    without = OwnImages((*images.normal[:3], *images.normal[4:]), images.anomalous[1:])
    expected = train(without)
    for path in (images.normal[3], images.anomalous[0]):
        path.write_bytes(b"")
    trained = train(replace(images, skip_unreadable=True))
    assert trained.model.hashes == expected.model.hashes
    assert (trained.auroc, trained.tpr) == (expected.auroc, expected.tpr)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Left out: ")]
    assert [any(name in line for line in told) for name in ("good/003.png", "bad/000.png")] == [True, True]


def test_images_that_are_left_after_skipping_must_be_enough_for_the_rate(images, train):
    images.normal[3].write_bytes(b"")
    with pytest.raises(UserError, match="23 images allow"):
        train(replace(images, skip_unreadable=True), fpr=1 / 25)


def test_an_image_that_is_normal_and_anomalous_is_refused(images):
    shutil.copy(images.anomalous[2], images.normal[4])
    with pytest.raises(UserError, match=r"good/004\.png is given as normal.*bad/002\.png"):
        collect_features(images, open_tiny_network())


def test_images_that_are_all_alike_are_refused(train, tmp_path):
    alike = write_pictures(tmp_path / "alike", np.repeat(pictures(1), N, axis=0))
    with pytest.raises(UserError, match="all alike at level 1"):
        train(OwnImages(tuple(alike)))


def test_the_best_candidate_is_chosen_and_all_are_listed(images, tmp_path):
    trained = train_best_detector(images, [LITE0], 0.1, AUTO, tmp_path)
    names, values = zip(*trained.candidates, strict=True)
    assert len(names) == 6  # levels 1, 2 and both, each with all components and NPCA 1 %
    assert list(values) == sorted(values, reverse=True)
    assert trained.auroc == values[0]


def test_a_candidates_value_is_that_of_its_own_training(images, train, tmp_path):
    by_name = dict(train_best_detector(images, [LITE0], 0.1, AUTO, tmp_path).candidates)
    assert by_name["efficientnet-lite0, levels 1-2, all"] == train(images).auroc
    expected = separation(collect_features(images, open_tiny_network()).only([2]), Compression("npca", 0.01))
    assert by_name["efficientnet-lite0, level 2, npca 0.01"] == expected


def test_choosing_needs_anomalous_images(images, tmp_path):
    with pytest.raises(UserError, match="--anomalous"):
        train_best_detector(OwnImages(images.normal), [LITE0], 0.1, AUTO, tmp_path)


def test_an_unknown_backbone_among_several_is_refused_before_any_is_opened(images, tmp_path, opened):
    with pytest.raises(UserError, match="unknown backbone"):
        train_best_detector(images, [LITE0, NetworkOptions("resnet-19")], 0.1, AUTO, tmp_path)
    assert not opened


def test_the_report_names_the_lowest_rate_and_the_copies(train, images):
    shutil.copy(images.normal[0], images.normal[5])
    report = describe_training(train(images))
    assert "24 images allow false-positive rates down to 4 %" in report
    assert "1 images are copies of others" in report
    assert "anomalous images: AUROC" in report


def test_fewer_images_than_the_default_rate_needs_are_calibrated_for_the_rate_that_they_allow(train, images):
    trained = train(images, fpr=None)
    assert trained.model.calibration.fpr == 1 / 25
    assert trained.model.calibration.threshold == trained.model.calibration.distances.max()
    assert "The threshold rests on the 1 farthest of 24 images" in describe_training(trained)


def test_an_image_far_beyond_the_others_is_named(train, images):
    images.normal[7].write_bytes(images.anomalous[0].read_bytes())
    trained = train(OwnImages(images.normal))
    assert trained.outliers[0] == images.normal[7]
    assert "lie far beyond the others" in describe_training(trained)


def test_ordinary_distances_hold_no_outlier():
    assert outliers(np.random.default_rng(0).chisquare(50, 500) ** 0.5) == []
