"""evaluate --score places on real images, against plain loops over places that use nothing of the core."""

import json
import os
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import KFold

from gaussad_cli.evaluation import places
from gaussad_cli.evaluation.results import ADDED, read_metrics, read_scores
from gaussad_cli.evaluation.scorings import Scoring, Setting, choose_scorings
from gaussad_cli.evaluation.selection import Selection
from tests.cli.test_grid import write_masks
from tests.cli.test_main_job import link
from tests.conftest import assert_user_error

LITE0 = ("--backbone", "efficientnet-lite0")
PLACES = (*LITE0, "--score", "places")
GRID = 7
SCORES = ["places", "places-top", "places-scaled"]
PIXELS = ["pixel_auroc", "aupro", "pointing"]


@pytest.fixture
def bottle(extract_once, mvtec, tmp_path):
    """Levels 3 and 4 of every eighth image of a real category with masks, on a small grid: its folder in the cache."""
    data = link(mvtec, tmp_path / "data", "bottle", every=8)
    (data / "bottle/ground_truth").symlink_to(mvtec / "bottle/ground_truth")
    return extract_once(data, *LITE0, "--levels", "3,4", "--grid", GRID) / "bottle"


def evaluated(gaussad, *options, dataset="data"):
    done = gaussad("evaluate", *PLACES, *options)
    assert done.code == 0, done.err
    return read_metrics(Path("results"), dataset), done


# --- the reference ---


