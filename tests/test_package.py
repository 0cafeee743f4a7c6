"""pyproject.toml names everything that the wheel must hold; scripts/package.sh builds it and looks inside."""

import tomllib

from tests.conftest import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
PACKAGE = ROOT / "gaussad_cli"


def test_every_folder_of_the_package_is_listed():
    folders = [path.parent.relative_to(ROOT).parts for path in PACKAGE.rglob("__init__.py")]
    assert SETTINGS["packages"] == sorted([*map(".".join, folders), "gaussad_cli.configs"])
    assert SETTINGS["package-dir"] == {"gaussad_cli.configs": "configs"}


def test_every_file_that_is_no_module_is_listed():
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert sorted(str(path.relative_to(PACKAGE)) for path in files) == sorted(SETTINGS["package-data"]["gaussad_cli"])
    assert {path.suffix for path in (ROOT / "configs").iterdir()} == {".yaml"}
