"""The experiments that come with gaussad are found by name."""

from pathlib import Path

import pytest

from gaussad_cli.errors import UserError
from gaussad_cli.experiments import named
from gaussad_cli.experiments.named import find_experiment
from tests.conftest import ROOT


def test_the_names_are_those_of_the_files():
    assert [f"{name}.yaml" for name in named.names()] == sorted(path.name for path in (ROOT / "configs").iterdir())
    assert "table3" in named.names()


def test_a_name_stands_for_its_file_whatever_lies_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("table3").mkdir()
    assert find_experiment("table3") == ROOT / "configs" / "table3.yaml"


@pytest.mark.parametrize("path", ["my.yaml", "folder/my", "./table3"])
def test_a_path_stays_a_path(path):
    assert find_experiment(path) == Path(path)


def test_a_file_without_suffix_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").touch()
    assert find_experiment("mine") == Path("mine")


def test_an_unknown_name_gives_the_known_ones():
    with pytest.raises(
        UserError, match=r"no experiment 'tabel3'\. Did you mean table3\? Known: .*table1, .*, table8\."
    ):
        find_experiment("tabel3")


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "one.yaml").touch()
    monkeypatch.setattr(named, "_PACKAGE", tmp_path)
    assert named.names() == ["one"]
