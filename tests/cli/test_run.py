"""`gaussad run` with experiment files."""

from pathlib import Path

from tests.conftest import assert_user_error, write_image

CONFIG = """
table: [1, 3]
steps:
  - backbone: efficientnet-b0
    epochs: 0
    levels: 3
  - backbone: wide-resnet50-2
    levels: 5
    score: knn
"""


def test_a_dry_run_shows_the_stages_and_does_nothing(gaussad, tiny):
    Path("c.yaml").write_text(CONFIG)
    done = gaussad("run", "--config", "c.yaml", "--data", tiny, "--dry-run")
    assert done.code == 0, done.err
    assert "extract efficientnet-b0" in done.out
    assert "evaluate wide-resnet50-2, levels 5: knn" in done.out
    assert "24 images" in done.out
    assert not Path("cache").exists()
    assert not Path("results").exists()


def test_an_experiment_that_comes_with_gaussad_is_named(gaussad, tiny):
    done = gaussad("run", "--config", "table3", "--data", tiny, "--dry-run")
    assert done.code == 0, done.err
    assert "extract efficientnet-b4" in done.out
    unknown = gaussad("run", "--config", "tabel3", "--data", tiny, "--dry-run")
    assert_user_error(unknown, "no experiment 'tabel3'", "Did you mean table3?", "table1, table2")


def test_named_backbones_stand_in_and_the_plan_and_the_times_go_to_stderr(gaussad, tiny):
    Path("c.yaml").write_text(CONFIG)
    run = ("run", "--config", "c.yaml", "--data", tiny, "--backbone", "efficientnet-lite0", "--categories", "lid")
    done = gaussad(*run)
    assert done.code == 0, done.err
    images, plan = done.err.splitlines()[:2]
    assert images == f"{tiny}: 1 category, 6 training and 6 test images."
    assert plan.startswith("Plan for tiny: 1 categories, 12 images")
    assert "[2/2] evaluate efficientnet-lite0, levels 3: paper" in done.err
    assert "took" in done.err
    assert done.out.startswith("Table I.")
    assert "Table III." in done.out
    assert "wide-resnet" not in done.err
    assert Path("results/tiny/sweeps.csv").is_file()
    again = gaussad(*run)
    assert "12 were already there" in again.err
    assert again.out == done.out


def test_wrong_names_in_a_file_are_found_before_any_work(gaussad, tiny):
    Path("c.yaml").write_text("steps:\n- backbone: efficientnet-lite0\n- backbone: efficientnet-b9\n")
    assert_user_error(gaussad("run", "--config", "c.yaml", "--data", tiny), "efficientnet-b9", "Did you mean")
    Path("c.yaml").write_text("backbone: efficientnet-lite0\nthreshold: chi3\n")
    assert_user_error(gaussad("run", "--config", "c.yaml", "--data", tiny), "chi3", "Did you mean chi2")
    assert not Path("cache").exists()


def test_a_run_needs_a_backbone_or_a_file(gaussad, tiny):
    assert_user_error(gaussad("run", "--data", tiny), "--backbone", "--config")
    assert_user_error(gaussad("run", "--data", tiny, "--config", "nowhere.yaml"), "cannot read nowhere.yaml")


def test_weights_of_one_of_several_backbones(gaussad, tiny):
    run = ("run", "--data", tiny, "--backbone", "efficientnet-lite0,efficientnet-lite1")
    assert_user_error(gaussad(*run, "--weights", "lite0=x.pth"), "no step has this backbone", "efficientnet-lite0")
    assert_user_error(gaussad(*run, "--weights", "efficientnet-lite1=x.pth"), "x.pth")


def test_two_folders_of_one_name_are_two_data_sets_and_a_moved_one_is_the_same(gaussad, tiny, tmp_path):
    for site, category in (("a", "knob"), ("b", "lid")):
        (tmp_path / site / "data").mkdir(parents=True)
        (tiny / category).rename(tmp_path / site / "data" / category)
    run = ("run", "--backbone", "efficientnet-lite0", "--levels", "1", "--table", "1", "--data")
    assert gaussad(*run, "a/data").code == 0
    before = Path("results/data/metrics.csv").read_bytes()
    assert_user_error(gaussad(*run, "b/data"), "results/data holds knob, which b/data does not", "--dataset NAME")
    assert_user_error(gaussad(*run, "b/data", "--out", "other"), "cache/data holds knob", "--dataset NAME")
    assert Path("results/data/metrics.csv").read_bytes() == before
    other = gaussad(*run, "b/data", "--dataset", "b")
    assert other.code == 0
    assert "over 1 category: lid." in other.out
    Path("a").rename("c")
    moved = gaussad(*run, "c/data")
    assert moved.code == 0
    assert "over 1 category: knob." in moved.out
    Path("c/data/knob").rename("c/data/button")
    assert_user_error(gaussad(*run, "c/data"), "results/data holds knob", "renamed")


def test_a_cache_is_told_from_other_images_under_the_same_names(gaussad, tiny):
    extract = ("extract", "--backbone", "efficientnet-lite0", "--levels", "1", "--data")
    assert gaussad(*extract, tiny).code == 0
    write_image(tiny / "knob/train/good/000.png", seed=99)
    other = gaussad(*extract, tiny, "--categories", "lid")
    assert_user_error(other, "cache/tiny holds category 'knob' of other images", "--dataset NAME")
    assert gaussad(*extract, tiny, "--categories", "knob").code == 0
    assert gaussad(*extract, tiny, "--categories", "lid").code == 0
