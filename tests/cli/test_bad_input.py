"""Each mistake: one line that says what, where and how to go on; exit 2; nothing lost."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gaussad_cli.evaluation.results import read_metrics
from gaussad_cli.extraction import store
from tests.conftest import ROOT, assert_user_error, write_image

LITE0 = ("--backbone", "efficientnet-lite0")


@pytest.fixture
def extract(gaussad, tiny):
    """Extract level 3 of `tiny`, quick and enough."""
    return lambda *options: gaussad("extract", "--data", tiny, *LITE0, "--levels", "3", *options)


@pytest.fixture
def extracted(extract_once, tiny):
    return extract_once(tiny, *LITE0, "--levels", "3")


def test_a_folder_that_is_not_there(gaussad):
    assert_user_error(gaussad("extract", "--data", "nowhere", *LITE0), "no such folder: nowhere", "--data")


def test_a_folder_without_categories(gaussad, tmp_path):
    (tmp_path / "empty/docs").mkdir(parents=True)
    assert_user_error(gaussad("extract", "--data", "empty", *LITE0), "no category in empty", "<category>/train/good")


def test_a_category_given_as_the_data_set(gaussad, tiny):
    assert_user_error(gaussad("extract", "--data", tiny / "knob", *LITE0), "is itself a category", "--categories knob")


@pytest.mark.parametrize("folder", ["train/good", "test"])
def test_a_category_without_a_needed_folder(extract, tiny, folder):
    shutil.rmtree(tiny / "lid" / folder)
    assert_user_error(extract(), "category 'lid'", f"no {folder} folder", "--categories")
    assert extract("--categories", "knob").code == 0


def test_a_category_without_a_test_image(extract, tiny):
    for image in (tiny / "lid/test").rglob("*.png"):
        image.unlink()
    assert_user_error(extract(), "category 'lid' has no test image")


def test_fewer_training_images_than_folds(extract, tiny):
    for number in (1, 2):
        (tiny / f"knob/train/good/00{number}.png").unlink()
    assert_user_error(extract(), "category 'knob' has 4 training images", "at least 5")


@pytest.mark.parametrize(("kept", "absent"), [("good", "no anomalous"), ("scratch", "no normal")])
def test_a_test_set_of_one_class_has_no_auroc_and_the_others_go_on(gaussad, extract, tiny, kept, absent):
    shutil.rmtree(tiny / "knob/test" / ({"good", "scratch"} - {kept}).pop())
    assert extract().code == 0
    result = gaussad("evaluate", *LITE0)
    assert_user_error(result, "AUROC is undefined for 'knob'", absent)
    auroc = read_metrics(Path("results"), None).groupby("category")["auroc"]
    assert auroc.count()["knob"] == 0
    assert auroc.count()["lid"] == 8 * 5
    assert Path("results/tiny/scores/knob.csv").exists()
    assert gaussad("tables").code == 0


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_bad_image_is_named_and_the_other_categories_are_done(gaussad, extract, tiny, content):
    image = tiny / "knob/train/good/003.png"
    image.write_bytes(image.read_bytes()[:200] if content is None else content)
    assert_user_error(extract(), "knob/train/good/003.png", "1 of 2 categories are done")
    assert "12 were already there" in extract("--categories", "lid").err
    write_image(image, 3)
    assert "12 images of 2 categories extracted" in extract().err


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--backbone", "eficientnet-b4"), ("unknown backbone", "Did you mean efficientnet-b4?")),
        ((*LITE0, "--levels", "7-12"), ("out of range", "levels are 1 to 9")),
        ((*LITE0, "--levels", "x"), ("such as 7 or 1-7",)),
        ((*LITE0, "--padding", "paper"), ("no padding 'paper'",)),
        ((*LITE0, "--device", "gpu"), ("unknown --device 'gpu'",)),
        ((*LITE0, "--categories", "lids"), ("no category 'lids'", "Did you mean lid?")),
        ((*LITE0, "--weights", "none.pth"), ("none.pth",)),
    ],
)
def test_options_that_cannot_be(gaussad, tiny, options, fragments):
    assert_user_error(gaussad("extract", "--data", tiny, *options), *fragments)
    assert not Path("cache").exists()


def test_run_goes_on_with_the_categories_whose_images_can_be_read(gaussad, tiny):
    (tiny / "knob/train/good/003.png").write_bytes(b"no image")
    done = gaussad("run", "--data", tiny, *LITE0, "--levels", "3")
    assert_user_error(done, "knob/train/good/003.png", "1 of 2 categories are done")
    assert "lid" in done.out


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--format", "pdf"), ("unknown format 'pdf'",)),
        (("--table", "9"), ("no table 9",)),
        (("--backbone", "resnet-19"), ("Did you mean resnet-18?",)),
        (("--backbone", "resnet-18", "--levels", "9"), ("out of range",)),
        (("--backbone", "resnet-18", "--weights", "x.pth"), ("--weights NAME=FILE",)),
        (("--dataset", "../evil"), ("cannot name a data set",)),
        (("--categories", " ,"), ("--categories is empty",)),
    ],
)
def test_run_finds_wrong_options_before_any_work(gaussad, tiny, options, fragments):
    assert_user_error(gaussad("run", "--data", tiny, *LITE0, *options), *fragments)
    assert not Path("cache").exists()


def test_weights_of_another_family_are_named(gaussad, tiny):
    from gaussad_cli.backbones.registry import find_backbone
    from gaussad_cli.backbones.weights import find_checkpoint

    lite = find_checkpoint(find_backbone("efficientnet-lite0"), None).path
    result = gaussad("extract", "--data", tiny, "--backbone", "resnet-18", "--weights", lite)
    assert_user_error(result, "holds no tensor of resnet-18", "another backbone")


def test_a_link_to_nowhere_is_named(extract, tiny):
    (tiny / "lid/train/good/link.png").symlink_to("nowhere.png")
    assert_user_error(extract(), "lid/train/good/link.png", "is a broken link")


def test_a_damaged_category_does_not_keep_the_others_from_evaluation(gaussad, extracted):
    (extracted / "knob/train/manifest.json").write_text("{")
    assert_user_error(gaussad("evaluate", *LITE0), "knob/train/manifest.json", "Run 'gaussad extract' again")
    assert set(read_metrics(Path("results"), None)["category"]) == {"lid"}


def test_results_cut_short_are_named_and_left_alone(gaussad, extracted):
    gaussad("evaluate", *LITE0)
    path = Path("results/tiny/metrics.csv")
    path.write_bytes(path.read_bytes()[:-20])
    cut = path.read_bytes()
    assert_user_error(gaussad("tables"), "metrics.csv was cut short")
    assert_user_error(gaussad("evaluate", *LITE0), "metrics.csv was cut short", "Move it away")
    assert path.read_bytes() == cut


def test_spectra_that_are_incomplete_are_fitted_again(gaussad, extracted):
    gaussad("evaluate", *LITE0)
    before = Path("results/tiny/metrics.csv").read_bytes()
    spectra = extracted / "knob/spectra/level_3.npz"
    with np.load(spectra, allow_pickle=False) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "3_mean"}
    np.savez(spectra, **kept)
    assert gaussad("evaluate", *LITE0).code == 0
    assert Path("results/tiny/metrics.csv").read_bytes() == before


def test_training_images_that_are_all_alike_have_no_auroc_and_the_table_says_so(gaussad, extract, tiny):
    for number in range(1, 6):
        shutil.copyfile(tiny / "knob/train/good/000.png", tiny / f"knob/train/good/00{number}.png")
    extract()
    assert_user_error(gaussad("evaluate", *LITE0), "undefined for 'knob' (level 3)", "are all alike")
    assert "undefined in some cells for knob" in gaussad("tables", "--table", "3").out


def test_evaluate_before_extract_says_what_to_run(gaussad):
    for command in ("evaluate", "fit"):
        result = gaussad(command, "--backbone", "efficientnet-b4")
        assert_user_error(result, "Run first: gaussad extract --data DIR --backbone efficientnet-b4")
    assert_user_error(gaussad("evaluate", "--backbone", "efficientnt-b4"), "Did you mean efficientnet-b4?")


def test_tables_before_evaluate_says_what_to_run(gaussad):
    assert_user_error(gaussad("tables"), "Run first: gaussad evaluate")


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--score", "l1"), ("unknown --score 'l1'",)),
        (("--mode", "ica"), ("unknown mode 'ica'",)),
        (("--mode", "pca", "--var", "1.5"), ("--var 1.5",)),
        (("--var", "0.01"), ("--mode pca or --mode npca",)),
        (("--score", "l2", "--mode", "pca"), ("goes with --score mahalanobis",)),
        (("--levels", "7"), ("levels 3", "extract with --levels 7")),
        (("--categories", "knop",), ("Did you mean knob?",)),
        (("--dataset", "other"), ("no features by efficientnet-lite0 of dataset 'other'",)),
        (("--padding", "paper"), ("with these options", "padding tf")),
    ],
)  # fmt: skip
def test_evaluate_options_that_cannot_be(gaussad, extracted, options, fragments):
    assert_user_error(gaussad("evaluate", *LITE0, *options), *fragments)
    assert not Path("results").exists()


def test_a_table_or_format_that_is_not_there(gaussad, extracted):
    gaussad("evaluate", *LITE0)
    assert_user_error(gaussad("tables", "--table", "6"), "no table 6", "1, 2, 3, 4, 5, 7, 8")
    assert_user_error(gaussad("tables", "--format", "pdf"), "unknown format 'pdf'", "markdown")
    assert_user_error(gaussad("tables", "--table", "7"), "nothing of table 7", "efficientnet-lite0")


@pytest.mark.parametrize("damage", ["cut", "edited", "gone", "manifest"])
def test_a_damaged_cache_file_is_named_and_extract_rebuilds_it(gaussad, extract, extracted, damage):
    gaussad("evaluate", *LITE0)
    before = Path("results/tiny/metrics.csv").read_bytes()
    path = extracted / "knob/test" / ("manifest.json" if damage == "manifest" else "level_3.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "edited" else content[:-9])
    assert_user_error(gaussad("evaluate", *LITE0), str(path), "Run 'gaussad extract' again")
    assert "6 images of 2 categories extracted" in extract().err
    assert gaussad("evaluate", *LITE0).code == 0
    assert Path("results/tiny/metrics.csv").read_bytes() == before


def test_two_extractions_must_be_told_apart(gaussad, tiny, extract, extracted):
    shutil.copytree(tiny, tiny.parent / "second")
    gaussad("extract", "--data", tiny.parent / "second", *LITE0, "--levels", "3")
    assert_user_error(gaussad("evaluate", *LITE0), "several extractions fit", "--dataset second or tiny")
    assert gaussad("evaluate", *LITE0, "--dataset", "second").code == 0


def test_two_weights_are_told_apart_by_key(gaussad, extracted):
    for path in sorted(extracted.rglob("manifest.json")):
        manifest = store.read_manifest(path.parent)
        recipe = replace(manifest.recipe, weights="mine@01234567", weights_sha256="01234567")
        features = {3: store.read_features(path.parent, manifest, 3)}
        other = store.split_folder(Path("cache"), "tiny", recipe, manifest.category, manifest.split)
        store.write_features(other, replace(manifest, recipe=recipe), features)
    assert_user_error(gaussad("evaluate", *LITE0), "mine@01234567", "Choose with --key")
    assert gaussad("evaluate", *LITE0, "--key", recipe.key[:6]).code == 0
    assert set(read_metrics(Path("results"), None)["weights"]) == {"mine@01234567"}


@pytest.mark.skipif(os.name == "nt", reason="needs a file system that can be full: /dev/full is Linux's")
def test_a_target_that_cannot_be_written_is_named(gaussad, extract, extracted):
    Path("taken").write_text("a file, no folder")
    assert_user_error(extract("--cache", "taken"), "cannot write taken/")
    assert_user_error(gaussad("evaluate", *LITE0, "--out", "taken"), "cannot write taken/")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(gaussad, extracted):
    Path("locked").mkdir(mode=0o500)
    assert_user_error(gaussad("evaluate", *LITE0, "--out", "locked"), "cannot write locked/", "Permission denied")


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(gaussad, extract, extracted, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gaussad_cli.files.os.fsync", full)
        assert_user_error(gaussad("evaluate", *LITE0), "No space left on device", "results/tiny/scores/knob.csv")
    assert [path for path in Path("results").rglob("*") if path.is_file()] == []
    assert gaussad("evaluate", *LITE0).code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
def test_results_that_cannot_be_printed_are_one_line_of_error():
    command = [sys.executable, "-m", "gaussad_cli", "--version"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "gaussad: error: the results cannot be printed: No space left on device.\n",
    )


@pytest.mark.parametrize("error", [MemoryError("1 GiB"), RuntimeError("CUDA out of memory. Tried")])
def test_where_memory_ends_that_is_said_in_one_line(gaussad, extracted, monkeypatch, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("gaussad_cli.evaluation.fitting.fit_spectrum", fail)
        assert_user_error(gaussad("evaluate", *LITE0), "out of memory", "--jobs")
    assert gaussad("evaluate", *LITE0).code == 0


def test_usage_errors_exit_with_2(gaussad):
    assert gaussad("extract", "--nonsense").code == 2
    assert gaussad("evaluate").code == 2
    assert gaussad("--help").code == 0
