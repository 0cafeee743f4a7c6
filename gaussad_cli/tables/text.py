"""Tables for the terminal: aligned columns, in colour where asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import Cell, Table

_WIDTH = 180  # characters, of a text table
_GAP = 3  # between columns
_BOLD, _RESET = "\x1b[1m", "\x1b[0m"
_COLOURS = {"near": "\x1b[32m", "off": "\x1b[33m", "far": "\x1b[31m"}


@dataclass(frozen=True)
class _Part:
    """One of a column's measured, paper, difference: its text, and the escape code that styles it."""

    name: str
    text: Callable[[Cell], str]
    code: Callable[[Cell, bool], str]


def as_text(table: Table, colour: bool = False) -> str:
    """Lay a table out in aligned columns: measured, then the paper's and the difference where there is one.

    A table that is too wide for most screens is broken into blocks of columns, each with the rows' names.

    Parameters
    ----------
    colour : differences by size, and the best of a row bold, by escape codes
    """
    names = ["", table.row_title, *map(words.row_name, table.rows)]
    first = max(map(len, names))
    blocks: list[list[list[str]]] = []
    widths: list[int] = []
    for index in range(len(table.columns)):
        width, lines = _column(table, index, colour)
        if not blocks or widths[-1] + _GAP + width > _WIDTH:
            blocks.append([[name.ljust(first)] for name in names])
            widths.append(first)
        widths[-1] += _GAP + width
        for line, value in zip(blocks[-1], lines, strict=True):
            line.append(value)
    body = []
    for block, width in zip(blocks, widths, strict=True):
        shown = [" | ".join(line).rstrip() for line in block]
        body += [*shown[:2], "-" * width, *shown[2:], ""]
    notes = [*table.notes, words.SIZES] if colour and any(map(words.size, _cells(table))) else [*table.notes]
    heading = words.title(table)
    return (
        "\n".join([f"{_BOLD}{heading}{_RESET}" if colour else heading, "", *body, *map(words.printable, notes)]) + "\n"
    )


def _cells(table: Table) -> list[Cell]:
    return [cell for row in table.cells for cell in row]


def _column(table: Table, index: int, colour: bool) -> tuple[int, list[str]]:
    """Return a column's width, and its title, sub-titles and cells, all of that width on the screen."""
    parts = [_Part("measured", lambda cell: words.measured(cell, table), lambda _, best: _BOLD if best else "")]
    if words.has_paper(table, index):
        parts.append(_Part("paper", words.paper, lambda *_: ""))
        parts.append(_Part("diff", words.difference, lambda cell, _: _COLOURS.get(words.size(cell), "")))
    cells = [row[index] for row in table.cells]
    best = [index in words.best_of(row, table.number) for row in table.cells]
    block = [[part.name, *map(part.text, cells)] for part in parts]
    widths = [max(map(len, lines)) for lines in block]
    heading = words.printable(table.columns[index].title)
    widths[0] += max(0, len(heading) - sum(widths) - 2 * (len(widths) - 1))
    styles = [["", *(part.code(*pair) if colour else "" for pair in zip(cells, best, strict=True))] for part in parts]
    lines = [
        "  ".join(_styled(value.rjust(width), code) for value, width, code in zip(values, widths, codes, strict=True))
        for values, codes in zip(zip(*block, strict=True), zip(*styles, strict=True), strict=True)
    ]
    total = sum(widths) + 2 * (len(widths) - 1)
    return total, [heading.ljust(total), *lines]


def _styled(text: str, code: str) -> str:
    """Style the words, not the blanks before them."""
    bare = text.lstrip()
    return f"{text[: len(text) - len(bare)]}{code}{bare}{_RESET}" if code and bare else text
