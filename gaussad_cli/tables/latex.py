r"""Tables for LaTeX documents: `article` and `booktabs` are all they need."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from math import ceil
from textwrap import wrap

from gaussad_cli.tables.cells import Cell, Table
from gaussad_cli.tables.values import (
    NOTHING,
    ROMAN,
    Value,
    best_of,
    column_titles,
    measured,
    notes_of,
    paper,
    printable,
    row_names,
)

NEEDS = "% Needs \\usepackage{booktabs} in the preamble.\n"
# Of \footnotesize in article's text width: 345 pt of digits of 4.25 pt are 81; a tenth is left for larger type.
_WIDTH = 73
_GAP = 2  # of \tabcolsep, 4 pt, on both sides of a column
_NAME = 34  # longer names of rows are broken
_TITLE = 14  # and titles of columns, if the cells are no wider
_LINES = 44  # of a table: with caption and notes, what fits on a page
_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after the end of a row it would begin an option
    "*": "{*}",  # as well
    "±": r"$\pm$",
    "†": r"\dag{}",
    **{one: f"\\{one}" for one in "#$%&_"},
}


def as_latex(table: Table) -> str:
    """Render `table` environments with booktabs: measured ± SEM, the paper's in parentheses, the best of a row bold.

    A table that is too wide or long for a page is broken into several with the same number; the notes are under the
    last.
    """
    columns = list(_fitting(table))
    lines = [_lines_of(name) for name in row_names(table)]
    parts = [(group, rows) for rows in _pages(lines) for group in columns]
    return "\n".join(
        _part(table, *part, is_first=number == 0, is_last=number == len(parts) - 1) for number, part in enumerate(parts)
    )


def escaped(text: str) -> str:
    """Escape everything that LaTeX would read as a command, or has no letter for."""
    return "".join(_CHARACTERS.get(one) or _letter(one) for one in printable(text))


def _letter(one: str) -> str:
    """Return a character that pdflatex has: of others what they are without accents, or a question mark."""
    if one.isascii() or (one.isalpha() and "À" <= one <= "ÿ" and one not in "ÐÞðþ"):
        return one
    plain = unicodedata.normalize("NFKD", one).encode("ascii", "ignore").decode()
    return escaped(plain) if plain else "" if unicodedata.combining(one) else "?"


def _part(table: Table, columns: range, rows: range, is_first: bool, is_last: bool) -> str:
    wide = max(len(row_names(table)[row]) for row in rows) > _NAME
    label = f"p{{{_NAME * 4.25:.0f}pt}}" if wide else "l"
    again = [] if is_first else [r"\addtocounter{table}{-1}"]
    notes = [_notes(table)] if is_last else []
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            *again,
            r"\centering",
            rf"\caption{{{_caption(table, is_first)}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{4pt}",
            rf"\begin{{tabular}}{{@{{}}{label}{'r' * len(columns)}@{{}}}}",
            r"\toprule",
            " & ".join([escaped(table.row_title), *(_head(table, column) for column in columns)]) + r" \\",
            r"\midrule",
            *(_row(table, row, columns, wide) for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _caption(table: Table, is_first: bool) -> str:
    number = f"Table~{ROMAN[table.number]}"
    published = any(cell.published_mean is not None for row in table.cells for cell in row)
    of = f" In parentheses: the paper's {number}." if published else f" As the paper's {number}."
    return f"{escaped(table.title)}.{of}" if is_first else f"{escaped(table.title)} (continued)."


def _notes(table: Table) -> str:
    """Return the notes, a line each, unjustified: names are long and have few breaks."""
    notes = [escaped(note) for note in notes_of(table, colour=False)]
    return "\n".join([r"\par\smallskip\raggedright", *(rf"{note}\par" for note in notes)])


def _row(table: Table, row: int, columns: range, wide: bool) -> str:
    best = best_of(table, table.cells[row])
    name = escaped(row_names(table)[row])
    name = rf"\raggedright\hangindent=1em {name}" if wide else name
    values = [_cell(table.cells[row][column], table, column in best) for column in columns]
    return " & ".join([name, *values]) + r" \\"


def _head(table: Table, column: int) -> str:
    r"""Return a column's title, broken where it is wider than its cells; `\shortstack` is of LaTeX itself."""
    lines = [escaped(line) for line in _titles(table, column)]
    return lines[0] if len(lines) == 1 else rf"\shortstack[r]{{{r'\\'.join(lines)}}}"


def _cell(cell: Cell, table: Table, best: bool) -> str:
    value = measured(cell, table)
    if best:
        value = value._replace(mean=rf"\textbf{{{value.mean}}}")
    text = _value(value)
    return text if cell.published_mean is None else f"{text} ({_value(paper(cell))})"


def _value(value: Value) -> str:
    if value.mean == NOTHING:
        return "--"
    sem = rf" $\pm$ {value.sem}" if value.sem else ""
    return value.mean + sem + (r"\dag{}" if value.mark else "")


# --- what fits ---


def _titles(table: Table, column: int) -> list[str]:
    """Break a column's title to the width of its cells, or to `_TITLE` characters."""
    wide = max(_TITLE, _cell_width(table, column))
    return wrap(column_titles(table)[column], wide, break_long_words=False, break_on_hyphens=False) or [""]


def _cell_width(table: Table, column: int) -> int:
    return max(_width(row[column], table) for row in table.cells)


def _width(cell: Cell, table: Table) -> int:
    """Return a cell's width in digits: spaces and points are narrow, plus-minus with its spaces is two digits and a half."""
    values = [measured(cell, table)] + ([paper(cell)] if cell.published_mean is not None else [])
    digits = sum(len(value.mean) + len(value.mark) + (len(value.sem) + 2 if value.sem else 0) for value in values)
    return digits + 2 * (len(values) - 1)


def _fitting(table: Table) -> Iterable[range]:
    """Break the columns into ranges that fit beside the rows' names."""
    names = min(_NAME, max(map(len, [table.row_title, *row_names(table)])))
    start, room = 0, _WIDTH - names
    for column in range(len(table.columns)):
        needed = _GAP + max(_cell_width(table, column), *map(len, _titles(table, column)))
        if needed > room and column > start:
            yield range(start, column)
            start, room = column, _WIDTH - names
        room -= needed
    yield range(start, len(table.columns))


def _lines_of(name: str) -> int:
    # Broken lines of names hang by two characters, and end ragged.
    return max(1, ceil(len(name) / (_NAME - 6))) if len(name) > _NAME else 1


def _pages(lines: Sequence[int]) -> Iterable[range]:
    """Break rows into ranges of at most `_LINES` lines."""
    start, used = 0, 0
    for row, needed in enumerate(lines):
        if used + needed > _LINES:
            yield range(start, row)
            start, used = row, 0
        used += needed
    yield range(start, len(lines))
