import numpy as np
import pytest

from gaussad_cli.datasets.index import Category, ImageFile
from gaussad_cli.errors import UserError
from gaussad_cli.experiments.config import Overrides, Step, override, read_experiments
from gaussad_cli.experiments.estimate import estimate
from gaussad_cli.experiments.plan import EvaluationStage, ExtractionStage, TrainingStage, plan_stages
from gaussad_cli.extraction import store
from tests.conftest import ROOT


def plan(steps, **overrides):
    by = Overrides(**overrides)
    return plan_stages(override(steps, by), by)


def names(extraction):
    return " ".join(network.backbone for network in extraction.networks)


def test_what_two_tables_need_is_done_once():
    stages = plan([Step(("a",), (0,)), Step(("a",), (0, 9), threshold=("all",)), Step(("a",), (9,), score=("ocsvm",))])
    extraction, plain, augmented = stages
    assert (names(extraction), extraction.epochs) == ("a", (0, 9))
    assert (plain.epochs, plain.scores, plain.thresholds) == (0, ("paper",), ("all",))
    assert (augmented.epochs, augmented.scores, augmented.thresholds) == (9, ("paper", "ocsvm"), ("all",))


def test_backbones_that_differ_in_nothing_else_share_one_reading():
    stages = plan([Step(("a", "b"), (0,)), Step(("c",), (0,), levels="3")])
    extractions = [stage for stage in stages if isinstance(stage, ExtractionStage)]
    assert [names(stage) for stage in extractions] == ["a b", "c"]


def test_levels_that_one_step_leaves_open_are_extracted_whole_and_evaluated_as_asked():
    stages = plan([Step(("a",), (0,)), Step(("a",), (0,), levels="5", score=("knn",))])
    extraction, *evaluations = stages
    assert [network.levels for network in extraction.networks] == [None]
    assert [(one.levels, one.scores) for one in evaluations] == [(None, ("paper",)), ("5", ("knn",))]


def test_weights_are_of_their_backbone_only(tmp_path):
    stages = plan([Step(("a", "b"), (0,))], weights={"a": tmp_path})
    networks = [network for stage in stages if isinstance(stage, ExtractionStage) for network in stage.networks]
    assert {network.backbone: network.weights for network in networks} == {"a": tmp_path, "b": None}


def test_all_tables_together_train_every_comparator_once():
    paths = [ROOT / "configs" / f"table{number}.yaml" for number in (1, 2, 3, 4, 5, 7, 8)]
    stages = plan(read_experiments(paths, ()).steps)
    trained = [(stage.kind, stage.network.backbone) for stage in stages if isinstance(stage, TrainingStage)]
    assert sorted(trained) == [
        ("autoencoder", "resnet-18"),
        *(("classifier", name) for name in ("efficientnet-b0", "efficientnet-b4", "resnet-18", "resnet-34")),
    ]
    extracted = [one.backbone for stage in stages if isinstance(stage, ExtractionStage) for one in stage.networks]
    assert len(extracted) == len(set(extracted)) == 12
    b4 = [
        stage for stage in stages if isinstance(stage, EvaluationStage) and stage.network.backbone == "efficientnet-b4"
    ]
    assert [(stage.epochs, stage.scores) for stage in b4] == [(0, ("paper",)), (100, ("paper", "ocsvm"))]


def test_places_are_extracted_apart_from_averaged_features_of_the_same_network():
    stages = plan([Step(("a", "b"), (0,)), Step(("a", "b"), (0,), grid=28, score=())])
    extractions = [stage for stage in stages if isinstance(stage, ExtractionStage)]
    assert [(names(stage), stage.networks[0].grid) for stage in extractions] == [("a b", 0), ("a b", 28)]
    assert str(extractions[1]) == "extract a, b, 28 x 28 places"
    assert all(stage.network.grid == 0 for stage in stages if isinstance(stage, EvaluationStage))


def test_an_estimate_counts_the_bytes_of_every_place_and_what_is_done(tmp_path):
    (stage,) = plan([Step(("efficientnet-lite0",), (0,), grid=28, score=())])
    pooled, *_ = plan([Step(("efficientnet-lite0",), (0,), levels="3-6")])
    found = estimate(stage, [category(10, 5)], tmp_path, "d")
    assert found.bytes == 15 * 28 * 28 * (24 + 40 + 80 + 112) * 4
    assert found.seconds > estimate(pooled, [category(10, 5)], tmp_path, "d").seconds
    write_places(tmp_path, grid=14)
    assert estimate(stage, [category(10, 5)], tmp_path, "d") == found
    write_places(tmp_path, grid=28)
    assert estimate(stage, [category(10, 5)], tmp_path, "d").work == "nothing left"
    assert estimate(pooled, [category(10, 5)], tmp_path, "d").work == "15 images and views"


def write_places(cache, grid):
    recipe = store.Recipe("efficientnet-lite0", 9, "w", "", "tf", 224, grid=grid)
    for split in ("train", "test"):
        images = (store.ImageEntry(f"{split}/good/0.png", "good", ""),)
        manifest = store.Manifest("d", "knob", split, recipe, images, {})
        features = {level: np.zeros((1, grid**2), np.float32) for level in (3, 4, 5, 6)}
        store.write_features(store.split_folder(cache, "d", recipe, "knob", split), manifest, features)


def category(n_train, n_test):
    images = [ImageFile(f"{i}.png", "good", ROOT) for i in range(n_train + n_test)]
    return Category("knob", tuple(images[:n_train]), tuple(images[n_train:]))


def test_an_estimate_grows_with_views(tmp_path):
    few, many = (
        estimate(plan([Step(("efficientnet-lite0",), (0, n))])[0], [category(10, 5)], tmp_path, "d") for n in (1, 11)
    )
    assert few.work == "25 images and views"
    assert many.work == "125 images and views"
    assert 4 < many.seconds / few.seconds < 6
    assert many.bytes > few.bytes > 0


@pytest.mark.parametrize("step", [Step(("a",), (0,)), Step(("a",), (0,), score=(), threshold=("all",))])
def test_scores_of_averaged_features_are_refused_with_a_grid(step):
    with pytest.raises(UserError, match=r"a grid of 28 keeps the features of places, .*or write 'score: \[\]'"):
        plan([step], grid=28)
