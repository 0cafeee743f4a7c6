"""A table as text, for terminals and files."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

from gaussad_cli.tables.cells import Cell, Table
from gaussad_cli.tables.values import (
    Size,
    best_of,
    column_titles,
    difference,
    is_published,
    measured,
    notes_of,
    paper,
    row_names,
    size_of,
    title_of,
)

WIDTH = 180  # characters, of a table in a file
_GAP = " | "
_TITLE = 24  # characters: a longer title of a column is broken, if its cells are no wider
_NAME = 30  # and a row's name is not broken to less
_BOLD = "\x1b[1m"
_COLOURS = {Size.CLOSE: "\x1b[32m", Size.NEAR: "\x1b[33m", Size.FAR: "\x1b[31m"}  # green, yellow, red
_PLAIN = "\x1b[0m"


@dataclass(frozen=True)
class _Block:
    """A column: the lines of its title, its sub-title and its cells, all of one width on the screen."""

    title: tuple[str, ...]
    lines: tuple[str, ...]
    width: int


def as_text(table: Table, colour: bool = False, width: int = WIDTH) -> str:
    """Lay a table out in aligned columns: measured, then the paper's and the difference where there is one.

    A table that is too wide is broken into groups of columns, each with the rows' names.

    Parameters
    ----------
    colour : for a terminal: differences coloured by size, the best of each row bold; otherwise no escape codes at all
    width : of the screen, in characters; a single column may be wider
    """
    blocks = [_block(table, index, title, colour) for index, title in enumerate(column_titles(table))]
    room = max(_NAME, width - len(_GAP) - max(block.width for block in blocks))
    names = [wrap(name, room, subsequent_indent="  ", break_on_hyphens=False) or [""] for name in row_names(table)]
    first = max(len(table.row_title), *(len(line) for name in names for line in name))
    groups = [_group(table.row_title, names, group, first) for group in _fitting(blocks, width - first)]
    head = wrap(title_of(table), width, break_on_hyphens=False)
    notes = [
        line
        for note in notes_of(table, bold=colour, colour=colour)
        for line in wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    ]
    return "\n".join([*head, "", *(line for group in groups for line in (*group, "")), *notes]) + "\n"


def _fitting(blocks: list[_Block], width: int) -> list[list[_Block]]:
    """Break columns into groups of at most a width."""
    groups: list[list[_Block]] = []
    room = 0
    for block in blocks:
        needed = len(_GAP) + block.width
        if not groups or needed > room:
            groups.append([])
            room = width
        groups[-1].append(block)
        room -= needed
    return groups


def _group(row_title: str, names: list[list[str]], blocks: list[_Block], first: int) -> list[str]:
    """Put columns side by side, the rows' names before them."""
    deep = max(len(block.title) for block in blocks)
    titles = [[*block.title, *[""] * (deep - len(block.title))] for block in blocks]
    heads = [_joined("", [title[i].ljust(b.width) for title, b in zip(titles, blocks, strict=True)], first)
             for i in range(deep)]  # fmt: skip
    sub_title, *body = (
        _joined(name[0], [block.lines[i] for block in blocks], first) for i, name in enumerate([[row_title], *names])
    )
    rule = "-" * (first + sum(len(_GAP) + block.width for block in blocks))
    more = [[line, *_continued(name, blocks, first)] for line, name in zip(body, names, strict=True)]
    return [*heads, sub_title, rule, *(line for lines in more for line in lines)]


def _continued(name: list[str], blocks: list[_Block], first: int) -> list[str]:
    return [_joined(line, [" " * block.width for block in blocks], first) for line in name[1:]]


def _joined(name: str, values: list[str], first: int) -> str:
    return _GAP.join([name.ljust(first), *values]).rstrip()


def _block(table: Table, index: int, title: str, colour: bool) -> _Block:
    """Return a column's title, sub-titles and cells."""
    cells = [row[index] for row in table.cells]
    best = [colour and index in best_of(table, row) for row in table.cells]
    parts = [["measured", *(str(measured(cell, table)) for cell in cells)]]
    if is_published(table, index):
        parts += [["paper", *(str(paper(cell)) for cell in cells)], ["diff", *map(difference, cells)]]
    widths = [max(map(len, part)) for part in parts]
    inner = sum(widths) + 2 * (len(widths) - 1)
    titles = wrap(title, max(inner, _TITLE), break_long_words=False, break_on_hyphens=False) or [""]
    width = max(inner, *map(len, titles))
    widths[0] += width - inner
    # Painted after they are padded: escape codes have no width on the screen.
    padded = [[value.rjust(wide) for value in part] for part, wide in zip(parts, widths, strict=True)]
    for row, cell in enumerate(cells, start=1):
        for part, code in enumerate(_codes(cell, best[row - 1]) if colour else ()):
            if code and part < len(padded):
                padded[part][row] = _painted(padded[part][row], code)
    return _Block(tuple(titles), tuple("  ".join(values) for values in zip(*padded, strict=True)), width)


def _codes(cell: Cell, best: bool) -> tuple[str, str, str]:
    """Return what measured, paper's and difference are painted with."""
    size = size_of(cell)
    return (_BOLD if best else "", "", _COLOURS[size] if size else "")


def _painted(padded: str, code: str) -> str:
    value = padded.lstrip()
    return " " * (len(padded) - len(value)) + code + value + _PLAIN
