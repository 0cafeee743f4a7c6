"""Augmented epochs, thresholds and previews through the command line, on real images with real weights."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gaussad_cli.evaluation.results import read_metrics
from gaussad_cli.gaussian.thresholds import chi2_threshold, target_fpr
from tests.cli.test_main_job import link
from tests.conftest import assert_user_error

LITE0 = ("--backbone", "efficientnet-lite0")
LEVEL = ("--levels", "7")


def thresholds() -> pd.DataFrame:
    return pd.read_csv("results/data/thresholds.csv")


@pytest.fixture
def bottle(mvtec, tmp_path):
    """Every eighth image of a real category."""
    return link(mvtec, tmp_path / "data", "bottle", every=8)


@pytest.fixture
def more_bottles(mvtec, tmp_path):
    """Every fourth image of it."""
    return link(mvtec, tmp_path / "data", "bottle", every=4)


def test_epochs_go_from_images_to_table_4_beside_the_images_as_they_are(gaussad, bottle):
    done = gaussad("run", "--data", bottle, *LITE0, *LEVEL, "--epochs", 2, "--table", 4)
    assert done.code == 0, done.err
    assert "2 augmented epochs" in done.out
    assert "not augmented" in done.out
    metrics = read_metrics(Path("results"), None)
    assert set(metrics["epochs"]) == {0, 2}
    fold = metrics[(metrics["epochs"] == 2) & (metrics["mode"] == "all") & (metrics["fold"] == 0)]
    assert set(fold["n_train"]) == {2 * 21}  # 27 images, of which fold 0 leaves 6 out

    # Table IV's cells are the shares of the distances in the scores file beyond the law's thresholds.
    scores = pd.read_csv("results/data/scores/bottle.csv")
    scores = scores[(scores["score"] == "mahalanobis") & (scores["mode"] == "all") & (scores["epochs"] == 2)]
    table = pd.read_csv("results/data/tables/table_4.csv")
    table = table[(table["mode"] == "all") & (table["epochs"] == 2)].set_index(["quantity", "sigma"])["mean"]
    for sigma in range(1, 6):
        threshold = chi2_threshold(target_fpr(sigma), 192)
        for quantity, anomalous in (("fpr", 0), ("tpr", 1)):
            distances = scores.loc[scores["anomalous"] == anomalous, [f"fold_{k}" for k in range(5)]]
            assert table[quantity, sigma] == pytest.approx(100 * (distances > threshold).to_numpy().mean())

    again = gaussad("extract", "--data", bottle, *LITE0, *LEVEL, "--epochs", 2)
    assert "\n0 images of 1 categories extracted" in again.err


def test_thresholds_for_wanted_rates_are_written_drawn_and_printed(gaussad, extract_once, more_bottles):
    extract_once(more_bottles, *LITE0, *LEVEL)
    wanted = ("--mode", "all", "--threshold", "chi2", "--threshold", "conformal", "--fpr", "0.2,0.1")
    done = gaussad("evaluate", *LITE0, *wanted)
    assert done.code == 0, done.err
    assert "bottle: achieved FPR in percent (TPR), 5 normal test images" in done.out
    rows = thresholds()
    assert set(rows["method"]) == {"chi2", "conformal"}
    assert set(rows["target"]) == {0.2, 0.1}
    assert len(rows) == 2 * 2 * 5
    np.testing.assert_allclose(
        rows.loc[(rows["method"] == "chi2") & (rows["target"] == 0.1), "threshold"], chi2_threshold(0.1, 192)
    )
    # The held-out fifth calibrates: with 11 (or 10) images, the threshold for 10 % is their largest distance.
    assert set(rows.loc[rows["method"] == "conformal", "n_held_out"]) == {10, 11}
    assert [path.suffix for path in Path("results/data/figures").iterdir()] == [".png"]

    # Again, with another method: the rows of the same scoring are replaced, those of other scorings stay.
    gaussad("evaluate", *LITE0, "--score", "l2", "--threshold", "all", "--fpr", "0.1")
    gaussad("evaluate", *LITE0, "--mode", "all", "--threshold", "gamma", "--fpr", "0.1")
    rows = thresholds()
    assert set(rows.loc[rows["score"] == "l2", "method"]) == {"empirical", "gamma", "conformal", "cross-conformal"}
    assert set(rows.loc[rows["score"] == "mahalanobis", "method"]) == {"gamma"}


def test_thresholds_of_all_scorings_are_summed_up_and_not_drawn(gaussad, extract_once, more_bottles):
    extract_once(more_bottles, *LITE0, *LEVEL)
    done = gaussad("evaluate", *LITE0, "--threshold", "all")
    assert done.code == 0, done.err
    assert "Mean gap between wanted and achieved FPR" in done.out
    assert "mahalanobis NPCA 0.01%" in done.out
    assert "Figures are drawn for one score" in done.err
    assert not Path("results/data/figures").exists()


def test_moments_only_keeps_no_features_and_gives_the_same_rows(gaussad, bottle):
    options = ("--data", bottle, *LITE0, *LEVEL, "--epochs", 2)
    for cache, moments in (("a", ()), ("b", ("--moments-only",))):
        assert gaussad("extract", *options, "--cache", cache, *moments).code == 0
        assert gaussad("evaluate", *LITE0, "--epochs", 2, "--cache", cache, "--out", f"r{cache}").code == 0
    assert Path("ra/data/metrics.csv").read_bytes() == Path("rb/data/metrics.csv").read_bytes()
    kept = {cache: len(list(Path(cache).rglob("train/level_7.npy"))) for cache in "ab"}
    assert kept == {"a": 2, "b": 1}


def test_seed_and_rules_change_the_features_and_are_told_apart(gaussad, bottle):
    Path("rules.yaml").write_text("bottle: {any: 0}\n")
    options = ("--data", bottle, *LITE0, *LEVEL, "--epochs", 2)
    plain = Path(gaussad("extract", "--data", bottle, *LITE0, *LEVEL).out.strip())
    folders = [
        Path(gaussad("extract", *options, *more).out.strip())
        for more in ((), ("--seed", 1), ("--augmentation", "rules.yaml"))
    ]
    features = [np.load(folder / "bottle/train/level_7.npy") for folder in folders]
    assert len(set(folders)) == 3
    assert (features[0] != features[1]).any()
    as_they_are = np.load(plain / "bottle/train/level_7.npy")
    np.testing.assert_allclose(features[2], np.repeat(as_they_are[:, None], 2, axis=1), rtol=1e-4, atol=1e-4)
    assert_user_error(gaussad("evaluate", *LITE0, "--epochs", 2), "several extractions fit", "--key", "seed 1")
    assert gaussad("evaluate", *LITE0, "--key", folders[1].name, "--mode", "all").code == 0


def test_a_preview_shows_the_views_that_extraction_makes(gaussad, bottle):
    done = gaussad("augment-preview", "--data", bottle, "--images", 2, "--epochs", 3, "--size", 64, "--out", "p")
    assert (done.code, done.out) == (0, "p/bottle.png\n")
    sheet = np.asarray(Image.open("p/bottle.png"))
    assert sheet.shape == (2 * 68 - 4, 4 * 68 - 4, 3)
    Path("none.yaml").write_text("default: {any: 0}\n")
    gaussad("augment-preview", "--data", bottle, "--size", 64, "--augmentation", "none.yaml", "--out", "q")
    sheet = np.asarray(Image.open("q/bottle.png"))
    for column in range(1, 10):
        np.testing.assert_array_equal(sheet[:, 68 * column : 68 * column + 64], sheet[:, :64])


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("extract", "--moments-only"), ("--moments-only needs --epochs",)),
        (("extract", "--augmentation", "rules.yaml"), ("--augmentation needs --epochs",)),
        (("extract", "--epochs", 1, "--augmentation", "gone.yaml"), ("cannot read gone.yaml",)),
        (("extract", "--epochs", 1, "--augmentation", "rules.yaml"), ("unknown key 'rotate'", "rotat")),
        (("augment-preview", "--augmentation", "rules.yaml"), ("unknown key 'rotate'",)),
    ],
)
def test_options_of_augmentation_that_cannot_be(gaussad, tiny, options, fragments):
    Path("rules.yaml").write_text("knob: {rotate: 15}\n")
    backbone = LITE0 if options[0] == "extract" else ()
    assert_user_error(gaussad(*options, "--data", tiny, *backbone), *fragments)
    assert not Path("cache").exists()


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--fpr", "0.1"), ("--fpr needs --threshold",)),
        (("--threshold", "chi"), ("unknown --threshold 'chi'", "Did you mean chi2?")),
        (("--threshold", "all", "--fpr", "5"), ("rates must lie between 0 and 1",)),
        (("--epochs", "7"), ("no efficientnet-lite0 features with these options", "epochs 0")),
    ],
)
def test_options_of_the_working_point_that_cannot_be(gaussad, extract_once, tiny, options, fragments):
    extract_once(tiny, *LITE0, "--levels", "3")
    assert_user_error(gaussad("evaluate", *LITE0, *options), *fragments)
