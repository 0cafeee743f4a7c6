"""docs/cli.md is what the help says, whatever terminal, language and home folder the generator is run in."""

import os
import re
import subprocess
import sys

import pytest

from scripts import cli_reference
from tests.conftest import ROOT


@pytest.mark.parametrize("columns, locale", [("40", "C"), ("300", "de_DE.UTF-8")])
def test_the_reference_is_what_the_help_says_now(tmp_path, columns, locale):
    elsewhere = {"COLUMNS": columns, "LC_ALL": locale, "LANG": locale, "HOME": f"{tmp_path}", "PYTHONPATH": f"{ROOT}"}
    program = [sys.executable, ROOT / "scripts" / "cli_reference.py", "--check"]
    run = subprocess.run(program, env={**os.environ, **elsewhere}, cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(cli_reference, "ROOT", tmp_path)
    monkeypatch.setattr(cli_reference, "PAGE", tmp_path / "cli.md")
    return tmp_path / "cli.md"


def test_a_stale_reference_is_an_error_until_it_is_written_again(page, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cli_reference.py"])
    cli_reference.main()
    written = page.read_bytes()
    page.write_bytes(written.replace(b"gaussad predict", b"gaussad foretell"))
    monkeypatch.setattr(sys, "argv", ["cli_reference.py", "--check"])
    assert cli_reference.main() == 1
    assert "make docs" in capsys.readouterr().err
    page.write_bytes(written)
    assert cli_reference.main() == 0


def test_a_reference_that_is_missing_is_an_error(page, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cli_reference.py", "--check"])
    assert cli_reference.main() == 1


@pytest.mark.parametrize("command", ["evaluate", "predict", "train", "train classifier"])
def test_every_option_of_the_help_has_a_row(gaussad, command):
    section = cli_reference.render().partition(f"## gaussad {command}\n")[2].partition("\n## ")[0]
    options = re.findall(r"^  (--[a-z-]+)", gaussad(*command.split(), "--help").out, re.MULTILINE)
    assert len(options) > 5
    for option in options:
        assert f"\n| `{option}`" in section
    assert "| `--cache` | path | cache; or $GAUSSAD\\_CACHE |" in section
