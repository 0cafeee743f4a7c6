"""constraints.txt: versions and nothing else, of all that is depended on, within its bounds."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

LINES = (ROOT / "constraints.txt").read_text("ascii").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
REQUIREMENTS = [Requirement(text) for text in PROJECT["dependencies"] + EXTRAS if not text.startswith("gaussad")]


def test_constraints_are_names_and_versions():
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+!]*", line) for line in LINES)
    names = [line.split("==")[0] for line in LINES]
    assert names == sorted(set(names))


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_dependency_has_one_within_its_bounds(requirement):
    (version,) = [line.split("==")[1] for line in LINES if line.startswith(f"{canonicalize_name(requirement.name)}==")]
    assert requirement.specifier.contains(version)


def test_the_requirements_for_predicting_are_those_of_the_project():
    lines = (ROOT / "requirements-predict.txt").read_text("ascii").splitlines()
    assert {line for line in lines if not line.startswith("#")} < set(PROJECT["dependencies"])
