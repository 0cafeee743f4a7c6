"""Tables as LaTeX, for booktabs."""

from __future__ import annotations

from itertools import pairwise, product
from math import ceil
from textwrap import wrap
from unicodedata import combining, normalize

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import Cell, Table

_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"±": r"$\pm$", "†": r"\dag{}", "<": r"$<$", ">": r"$>$", "|": r"\textbar{}", "[": "{[}", "*": "{*}"}
)
_ROOM = 76  # digits of \footnotesize in article's own text width, 345 pt, with a little left for larger type
_NAME = 34  # characters: longer names of rows are broken
_NAMES = r"p{145pt}"  # as wide
_TITLE = 14  # characters: titles of columns are broken, if their cells are no wider
_LINES = 40  # of rows: with the caption, what fits a page
_PLUS_MINUS = " ± "


def as_latex(table: Table) -> str:
    r"""Render a table, its caption the title and the notes; cells read measured (paper), the best of a row bold.

    It needs ``\usepackage{booktabs}``. What is too wide for a page is broken into several tables.
    """
    blocks = list(product(_pages(table), _blocks(table)))
    return "\n".join(_block(table, *block, number, len(blocks)) for number, block in enumerate(blocks, start=1))


def _blocks(table: Table) -> list[list[int]]:
    """Group columns so that each group fits a page."""
    first = min(_NAME, max(len(words.row_name(name)) for name in (table.row_title, *table.rows)))
    blocks: list[list[int]] = []
    room = 0
    for index in range(len(table.columns)):
        width = max(_cell_width(table, index), *map(_digits, _heading_lines(table, index))) + 2
        if not blocks or width > room:
            blocks.append([])
            room = _ROOM - first
        blocks[-1].append(index)
        room -= width
    return blocks


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
    return max(len(_cell(row[index], table, False).replace(r" $\pm$ ", "   ")) for row in table.cells)


def _digits(text: str) -> int:
    """Return the width of text in digits: a capital is half as wide again."""
    return ceil(len(text) + sum(map(str.isupper, text)) / 2)


def _heading_lines(table: Table, index: int) -> list[str]:
    """Break a heading that is wider than its cells."""
    width = max(_TITLE, _cell_width(table, index))
    return wrap(table.columns[index].title, width, break_long_words=False, break_on_hyphens=False) or [""]


def _block(table: Table, rows: range, columns: list[int], number: int, of: int) -> str:
    part = f" ({number} of {of})" if of > 1 else ""
    of_paper = f" (Table {words.ROMAN[table.number]} of Rippel et al. 2020)."
    caption = escaped(" ".join([table.title + part + of_paper, *(table.notes if number == 1 else ())]))
    heading = [escaped(table.row_title.capitalize()), *(_heading(table, index) for index in columns)]
    lines = []
    wide = max(len(words.row_name(table.rows[number])) for number in rows) > _NAME
    for row_number in rows:
        row = table.cells[row_number]
        best = words.best_of(row, table.number)
        values = [_cell(row[index], table, index in best) for index in columns]
        lines.append([_name(table.rows[row_number], wide), *values])
    rule = table.rows[rows[-1]].startswith(("sum", "mean"))
    body = [" & ".join(line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{_NAMES if wide else 'l'}{'r' * len(columns)}}}",
            r"\toprule",
            " & ".join(heading) + r" \\",
            r"\midrule",
            *body[:-1],
            *([r"\midrule"] if rule else []),
            body[-1],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _name(name: str, wide: bool) -> str:
    text = escaped(words.row_name(name))
    return rf"\raggedright\hangindent=1em {text}" if wide else text


def _heading(table: Table, index: int) -> str:
    lines = [escaped(line) for line in _heading_lines(table, index)]
    together = r" \\ ".join(lines)
    return together if len(lines) == 1 else rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{together}\end{{tabular}}"


def _cell(cell: Cell, table: Table, best: bool) -> str:
    text = escaped(words.measured(cell, table, _PLUS_MINUS))
    text = rf"\textbf{{{text}}}" if best else text
    return text if cell.published_mean is None else f"{text} ({escaped(words.paper(cell, _PLUS_MINUS))})"


def escaped(text: str) -> str:
    """Return text as LaTeX sets it, whatever characters it has."""
    return "".join(_ESCAPES.get(ord(one)) or _letter(one) for one in words.printable(text))


def _letter(one: str) -> str:
    """Return a character that pdflatex has: of others what they are without accents, or a question mark."""
    if one.isascii() or (one.isalpha() and "À" <= one <= "ÿ" and one not in "ÐÞðþ"):
        return one
    plain = normalize("NFKD", one).encode("ascii", "ignore").decode()
    return escaped(plain) if plain else "" if combining(one) else "?"
