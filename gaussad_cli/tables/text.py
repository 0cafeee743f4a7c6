"""Tables as plain text in aligned columns."""

from __future__ import annotations

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import Table

_WIDTH = 180  # characters
GAP = 3  # characters between columns


def as_text(table: Table) -> str:
    """Lay a table out in aligned columns: measured, then the paper's value and the difference if there is any.

    A table wider than 180 characters is broken into blocks of columns, each with the names of the rows.
    """
    names = ["", table.row_title, *map(words.row_name, table.rows)]
    first = max(map(len, names))
    columns = [_column(table, index) for index in range(len(table.columns))]
    widths = [GAP + len(column[0]) for column in columns]
    body = []
    for block in words.break_columns(widths, _WIDTH - first):
        by_line = zip((name.ljust(first) for name in names), *(columns[index] for index in block), strict=True)
        lines = [" | ".join(line).rstrip() for line in by_line]
        body += [*lines[:2], "-" * (first + sum(widths[index] for index in block)), *lines[2:], ""]
    return "\n".join([words.title(table), "", *body, *map(words.printable, table.notes)]) + "\n"


def _column(table: Table, index: int) -> list[str]:
    """Return a column's title, the names of its parts and its cells as lines of one width."""
    title = words.printable(table.columns[index].title)
    lines = ["  ".join(line) for line in aligned(table, index, len(title))]
    return [title.ljust(len(lines[0])), *lines]


def aligned(table: Table, column: int, at_least: int) -> list[list[str]]:
    """Return the names of a column's parts, then the parts of each of its cells, padded to line up on the right.

    Parameters
    ----------
    at_least : characters that a line has with two blanks between its parts
    """
    lines = [words.part_names(table, column)]
    lines += [words.parts(table, row, column) for row in range(len(table.rows))]
    widths = [max(map(len, part)) for part in zip(*lines, strict=True)]
    widths[0] += max(0, at_least - sum(widths) - 2 * (len(widths) - 1))
    return [[text.rjust(width) for text, width in zip(line, widths, strict=True)] for line in lines]
