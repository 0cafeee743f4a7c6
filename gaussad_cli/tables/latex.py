"""Tables as LaTeX, for booktabs."""

from __future__ import annotations

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import Cell, Table

_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"±": r"$\pm$", "†": r"\dag{}", "<": r"$<$", ">": r"$>$", "|": r"\textbar{}"}
)
_ROOM = 100  # characters of a line of figures that \footnotesize puts on an A4 page in article's text width
_PLUS_MINUS = " ± "
PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage[margin=2cm]{geometry}
\begin{document}
"""


def as_latex(table: Table) -> str:
    r"""Render a table, its caption the title and the notes; cells read measured (paper), the best of a row bold.

    It needs ``\usepackage{booktabs}``. What is too wide for a page is broken into several tables.
    """
    blocks = _blocks(table)
    return "\n".join(_block(table, columns, number, len(blocks)) for number, columns in enumerate(blocks, start=1))


def _blocks(table: Table) -> list[list[int]]:
    """Group columns so that each group fits a page."""
    first = max(len(words.row_name(name)) for name in (table.row_title, *table.rows))
    blocks: list[list[int]] = []
    room = 0
    for index in range(len(table.columns)):
        width = _width(table, index)
        if not blocks or width > room:
            blocks.append([])
            room = _ROOM - first
        blocks[-1].append(index)
        room -= width + 2
    return blocks


def _width(table: Table, index: int) -> int:
    cells = [len(_cell(row[index], table, False).replace(r"$\pm$", "±")) for row in table.cells]
    return max(*cells, _heading_width(table.columns[index].title))


def _heading_width(title: str) -> int:
    return max(map(len, _heading_lines(title)))


def _heading_lines(title: str) -> list[str]:
    """Break a long heading at its commas."""
    return [part.strip() for part in title.split(",")] if len(title) > 16 else [title]


def _block(table: Table, columns: list[int], number: int, of: int) -> str:
    part = f" ({number} of {of})" if of > 1 else ""
    of_paper = f" (Table {words.ROMAN[table.number]} of Rippel et al. 2020)."
    caption = escaped(" ".join([table.title + part + of_paper, *(table.notes if number == 1 else ())]))
    heading = [escaped(table.row_title.capitalize()), *(_heading(table.columns[index].title) for index in columns)]
    lines = []
    for name, row in zip(table.rows, table.cells, strict=True):
        best = words.best_of(row)
        lines.append([escaped(words.row_name(name)), *(_cell(row[index], table, index in best) for index in columns)])
    rule = any(name.startswith(("sum", "mean")) for name in table.rows[-1:])
    body = [" & ".join(line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
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


def _heading(title: str) -> str:
    lines = [escaped(line) for line in _heading_lines(title)]
    together = r" \\ ".join(lines)
    return together if len(lines) == 1 else rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{together}\end{{tabular}}"


def _cell(cell: Cell, table: Table, best: bool) -> str:
    text = escaped(words.measured(cell, table, _PLUS_MINUS))
    text = rf"\textbf{{{text}}}" if best else text
    return text if cell.published_mean is None else f"{text} ({escaped(words.paper(cell, _PLUS_MINUS))})"


def escaped(text: str) -> str:
    """Return text as LaTeX sets it, whatever characters it has."""
    return text.translate(_ESCAPES)


def as_document(tables: list[Table]) -> str:
    """Return a document of its own, to look at tables."""
    return PREAMBLE + "\n".join(map(as_latex, tables)) + "\n\\end{document}\n"