def read_joined(folder):
    """Features (rows, P, D): every level place by place, then each place averaged with those around it."""
    levels = [np.load(folder / f"level_{level}.npy").astype(float) for level in (3, 4)]
    joined = np.concatenate([v.reshape(-1, GRID, GRID, v.shape[-1] // GRID**2) for v in levels], axis=3)
    averaged = np.empty_like(joined)
    for row in range(GRID):
        for column in range(GRID):
            around = joined[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            averaged[:, row, column] = around.mean(axis=(1, 2))
    return averaged.reshape(len(joined), GRID**2, -1)


def reference_maps(train, images, mode="npca", var=0.1, rho=0.5, floor=0.0):
    """Distances (m, P) of images, and the number of directions."""
    maps, _, dim = reference_fit(train, images, mode, var, rho, floor)
    return maps, dim


def reference_fit(train, images, mode="npca", var=0.1, rho=0.5, floor=0.0):
    """Distances (m, P) of images, and those (n, P) that the images of the fit have if they are left out."""
    n, p, dim = train.shape
    means = train.mean(axis=0)
    covariances = [np.cov(train[:, place].T) for place in range(p)]
    values, vectors = np.linalg.eigh(sum(covariances) / p)
    values, vectors = values[::-1], vectors[:, ::-1]
    start = 0
    if mode == "npca":
        shares = np.cumsum(values) / values.sum()
        start = max(int(np.argmax(shares > 1 - var)) - 1, 0)
    basis = vectors[:, start:] / (1.0 if floor else np.sqrt(values[start:]))
    deviations = (train - means) @ basis
    found, left = np.empty((len(images), p)), np.empty((n, p))
    for place in range(p):
        sigma = (1 - rho) * basis.T @ covariances[place] @ basis + (floor or rho) * np.eye(dim - start)
        inverse = np.linalg.inv(sigma)
        for row, image in enumerate(images):
            y = (image[place] - means[place]) @ basis
            found[row, place] = np.sqrt(y @ inverse @ y)
        for row, of_image in enumerate(deviations):
            a = inverse @ of_image[place]
            own = np.mean([(y @ a) ** 2 for y in of_image])  # what T loses with the image
            squared = of_image[place] @ a + rho * n / (n - 1) ** 2 * own
            within = 1 - (1 - rho) * n / (n - 1) ** 2 * squared
            left[row, place] = n / (n - 1) * np.sqrt(max(0.0, (n - 2) / (n - 1) * squared / within))
    return found, left, dim - start


def by_fold(bottle):
    train, test = (read_joined(bottle / split) for split in ("train", "test"))
    folds = [fitted for fitted, _ in KFold(5, shuffle=True, random_state=0).split(train)]
    return [(train[fitted], test) for fitted in folds]


# --- the numbers ---


def test_scores_and_metrics_are_those_of_a_loop_over_places(gaussad, bottle):
    metrics, _ = evaluated(gaussad)
    scores = read_scores(Path("results"), "data", "bottle")
    assert sorted(set(metrics["score"])) == sorted(SCORES)
    assert set(metrics["level"]) == {"joint:3-4"}
    for fold, (train, test) in enumerate(by_fold(bottle)):
        maps, held_out, dim = reference_fit(train, test)
        greatest, whole = (np.quantile(of_maps(held_out, axis=1), [0.5, 0.9]) for of_maps in (np.max, np.mean))
        beyond = (maps.mean(axis=1) - whole[0]) / (whole[1] - whole[0])  # 1 for the quantile of 0.9
        of_whole = greatest[0] + 0.5 * (greatest[1] - greatest[0]) * beyond
        expected = {
            "places": maps.max(axis=1),
            "places-top": maps.max(axis=1),  # of 49 places, the greatest 1 % are the greatest
            "places-scaled": np.maximum(maps.max(axis=1), of_whole),
        }
        for score, values in expected.items():
            rows = scores[scores["score"] == score]
            np.testing.assert_allclose(rows[f"fold_{fold}"].astype(float), values, rtol=2e-3)
            (row,) = metrics[(metrics["score"] == score) & (metrics["fold"] == fold)].to_dict("records")
            anomalous = rows["anomalous"].astype(int)
            assert row["auroc"] == pytest.approx(roc_auc_score(anomalous, values))
            assert row["ap"] == pytest.approx(average_precision_score(anomalous, values))
            assert (row["n_train"], row["dim"], row["shrinkage"]) == (len(train), dim, 0.5)


@pytest.mark.parametrize(
    ("options", "mode", "plain"),
    [
        (("--mode", "all", "--rho", "0.3"), "all rho=0.3", {"mode": "all", "rho": 0.3}),
        (("--mode", "npca", "--var", "0.3"), "npca", {"var": 0.3}),
        (("--mode", "all", "--target", "padim"), "all padim", {"mode": "all", "rho": 0.0, "floor": 0.01}),
    ],
)
def test_every_setting_is_that_of_a_loop_over_places(gaussad, bottle, options, mode, plain):
    metrics, _ = evaluated(gaussad, *options)
    assert set(metrics["mode"]) == {mode}
    scores = read_scores(Path("results"), "data", "bottle")
    rows = scores[scores["score"] == "places"]
    train, test = by_fold(bottle)[0]
    expected, dim = reference_maps(train, test, **plain)
    np.testing.assert_allclose(rows["fold_0"].astype(float), expected.max(axis=1), rtol=2e-3)
    assert set(metrics.loc[metrics["fold"] == 0, "dim"]) == {dim}


def test_a_random_subset_of_channels_is_that_of_padim(gaussad, bottle):
    metrics, _ = evaluated(gaussad, "--mode", "all", "--target", "padim", "--channels", 9)
    assert (set(metrics["mode"]), set(metrics["dim"])) == ({"all padim channels=9"}, {9})
    rows = read_scores(Path("results"), "data", "bottle")
    train, test = by_fold(bottle)[0]
    chosen = np.random.default_rng(0).permutation(train.shape[2])[:9]
    expected, _ = reference_maps(train[..., chosen], test[..., chosen], "all", rho=0.0, floor=0.01)
    fold = rows.loc[rows["score"] == "places", "fold_0"].astype(float)
    np.testing.assert_allclose(fold, expected.max(axis=1), rtol=2e-3)
    done = gaussad("evaluate", *PLACES, "--channels", 999)
    assert_user_error(done, "--channels 999", "only 64 channels")


def test_metrics_of_pixels_are_those_of_the_maps_at_the_masks_resolution(gaussad, bottle, mvtec):
    metrics, _ = evaluated(gaussad)
    scores = read_scores(Path("results"), "data", "bottle")
    images = scores.loc[scores["score"] == "places", ["image", "label"]]
    maps, _ = reference_maps(*by_fold(bottle)[0])
    pixels, truth, hits = [], [], []
    for distances, name, label in zip(maps, images["image"], images["label"], strict=True):
        path = mvtec / "bottle/ground_truth" / label / f"{Path(name).stem}_mask.png"
        size = Image.open(mvtec / "bottle" / name).size
        mask = np.asarray(Image.open(path)) > 127 if path.is_file() else np.zeros(size[::-1], bool)
        brought = cv2.resize(distances.reshape(GRID, GRID), size, interpolation=cv2.INTER_LINEAR)
        pixels.append(brought.ravel())
        truth.append(mask.ravel())
        hits += [mask.flat[np.argmax(brought)]] if label != "good" else []
    expected = roc_auc_score(np.concatenate(truth), np.concatenate(pixels))
    first = metrics[metrics["fold"] == 0]
    np.testing.assert_allclose(first["pixel_auroc"], expected, rtol=1e-4)
    np.testing.assert_allclose(first["pointing"], np.mean(hits), atol=1e-12)
    assert first["aupro"].between(0, 1).all()
    assert (first[PIXELS].nunique() == 1).all()  # the scores share the map


def test_all_epochs_of_a_folds_images_are_gathered(gaussad, mvtec, tmp_path):
    data = link(mvtec, tmp_path / "data", "bottle", every=16)
    extracted = gaussad("extract", "--data", data, *LITE0, "--levels", "3,4", "--grid", GRID, "--epochs", 2)
    assert extracted.code == 0, extracted.err
    folder = Path(extracted.out.strip()) / "bottle"
    (test,) = (path.parent for path in folder.parents[1].rglob("test/level_3.npy"))
    metrics, _ = evaluated(gaussad, "--epochs", 2)
    n = len(np.load(folder / "train/level_3.npy"))
    fitted, _ = next(KFold(5, shuffle=True, random_state=0).split(np.empty(n)))
    train = read_joined(folder / "train").reshape(n, 2, GRID**2, -1)[fitted].reshape(2 * len(fitted), GRID**2, -1)
    expected, _ = reference_maps(train, read_joined(test))
    rows = read_scores(Path("results"), "data", "bottle")
    fold = rows.loc[rows["score"] == "places", "fold_0"].astype(float)
    np.testing.assert_allclose(fold, expected.max(axis=1), rtol=2e-3)
    assert set(metrics["epochs"]) == {2}
    assert metrics.loc[metrics["fold"] == 0, "n_train"].iloc[0] == 2 * len(fitted)


# --- what is kept ---


def test_kept_maps_are_the_mean_over_folds_and_only_kept_if_asked_for(gaussad, bottle):
    evaluated(gaussad)
    assert not Path("results/data/maps").exists()
    evaluated(gaussad, "--maps", "--smooth", 1)
    (path,) = Path("results/data/maps").iterdir()
    assert path.name == f"bottle-efficientnet-lite0-{bottle.parent.name}-joint-3-4-npca-smooth=1-0.1.npz"
    with np.load(path, allow_pickle=False) as kept:
        maps, names = kept["maps"], kept["names"]
    scores = read_scores(Path("results"), "data", "bottle")
    assert list(names) == list(scores.loc[scores["score"] == "places", "image"].unique())
    assert (maps.dtype, maps.shape) == (np.float16, (len(names), GRID, GRID))
    smoothed = scores[(scores["score"] == "places") & (scores["mode"] == "npca smooth=1")]
    assert (maps.reshape(len(names), -1).max(axis=1) <= smoothed["distance"].astype(float) * 1.001).all()


def test_rows_replace_only_their_own_and_the_manifest_names_the_defaults(gaussad, bottle):
    evaluated(gaussad)
    first = Path("results/data/metrics.csv").read_bytes()
    evaluated(gaussad, "--jobs", 2)
    assert Path("results/data/metrics.csv").read_bytes() == first
    both, _ = evaluated(gaussad, "--target", "identity")
    assert len(both) == 2 * 5 * len(SCORES)
    (path,) = Path("results/data/manifests").iterdir()
    (record,) = json.loads(path.read_text())["categories"]["bottle"]
    assert record["settings"]["target"] == "image"
    assert {cell["levels"] for cell in record["cells"]} == {"joint:3-4"}


def test_several_settings_share_the_moments_of_a_fold(bottle, monkeypatch, tmp_path):
    gathered, gather = [], places.gather_places
    monkeypatch.setattr(places, "gather_places", lambda *each: gathered.append(1) or gather(*each))
    several = [Scoring("places"), Scoring("places-top"), Scoring("places", setting="all rho=0.3")]
    selection = Selection("efficientnet-lite0", Path("cache"), grid=None)
    report = places.evaluate_places(selection, several, tmp_path / "r")
    assert len(gathered) == 5
    assert len(report.metrics) == 2 * len(SCORES) * 5


def test_a_killed_evaluation_keeps_whole_categories_and_ends_with_the_same_bytes(
    gaussad, tiny, extract_once, processes
):
    extract_once(tiny, *LITE0, "--levels", "3", "--grid", 2)
    _, done = evaluated(gaussad, dataset="tiny")
    assert "No masks of knob, lid" in done.err
    whole = Path("results/tiny/metrics.csv").read_bytes()
    shutil.rmtree("results")
    child = processes.Process(target=_evaluate_and_stop_in_lid, args=(Path.cwd(),))
    child.start()
    while not Path("in-lid").exists():
        assert child.is_alive()
        time.sleep(0.01)
    child.kill()
    child.join()
    assert set(read_metrics(Path("results"), "tiny")["category"]) == {"knob"}
    evaluated(gaussad, dataset="tiny")
    assert Path("results/tiny/metrics.csv").read_bytes() == whole


def _evaluate_and_stop_in_lid(folder):
    os.chdir(folder)
    fit = places.fit_places

    def fit_or_wait(*each):
        if Path("results/tiny/metrics.csv").exists():
            Path("in-lid").touch()
            time.sleep(60)
        return fit(*each)

    places.fit_places = fit_or_wait
    selection = Selection("efficientnet-lite0", Path("cache"), grid=None)
    places.evaluate_places(selection, choose_scorings("places", Setting()), Path("results"))


# --- masks ---


def test_without_masks_pixel_columns_stay_empty_and_it_is_said_once(gaussad, tiny, extract_once):
    extract_once(tiny, *LITE0, "--levels", "3", "--grid", 2)
    metrics, done = evaluated(gaussad, dataset="tiny")
    assert metrics[PIXELS].isna().all(axis=None)
    assert metrics[["auroc", "ap", "f1", "fpr_95tpr"]].notna().all(axis=None)
    assert done.err.count("No masks of knob, lid: pixel AUROC, AUPRO and pointing stay empty.") == 1
    assert list(metrics.columns)[-len(ADDED) :] == ADDED
    table = gaussad("tables", "--table", "places")
    assert "No metrics of pixels, for lack of masks: knob, lid." in table.out
    assert "quoted" not in table.out  # another data set


def test_anomalous_images_without_a_mask_are_left_out_and_counted(gaussad, tiny, extract_once):
    write_masks(tiny)
    for name in ("000", "001"):
        (tiny / f"lid/ground_truth/scratch/{name}_mask.png").unlink()
    left = np.zeros((40, 40), np.uint8)
    left[:, :20] = 255
    Image.fromarray(left).save(tiny / "lid/ground_truth/scratch/002_mask.png")
    extract_once(tiny, *LITE0, "--levels", "3", "--grid", 2)
    metrics, done = evaluated(gaussad, dataset="tiny")
    assert "Left out of pixel metrics, anomalous images without a mask: 2 of lid." in done.err
    assert "No masks of knob:" in done.err
    of_lid = metrics[metrics["category"] == "lid"]
    assert of_lid[PIXELS].notna().all(axis=None)
    assert set(of_lid["pointing"]) <= {0.0, 1.0}  # of one image


# --- bad input ---


def test_places_need_an_extraction_with_a_grid(gaussad, tiny, extract_once):
    extract_once(tiny, *LITE0, "--levels", "3")
    assert_user_error(gaussad("evaluate", *PLACES), "no efficientnet-lite0 features of places", "extract --grid 28")


def test_of_several_grids_one_is_chosen(gaussad, tiny, extract_once):
    for grid in (2, 3):
        extract_once(tiny, *LITE0, "--categories", "lid", "--levels", "3", "--grid", grid)
    assert_user_error(gaussad("evaluate", *PLACES), "Choose with --grid 2 or 3")
    metrics, _ = evaluated(gaussad, "--grid", 3, dataset="tiny")
    assert len(metrics) == 5 * len(SCORES)
    assert_user_error(gaussad("evaluate", *PLACES, "--grid", 4), "features of places", "extract --grid 4")


def test_one_level_is_named_as_joint_too(gaussad, tiny, extract_once):
    extract_once(tiny, *LITE0, "--levels", "3,6", "--grid", 2)
    metrics, _ = evaluated(gaussad, "--levels", 6, dataset="tiny")
    assert set(metrics["level"]) == {"joint:6"}


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (("--score", "places", "--threshold", "all"), "--threshold goes with averaged features"),
        (("--score", "places", "--sweep"), "--sweep goes with averaged features"),
        (("--score", "l2", "--maps"), "--maps goes with --score places"),
        (("--score", "l2", "--grid", "2"), "--grid goes with --score places"),
        (("--rho", "0.3"), "--rho 0.3 goes with --score places or places-top or places-scaled, not with mahalanobis"),
    ],
)
def test_options_that_do_not_go_together_are_an_error(gaussad, options, fragment):
    assert_user_error(gaussad("evaluate", *LITE0, *options), fragment)


def test_covariances_that_are_singular_are_an_error_that_says_what_to_do(gaussad, tiny, extract_once):
    extract_once(tiny, *LITE0, "--levels", "3", "--grid", 7)
    assert_user_error(gaussad("evaluate", *PLACES, "--mode", "all", "--rho", 0), "singular", "greater --rho")


def test_a_damaged_category_does_not_keep_the_others_back(gaussad, tiny, extract_once):
    folder = extract_once(tiny, *LITE0, "--levels", "3", "--grid", 2)
    path = folder / "knob/train/level_3.npy"
    path.write_bytes(path.read_bytes()[:-3])
    done = gaussad("evaluate", *PLACES)
    assert_user_error(done, "level_3.npy was cut short")
    assert set(read_metrics(Path("results"), "tiny")["category"]) == {"lid"}


# --- tables, compare, run ---


def test_rows_of_places_stay_out_of_the_papers_tables(gaussad, tiny, extract_once):
    extract_once(tiny, *LITE0, "--levels", "3")
    assert gaussad("evaluate", *LITE0, "--score", "l2").code == 0
    before = gaussad("tables", "--table", 1).out
    extract_once(tiny, *LITE0, "--levels", "3", "--grid", 2)
    evaluated(gaussad, dataset="tiny")
    assert gaussad("tables", "--table", 1).out == before
    shutil.copytree("results", "other")
    done = gaussad("compare", "results", "other")
    assert (done.code, "The same" in done.out) == (0, True), done
    assert "places" in done.out


def test_run_evaluates_places_and_shows_their_table(gaussad, tiny):
    options = ("--data", tiny, *LITE0, "--levels", "3", "--grid", 2)
    done = gaussad("run", *options, "--score", "places")
    assert done.code == 0, done.err
    assert done.out.startswith("Places. One Gaussian per place")
    assert "No masks of knob, lid" in done.err
    assert pd.read_csv("results/tiny/tables/table_places.csv")["table"].eq("places").all()
    Path("p.yaml").write_text("table: places\nbackbone: efficientnet-lite0\nlevels: 3\ngrid: 2\nscore: places\n")
    assert gaussad("run", "--config", "p.yaml", "--data", tiny).out == done.out
    assert_user_error(gaussad("run", *options, "--score", "l2"), "'score: l2' works on averaged ones")
    assert_user_error(gaussad("run", *options, "--score", "place"), "unknown score 'place'", "Did you mean places?")
    assert_user_error(gaussad("run", "--data", tiny, *LITE0, "--score", "places"), "'grid: 28'")
    assert_user_error(gaussad("run", "--config", "p.yaml", "--data", tiny, "--score", "l2"), "--score does not go with")
