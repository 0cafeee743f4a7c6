"""Tables as Markdown and as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import Table, TableCell

_MARKUP = re.compile(r"[\\`*~|<>\[\]]|(?<![^\W_])_|_(?![^\W_])")  # an underscore inside a word is no markup

TABLE_CSS = """
table.gaussad { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
table.gaussad caption { text-align: left; font-weight: 600; padding: .2rem 0 .5rem; }
table.gaussad th, table.gaussad td { padding: .2rem .6rem; white-space: nowrap; text-align: right; }
table.gaussad tbody th, table.gaussad thead th[rowspan] { text-align: left; font-weight: 400; }
table.gaussad thead th { border-bottom: 1px solid currentColor; vertical-align: bottom; }
table.gaussad .paper { opacity: .7; }
table.gaussad .best { font-weight: 700; }
table.gaussad .near { color: #1a7f37; color: light-dark(#1a7f37, #56d364); }
table.gaussad .off { color: #9a6700; color: light-dark(#9a6700, #e3b341); }
table.gaussad .far { color: #cf222e; color: light-dark(#cf222e, #ff7b72); }
p.notes { font-size: .8rem; opacity: .8; max-width: 60rem; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>gaussad tables</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 1rem auto; max-width: 76rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }}
.wide {{ overflow-x: auto; margin-bottom: 2rem; }}
{css}</style></head>
<body>
{tables}
</body></html>
"""


def as_markdown(table: Table) -> str:
    """Render a GitHub table; cells read measured (paper, difference), the best of a row bold."""
    titles = [f"{column.title}{' (quoted)' if column.quoted else ''}" for column in table.columns]
    heading = [table.row_title.capitalize(), *map(_plain, titles)]
    lines = [_line(heading), f"|{'|'.join(['---', *('---:' for _ in table.columns)])}|"]
    for name, row in zip(table.rows, table.cells, strict=True):
        best = words.best_of(row, table.number)
        cells = [
            words.paper(cell) if column.quoted else _markdown_cell(cell, table, index in best)
            for index, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        ]
        lines.append(_line([_plain(words.row_name(name)), *cells]))
    return "\n".join([f"**{_plain(words.title(table))}**", "", *lines, "", *map(_plain, table.notes)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup."""
    return _MARKUP.sub(lambda match: {"<": "&lt;", ">": "&gt;"}.get(match[0], "\\" + match[0]), words.printable(text))


def _markdown_cell(cell: TableCell, table: Table, best: bool) -> str:
    text = words.measured(cell, table)
    text = f"**{text}**" if best else text
    return text if cell.published_mean is None else f"{text} ({words.paper(cell)}, {words.difference(cell)})"


def as_html(table: Table) -> str:
    """Render a table and its notes as an HTML fragment, styled by :data:`TABLE_CSS`; all names in it are escaped."""
    parts = [words.part_names(table, index) for index in range(len(table.columns))]
    titles = "".join(
        f'<th scope="colgroup" colspan="{len(names)}">{escape(words.printable(column.title))}</th>'
        for column, names in zip(table.columns, parts, strict=True)
    )
    below = "".join(f'<th scope="col">{name}</th>' for names in parts for name in names)
    rows = "\n".join(_html_row(table, row) for row in range(len(table.rows)))
    heading = f'<tr><th scope="col" rowspan="2">{escape(table.row_title)}</th>{titles}</tr>\n<tr>{below}</tr>'
    notes = " ".join(escape(words.printable(note)) for note in table.notes)
    return (
        f'<table class="gaussad">\n<caption>{escape(words.title(table))}</caption>\n'
        f'<thead>{heading}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n<p class="notes">{notes}</p>'
    )


def _html_row(table: Table, row: int) -> str:
    best = words.best_of(table.cells[row], table.number)
    cells = []
    for index, cell in enumerate(table.cells[row]):
        is_quoted = table.columns[index].quoted
        classes = ("paper",) if is_quoted else ("best" if index in best else "", "paper", words.size(cell))
        for text, name in zip(words.parts(table, row, index), classes, strict=False):
            attribute = f' class="{name}"' if name else ""
            cells.append(f"<td{attribute}>{escape(text)}</td>")
    return f'<tr><th scope="row">{escape(words.row_name(table.rows[row]))}</th>{"".join(cells)}</tr>'


def as_page(tables: Sequence[Table]) -> str:
    """Render tables as an HTML page of its own."""
    fragments = "\n".join(f'<div class="wide">{as_html(table)}</div>' for table in tables)
    return _PAGE.format(css=TABLE_CSS, tables=fragments)
