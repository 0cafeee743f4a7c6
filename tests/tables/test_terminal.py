"""Tables in a terminal: the words of the plain text, in its width, with colours."""

import io
import re

import pytest
from rich.console import Console

from gaussad_cli.tables import words
from gaussad_cli.tables.terminal import print_table
from gaussad_cli.tables.text import as_text
from tests.tables.test_render import TWO, cell, table

WIDE = table(
    tuple(cell(90.0 + i, 1.0, 90.0, 1.0) for i in range(9)), columns=[f"a net, efficientnet-b{i}" for i in range(9)]
)


def shown(some_table, width=100, **options):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard", **options)
    print_table(some_table, console)
    return console.file.getvalue()


def test_a_terminal_shows_the_words_of_the_plain_text_and_what_the_colours_mean():
    plain = shown(TWO, width=200, no_color=True, legacy_windows=False).replace("\x1b[1m", "").replace("\x1b[0m", "")
    ours = [word for word in plain.replace("│", " ").split() if not set(word) <= set("─┼")]
    theirs = [word for word in as_text(TWO).replace("|", " ").split() if not set(word) <= {"-"} or word == "-"]
    assert sorted(ours) == sorted([*theirs, *words.SIZES.split()])


def test_differences_are_coloured_by_size_and_the_best_is_bold():
    text = shown(TWO)
    assert "\x1b[32m-0.8\x1b[0m" in text  # within the paper's SEM
    assert "\x1b[31m-3.0\x1b[0m" in text
    assert re.search(r"\x1b\[1m *95\.0\x1b\[0m", text)
    assert not re.search(r"\x1b\[1m *91\.2", text)


@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_a_wide_table_is_broken_to_the_width_of_the_terminal(width):
    lines = shown(WIDE, width, no_color=True).replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert max(map(len, lines)) <= width
    row = [line for line in lines if line.startswith("row0")]
    assert len(row) == (1 if width == 300 else {60: 9, 80: 5, 120: 3}[width])
    assert "".join(row).count(" ±1.0 ") == 18


def test_names_are_no_markup_of_rich():
    text = shown(table((cell(1.0),), columns=("[bold]a[/bold] :smile:",)))
    assert "[bold]a[/bold]" in text
    assert ":smile:" in text
