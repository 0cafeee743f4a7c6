import json

from gaussad_cli.datasets.index import Category, ImageFile
from gaussad_cli.experiments.config import Overrides, Step, override, read_experiments
from gaussad_cli.experiments.estimate import Estimate, estimate, mended, read_speeds, remember_speed
from gaussad_cli.experiments.plan import Evaluation, Extraction, Training, plan_stages
from tests.conftest import ROOT


def plan(steps, **overrides):
    by = Overrides(**overrides)
    return plan_stages(override(steps, by), by)


def test_what_two_tables_need_is_done_once():
    stages = plan([Step(("a",), (0,)), Step(("a",), (0, 9), threshold=("all",)), Step(("a",), (9,), score=("ocsvm",))])
    extraction, plain, augmented = stages
    assert (extraction.backbones, extraction.source.epochs) == (("a",), (0, 9))
    assert (plain.epochs, plain.scores, plain.thresholds) == (0, ("paper",), ("all",))
    assert (augmented.epochs, augmented.scores, augmented.thresholds) == (9, ("paper", "ocsvm"), ("all",))


def test_backbones_that_differ_in_nothing_else_share_one_reading():
    stages = plan([Step(("a", "b"), (0,)), Step(("c",), (0,), levels="3")])
    extractions = [stage for stage in stages if isinstance(stage, Extraction)]
    assert [stage.backbones for stage in extractions] == [("a", "b"), ("c",)]


def test_levels_that_one_step_leaves_open_are_extracted_whole_and_evaluated_as_asked():
    stages = plan([Step(("a",), (0,)), Step(("a",), (0,), levels="5", score=("knn",))])
    extraction, *evaluations = stages
    assert extraction.source.levels is None
    assert [(one.levels, one.scores) for one in evaluations] == [(None, ("paper",)), ("5", ("knn",))]


def test_weights_are_of_their_backbone_only(tmp_path):
    stages = plan([Step(("a", "b"), (0,))], weights={"a": tmp_path})
    assert {stage.backbones: stage.source.weights for stage in stages if isinstance(stage, Extraction)} == {
        ("a",): tmp_path,
        ("b",): None,
    }


def test_all_tables_together_train_every_comparator_once():
    paths = [ROOT / "configs" / f"table{number}.yaml" for number in (1, 2, 3, 4, 5, 7, 8)]
    stages = plan(read_experiments(paths, ()).steps)
    trained = [(stage.kind, stage.backbone) for stage in stages if isinstance(stage, Training)]
    assert sorted(trained) == [
        ("autoencoder", "resnet-18"),
        *(("classifier", name) for name in ("efficientnet-b0", "efficientnet-b4", "resnet-18", "resnet-34")),
    ]
    extracted = [name for stage in stages if isinstance(stage, Extraction) for name in stage.backbones]
    assert len(extracted) == len(set(extracted)) == 12
    b4 = [stage for stage in stages if isinstance(stage, Evaluation) and stage.backbone == "efficientnet-b4"]
    assert [(stage.epochs, stage.scores) for stage in b4] == [(0, ("paper",)), (100, ("paper", "ocsvm"))]


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


def test_measured_speeds_mend_estimates(tmp_path):
    one = Estimate("extract a", "", 10.0, 0, "extract a")
    assert mended(one, read_speeds(tmp_path)) == 10.0
    remember_speed(tmp_path, one, 30.0)
    assert mended(one, read_speeds(tmp_path)) == 30.0
    assert mended(Estimate("", "", 2.0, 0, "extract b"), read_speeds(tmp_path)) == 6.0
    assert mended(Estimate("", "", 2.0, 0, "train-autoencoder"), read_speeds(tmp_path)) == 2.0


def test_damaged_speeds_mend_nothing(tmp_path):
    for content in ("[", "[]", json.dumps({"extract": "x"}), json.dumps({"extract": -1})):
        (tmp_path / ".speeds.json").write_text(content)
        assert read_speeds(tmp_path) == {}
