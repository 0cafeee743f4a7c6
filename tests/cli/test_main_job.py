"""The main job through the command line, on real images with real weights."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from gaussad_cli.datasets import demo
from gaussad_cli.evaluation.results import read_metrics
from gaussad_cli.extraction import store
from tests import reference
from tests.conftest import assert_user_error

LITE0 = ("--backbone", "efficientnet-lite0")


def link(data: Path, target: Path, category: str, every: int = 1) -> Path:
    """A data set of one of the shared categories, or of every so many of its images."""
    for folder in sorted(path for path in (data / category).glob("t*/*") if path.is_dir()):
        (target / category / folder.parent.name / folder.name).mkdir(parents=True)
        for image in sorted(folder.iterdir())[::every]:
            (target / category / folder.parent.name / folder.name / image.name).symlink_to(image)
    return target


def mean_auroc(results: Path, **wanted) -> float:
    metrics = read_metrics(results, None)
    for column, value in wanted.items():
        metrics = metrics[metrics[column].isna() if value is None else metrics[column] == value]
    assert len(metrics) == 5
    return 100 * float(metrics["auroc"].mean())


def test_extract_fit_evaluate_tables(gaussad, tiny):
    extracted = gaussad("extract", "--data", tiny, *LITE0)
    assert extracted.code == 0, extracted.err
    folder = Path(extracted.out.strip())
    assert sorted(path.name for path in (folder / "knob/train").iterdir()) == [
        *(f"level_{level}.npy" for level in range(1, 10)),
        "manifest.json",
    ]
    fitted = gaussad("fit", *LITE0)
    assert (fitted.code, fitted.err) == (0, "18 levels fitted, 0 were already there.\n")
    assert "0 levels fitted, 18 were" in gaussad("fit", *LITE0).err

    evaluated = gaussad("evaluate", *LITE0, "--mode", "npca", "--var", "0.01")
    assert evaluated.code == 0, evaluated.err
    assert [line.split()[0] for line in evaluated.out.splitlines()[2:]] == [*map(str, range(1, 10)), "sum"]
    assert len(read_metrics(Path("results"), "tiny")) == 2 * 10 * 5

    table = gaussad("tables", "--table", "3")
    assert table.code == 0, table.err
    assert "NPCA 1%" in table.out
    assert "Not evaluated: No compression, PCA 99%" in table.out
    assert sorted(path.name for path in Path("results/tiny/tables").iterdir()) == [
        "table_3.csv",
        "table_3.html",
        "table_3.md",
        "table_3.tex",
        "table_3.txt",
    ]


def test_run_equals_the_four_commands(gaussad, tiny):
    some = (*LITE0, "--levels", "2-3")
    assert gaussad("run", "--data", tiny, *some, "--cache", "a", "--out", "ra", "--table", "1").code == 0
    for command in (("extract", "--data", tiny), ("fit",), ("evaluate", "--out", "rb")):
        assert gaussad(*command, *some, "--cache", "b").code == 0
    assert gaussad("tables", "--table", "1", "--results", "rb").code == 0
    for name in ("metrics.csv", "scores/knob.csv", "scores/lid.csv", "tables/table_1.csv"):
        assert (Path("ra/tiny") / name).read_bytes() == (Path("rb/tiny") / name).read_bytes()


def test_the_scores_file_holds_the_distances_behind_every_auroc(gaussad, tiny):
    gaussad("run", "--data", tiny, *LITE0, "--levels", "2-3", "--categories", "knob")
    scores = pd.read_csv("results/tiny/scores/knob.csv")
    metrics = read_metrics(Path("results"), None)
    keys = ["level", "score", "mode", "var"]
    by_key = dict(list(scores.groupby(keys, dropna=False)))
    assert len(by_key) == 8 * 3
    for row in metrics.itertuples():
        rows = next(rows for key, rows in by_key.items() if list(map(str, key)) == [str(getattr(row, k)) for k in keys])
        distance = rows[f"fold_{row.fold}"]
        if distance.isna().any():
            assert np.isnan(row.auroc)
        else:
            assert row.auroc == pytest.approx(roc_auc_score(rows["anomalous"], distance), abs=1e-12)


def test_options_reach_the_numbers(gaussad, tiny):
    gaussad("extract", "--data", tiny, *LITE0, "--categories", "lid", "--levels", "5,7", "--dataset", "other")
    assert gaussad("evaluate", *LITE0, "--score", "l2", "--levels", "7").code == 0
    metrics = read_metrics(Path("results"), None)
    assert set(metrics["dataset"]) == {"other"}
    assert set(metrics["category"]) == {"lid"}
    assert set(metrics["level"]) == {"7"}
    assert set(metrics["score"]) == {"l2"}
    assert gaussad("evaluate", *LITE0).code == 0
    assert set(read_metrics(Path("results"), None)["level"]) == {"5", "7", "sum:5,7"}


def test_batch_size_and_workers_change_features_only_by_rounding(gaussad, tiny):
    some = (*LITE0, "--levels", "7", "--categories", "knob")
    folders = [
        Path(gaussad("extract", "--data", tiny, *some, "--cache", cache, *options).out.strip())
        for cache, options in (("a", ()), ("b", ("--batch-size", "1", "--workers", "0", "--device", "cpu")))
    ]
    one, other = (np.load(folder / "knob/train/level_7.npy") for folder in folders)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_config_file_gives_options_and_the_command_line_wins(gaussad, tiny):
    Path("c.yaml").write_text("backbone: [efficientnet-lite0]\nlevels: '5'\ncategories: knob\ntable: [1]\n")
    assert gaussad("run", "--config", "c.yaml", "--data", tiny, "--categories", "lid").code == 0
    metrics = read_metrics(Path("results"), None)
    assert set(metrics["category"]) == {"lid"}
    assert set(metrics["level"]) == {"5"}
    Path("c.yaml").write_text("backbones: [resnet-18]\n")
    assert_user_error(
        gaussad("run", "--config", "c.yaml", "--data", tiny), "unknown key 'backbones'. Did you mean backbone?"
    )


def test_a_config_file_takes_lists_scalars_and_option_names(gaussad, tiny):
    Path("c.yaml").write_text(
        "backbone: efficientnet-lite0\nlevels: [3, 5]\ncategories: [lid]\nbatch-size: 3\nformat: csv\n"
    )
    done = gaussad("run", "--config", "c.yaml", "--data", tiny)
    assert done.code == 0, done.err
    assert done.out.startswith("table,backbone,")
    assert set(read_metrics(Path("results"), None)["level"]) == {"3", "5", "sum:3,5"}


def test_backbone_names_may_be_in_either_case(gaussad, tiny):
    some = ("--levels", "3", "--categories", "lid")
    assert gaussad("run", "--data", tiny, "--backbone", "EfficientNet-Lite0", *some).code == 0
    assert gaussad("evaluate", "--backbone", "EFFICIENTNET-LITE0").code == 0
    assert gaussad("tables", "--backbone", "EfficientNet-lite0").code == 0


def test_run_reports_the_categories_of_its_data_and_no_others(gaussad, tiny):
    gaussad("run", "--data", tiny, *LITE0, "--levels", "3")
    assert "1 category: lid" in gaussad("run", "--data", tiny, *LITE0, "--levels", "3", "--categories", "lid").out


@pytest.mark.slow  # `make smoke` runs it too
def test_demo_ends_with_tables_where_files_went_and_what_is_next(gaussad, monkeypatch):
    """On 300 of its 700 images; `make smoke` does it with all."""
    fewer = {"train/good": (1, 150), "test/good": (801, 850), "test/local": (1, 50), "test/global": (1, 50)}
    monkeypatch.setattr(demo, "CLASSES", {name: (demo.CLASSES[name][0], *some) for name, some in fewer.items()})
    done = gaussad("demo")
    assert done.code == 0, done.err
    for part in (
        "Table I.",
        "Table III.",
        "textile",
        "gaussad-demo/results/demo/metrics.csv",
        "Next, on your own images",
    ):
        assert part in done.out
    # Far from chance, as it has been every time.
    assert mean_auroc(Path("gaussad-demo/results"), level="7", score="mahalanobis", mode="all") > 70
    assert len(read_metrics(Path("gaussad-demo/results"), None)) == 400


def test_the_whole_protocol_rebuilt_with_scikit_learn_gives_the_same_rows(gaussad, mvtec, weights, tmp_path):
    """ResNet-18 on every fourth bottle: every AUROC of every score, mode, level and fold (tests/reference.py)."""
    data = link(mvtec, tmp_path / "bottles", "bottle", every=4)
    options = ("--backbone", "resnet-18", "--weights", weights / "resnet18-levels1-4.pth", "--levels", "1-3")
    folder = Path(gaussad("extract", "--data", data, *options).out.strip()) / "bottle"
    assert gaussad("evaluate", "--backbone", "resnet-18").code == 0
    anomalous = np.array([image.label != "good" for image in store.read_manifest(folder / "test").images])
    train, test = (
        {level: np.load(folder / split / f"level_{level}.npy") for level in range(1, 4)} for split in ("train", "test")
    )
    expected = reference.protocol(train, test, anomalous)
    metrics = read_metrics(Path("results"), None)
    assert len(metrics) == len(expected) == 8 * 4 * 5
    undefined = 0
    for row in metrics.itertuples():
        level = "sum" if row.level == "sum:1-3" else int(row.level)
        auroc = expected[level, row.score, row.mode, None if np.isnan(row.var) else row.var, row.fold]
        assert row.auroc == pytest.approx(auroc, abs=1e-6, nan_ok=True), row
        undefined += np.isnan(auroc)
        if row.score == "mahalanobis" and level != "sum":
            fitted = list(KFold(5, shuffle=True, random_state=0).split(train[level]))[row.fold][0]
            features = train[level][fitted].astype(float)
            var = None if np.isnan(row.var) else row.var
            _, shrinkage, dim = reference.mahalanobis(features, test[level].astype(float), row.mode, var)
            assert row.dim == dim
            assert row.shrinkage == pytest.approx(shrinkage, rel=1e-8)
    assert undefined <= 2 * 5  # SED of the level that has a dead feature, and of the sum


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_b4_on_bottle_reaches_the_independently_measured_auroc(gaussad, mvtec, weights, tmp_path, every):
    """shared/weights/README.md: 99.8 at level 7 with scikit-learn on the full-size images; ours are reduced ones."""
    data = link(mvtec, tmp_path / "bottles", "bottle", every)
    options = ("--weights", weights / "efficientnet-b4-levels1-7.pth", "--levels", "7")
    assert gaussad("extract", "--data", data, "--backbone", "efficientnet-b4", *options).code == 0
    assert gaussad("evaluate", "--backbone", "efficientnet-b4", "--score", "mahalanobis").code == 0
    assert mean_auroc(Path("results"), level="7", mode="all") == pytest.approx(99.8, abs=1.0)
