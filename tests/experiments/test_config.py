from pathlib import Path

import pytest

from gaussad_cli.errors import UserError
from gaussad_cli.experiments.config import Overrides, Step, override, read_experiments
from tests.conftest import ROOT

OPTIONS = {"categories", "engine", "cache"}


def read(tmp_path, *texts):
    paths = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        paths.append(path)
    return read_experiments(paths, OPTIONS)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 8])
def test_every_table_of_the_paper_has_a_file_that_names_it(number):
    experiment = read_experiments([ROOT / "configs" / f"table{number}.yaml"], OPTIONS)
    assert experiment.tables == (number,)
    assert experiment.steps


def test_keys_at_the_top_are_what_the_steps_have_in_common(tmp_path):
    experiment = read(tmp_path, "epochs: 3\nsteps:\n- backbone: a\n- backbone: [b, c]\n  epochs: 0\n  levels: [1, 2]\n")
    assert experiment.steps == (Step(("a",), (3,)), Step(("b", "c"), (0,), "1,2"))


def test_several_files_are_one_experiment(tmp_path):
    experiment = read(
        tmp_path, "table: 3\nbackbone: a\nengine: torch", "table: [1, 3]\nbackbone: b\ncategories: [x, y]"
    )
    assert experiment.tables == (1, 3)
    assert [step.backbone for step in experiment.steps] == [("a",), ("b",)]
    assert experiment.options == {"engine": "torch", "categories": "x,y"}


def test_weights_are_found_from_the_file_that_names_them(tmp_path):
    experiment = read(tmp_path, "backbone: a\nweights: w/a.pth")
    assert experiment.steps[0].weights == tmp_path / "w" / "a.pth"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("backbones: a", "unknown key 'backbones'. Did you mean backbone?"),
        ("steps:\n- backbone: a\n  epoch: 3", "unknown key 'epoch'. Did you mean epochs?"),
        ("backbone: a\nepochs: many", "'epochs: many' should be a valid integer"),
        ("backbone: a\nepochs: true", "'epochs: True' should be a valid integer"),
        ("backbone: a\nscore: ocvsm", "Did you mean ocsvm?"),
        ("backbone: a\nfresh: 1", "'fresh: 1' should be true or false"),
        ("backbone: [[a]]", "'backbone: ['a']' should be a valid string"),
        ("train: clasifier\nbackbone: a", "Did you mean classifier?"),
        ("epochs: 3", "a step needs a backbone"),
        ("backbone: [a, b]\nweights: x", "write a step for each"),
        ("steps: 3", "'steps: 3' should be a valid list"),
        ("- a", "the file should have lines of the form"),
        ("a: [", "not valid YAML"),
        ("backbone: a\nepochs: -1", "'epochs: -1' should be greater than or equal to 0"),
        ("backbone: a\nweights:", "'weights: None' should not be empty"),
        ("steps: [3]", "'steps: 3' should have lines"),
        ("table: one\nbackbone: a", "'table: one' should be a valid integer"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_name(tmp_path, text, fragment):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert fragment in str(caught.value)
    assert "0.yaml" in str(caught.value)


def test_files_that_contradict_each_other_are_an_error(tmp_path):
    with pytest.raises(UserError, match="contradicts"):
        read(tmp_path, "backbone: a\nengine: torch", "backbone: a\nengine: onnx")


def test_a_file_that_is_no_experiment_by_its_size_is_not_read(tmp_path):
    with pytest.raises(UserError, match="too large"):
        read(tmp_path, "#" * 1_000_001)


PAPER, KNN = Step(("a", "b"), (0,)), Step(("w",), (0,), score=("knn",))
TRAIN = Step(("r", "a"), train="classifier")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), [("a", "b"), ("w",), ("r", "a")]),
        (("b",), [("b",)]),
        (("x",), [("x",)]),  # instead of the paper's, where features are scored; not where a comparator has its own
        (("w", "a"), [("a",), ("w",), ("a",)]),
    ],
)
def test_named_backbones_are_kept_or_stand_in(named, expected):
    steps = override([PAPER, KNN, TRAIN], Overrides(named))
    assert [step.backbone for step in steps] == expected


@pytest.mark.parametrize(
    ("of_file", "of_command", "expected"),
    [
        (None, None, (0,)),
        (None, 5, (0, 5)),
        ((0, 100), 5, (0, 5)),
        ((0,), 5, (0,)),
        ((100,), None, (100,)),
        ((7,), 0, (0,)),
    ],
)
def test_epochs_of_the_command_line_replace_those_of_steps_that_augment(of_file, of_command, expected):
    (step,) = override([Step(("a",), of_file)], Overrides(epochs=of_command))
    assert step.epochs == expected


def test_weights_need_a_name_where_there_are_several_backbones():
    with pytest.raises(UserError, match="NAME=FILE"):
        override([PAPER], Overrides(weights={"": Path("x")}))
    with pytest.raises(UserError, match="no step has this backbone"):
        override([PAPER], Overrides(weights={"c": Path("x")}))
