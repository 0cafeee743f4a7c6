"""Tables as LaTeX, for booktabs."""

from __future__ import annotations

from itertools import pairwise, product
from math import ceil
from textwrap import wrap

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.known import ROMAN

_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"±": r"$\pm$", "†": r"\dag{}", "<": r"$<$", ">": r"$>$", "|": r"\textbar{}", "[": "{[}", "*": "{*}"}
    | {"\N{REPLACEMENT CHARACTER}": "?"}
)
_ROOM = 76  # digits of \footnotesize in the text width of article, 345 pt, with a little left for larger type
_NAME = 34  # characters: longer names of rows are broken
_NAMES = r"p{145pt}"  # the same width
_TITLE = 14  # characters: titles of columns are broken if their cells are no wider
_LINES = 40  # of rows: with the caption, what fits a page
_PLUS_MINUS = " ± "
_BLOCK = r"""\begin{table}[htbp]
\centering\footnotesize\setlength{\tabcolsep}{4pt}
\caption{%(caption)s}
\begin{tabular}{%(columns)s}
\toprule
%(lines)s
\bottomrule
\end{tabular}
\end{table}
"""


def as_latex(table: Table) -> str:
    r"""Render a table whose caption is the title and the notes; cells read measured (paper), the best of a row bold.

    It needs ``\usepackage{booktabs}``. A table too large for a page is broken into several. Names of categories are set
    as they are: letters beyond Latin need XeLaTeX or LuaLaTeX.
    """
    longest = max(len(words.row_name(name)) for name in (table.row_title, *table.rows))
    widths = [
        2 + max(_cell_width(table, index), *map(_digits, _heading_lines(table, index)))
        for index in range(len(table.columns))
    ]
    columns = words.break_columns(widths, _ROOM - min(_NAME, longest))
    blocks = list(product(_pages(table), columns))
    return "\n".join(_block(table, *block, number, len(blocks)) for number, block in enumerate(blocks, start=1))


def _pages(table: Table) -> list[range]:
    """Group rows so that each group is no longer than a page; a long name has several lines."""
    ends, used = [0], 0
    for index, name in enumerate(table.rows):
        lines = ceil(len(name) / (_NAME - 6)) if len(name) > _NAME else 1  # broken lines hang, and end ragged
        if used + lines > _LINES:
            ends.append(index)
            used = 0
        used += lines
    return [range(*pair) for pair in pairwise([*ends, len(table.rows)])]


def _cell_width(table: Table, index: int) -> int:
    """Return the widest cell's width in digits: plus-minus takes three with its spaces."""
    return max(len(_cell(table, row, index, False).replace(r" $\pm$ ", "   ")) for row in range(len(table.rows)))


def _digits(text: str) -> int:
    """Return the width of text in digits: a capital is half as wide again."""
    return ceil(len(text) + sum(map(str.isupper, text)) / 2)


def _heading_lines(table: Table, index: int) -> list[str]:
    """Break a heading that is wider than its cells."""
    width = max(_TITLE, _cell_width(table, index))
    column = table.columns[index]
    return wrap(
        f"{column.title}{' (quoted)' if column.quoted else ''}", width, break_long_words=False, break_on_hyphens=False
    ) or [""]


def _block(table: Table, rows: range, columns: list[int], number: int, of: int) -> str:
    part = f" ({number} of {of})" if of > 1 else ""
    origin = f" (Table {ROMAN[table.number]} of Rippel et al. 2020)" if table.number in ROMAN else ""
    title = f"{table.title}{part}{origin}."
    names = [words.row_name(table.rows[row]) for row in rows]
    wide = max(map(len, names)) > _NAME
    heading = [escaped(table.row_title.capitalize()), *(_heading(table, index) for index in columns)]
    lines = [" & ".join(heading) + r" \\", r"\midrule"]
    for row, name in zip(rows, names, strict=True):
        best = words.best_of(table.cells[row], table.number)
        values = [_cell(table, row, index, index in best) for index in columns]
        lines.append(" & ".join([(r"\raggedright\hangindent=1em " if wide else "") + escaped(name), *values]) + r" \\")
    if table.rows[rows[-1]].startswith(("sum", "mean")):
        lines.insert(-1, r"\midrule")
    return _BLOCK % {
        "caption": escaped(" ".join([title, *(table.notes if number == 1 else ())])),
        "columns": (_NAMES if wide else "l") + "r" * len(columns),
        "lines": "\n".join(lines),
    }


def _heading(table: Table, index: int) -> str:
    lines = [escaped(line) for line in _heading_lines(table, index)]
    together = r" \\ ".join(lines)
    return together if len(lines) == 1 else rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{together}\end{{tabular}}"


def _cell(table: Table, row: int, column: int, best: bool) -> str:
    cell = table.cells[row][column]
    if table.columns[column].quoted:
        return escaped(words.paper(cell, _PLUS_MINUS))
    text = escaped(words.measured(cell, table, _PLUS_MINUS))
    text = rf"\textbf{{{text}}}" if best else text
    return text if cell.published_mean is None else f"{text} ({escaped(words.paper(cell, _PLUS_MINUS))})"


def escaped(text: str) -> str:
    """Escape the characters that LaTeX would read as commands."""
    return words.printable(text).translate(_ESCAPES)
