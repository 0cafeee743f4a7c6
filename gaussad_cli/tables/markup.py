"""A table as Markdown and as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from gaussad_cli.tables.cells import Cell, Table
from gaussad_cli.tables.values import (
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

_MARKUP = re.compile(r"[\\`*~|<>\[\]]|(?<![^\W_])_|_(?![^\W_])")  # underscores within words are none

TABLE_CSS = """\
table.gaussad {
  --edge: #8a929b; --line: #e3e5e8; --dim: #5b6470; --close: #1a7436; --near: #855c00; --far: #b3261e;
  border-collapse: collapse; font-size: .9rem; line-height: 1.4; font-variant-numeric: tabular-nums;
}
@media (prefers-color-scheme: dark) {
  table.gaussad {
    --edge: #7d8791; --line: #2e343b; --dim: #a4adb7; --close: #6cc893; --near: #e3b341; --far: #ff8a80;
  }
}
table.gaussad caption { text-align: left; padding-bottom: .4rem; }
table.gaussad caption span { position: sticky; left: 0; display: inline-block; max-width: min(46rem, 85vw); font-weight: 600; }
table.gaussad th, table.gaussad td { padding: .15rem .5rem; white-space: nowrap; }
table.gaussad td { text-align: right; border-bottom: 1px solid var(--line); }
table.gaussad thead tr:first-child th { border-top: 2px solid var(--edge); }
table.gaussad thead tr:last-child th { border-bottom: 1px solid var(--edge); text-align: right; font-weight: 400; color: var(--dim); }
table.gaussad tbody tr:last-child > * { border-bottom: 2px solid var(--edge); }
table.gaussad th[scope=colgroup] { text-align: left; white-space: normal; min-width: 7rem; max-width: 16rem; vertical-align: bottom; }
table.gaussad th[scope=colgroup], table.gaussad .measured { border-left: 1px solid var(--line); padding-left: .8rem; }
table.gaussad th[scope=row], table.gaussad th.rows {
  position: sticky; left: 0; background: var(--card, Canvas); text-align: left; vertical-align: bottom;
}
table.gaussad th[scope=row] {
  font-weight: 400; border-bottom: 1px solid var(--line); white-space: normal; min-width: min(8ch, 40vw); max-width: min(36rem, 40vw);
}
table.gaussad .paper { color: var(--dim); }
table.gaussad .close { color: var(--close); } table.gaussad .near { color: var(--near); } table.gaussad .far { color: var(--far); }
.gaussad-notes { margin: .4rem 0 0; padding: 0; list-style: none; max-width: 46rem; font-size: .85rem; overflow-wrap: anywhere; }
"""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>gaussad tables</title>
<style>
:root {{ color-scheme: light dark; --card: #fff; }}
@media (prefers-color-scheme: dark) {{ :root {{ --card: #14171b; }} }}
body {{ margin: 1rem; background: var(--card); color: CanvasText; font: 16px/1.5 system-ui, sans-serif; }}
.wide {{ overflow-x: auto; margin-bottom: 2.5rem; }}
{css}</style>
</head>
<body>
{body}
</body>
</html>
"""


def as_markdown(table: Table) -> str:
    """Render a GitHub table; cells read measured (paper, difference), the best of each row is bold."""
    heads = [table.row_title.capitalize(), *map(_plain, column_titles(table))]
    lines = [
        [_plain(name), *(_markdown_cell(cell, table, index in best_of(table, row)) for index, cell in enumerate(row))]
        for name, row in zip(row_names(table), table.cells, strict=True)
    ]
    rule = "|".join(["---", *("---:" for _ in table.columns)])
    body = ["| " + " | ".join(line) + " |" for line in lines]
    # A paragraph each: lines that follow each other would run together.
    notes = "\n\n".join(_plain(note) for note in notes_of(table, colour=False))
    head = [f"**{_plain(title_of(table))}**", "", "| " + " | ".join(heads) + " |", f"|{rule}|"]
    return "\n".join([*head, *body, "", notes]) + "\n"


def as_html(table: Table) -> str:
    """Render a fragment: the table with its caption, and its notes as a list after it.

    Cells have the classes measured (with best), paper, difference (with close, near or far); `TABLE_CSS` styles them.
    """
    rows = [_html_row(table, name, row) for name, row in zip(row_names(table), table.cells, strict=True)]
    notes = [f"<li>{escape(note)}</li>" for note in notes_of(table)]
    return "\n".join(
        [
            '<table class="gaussad">',
            f"<caption><span>{escape(title_of(table))}</span></caption>",
            *_html_head(table),
            "<tbody>",
            *rows,
            "</tbody>",
            "</table>",
            '<ul class="gaussad-notes">',
            *notes,
            "</ul>\n",
        ]
    )


def as_page(tables: Sequence[Table]) -> str:
    """Render one self-contained page of tables, light and dark."""
    return _PAGE.format(css=TABLE_CSS, body="\n".join(f'<div class="wide">\n{as_html(one)}</div>' for one in tables))


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup."""
    return _MARKUP.sub(lambda match: {"<": "&lt;", ">": "&gt;"}.get(match[0], "\\" + match[0]), text)


def _markdown_cell(cell: Cell, table: Table, best: bool) -> str:
    value = measured(cell, table)
    text = str(value._replace(mean=f"**{value.mean}**") if best else value)
    return text if cell.published_mean is None else f"{text} ({paper(cell)}, {difference(cell)})"


def _html_head(table: Table) -> list[str]:
    """Return two lines of heads: the columns' titles, and what their cells are."""
    titles = [f'<th class="rows" scope="col" rowspan="2">{escape(table.row_title)}</th>']
    kinds = []
    for index, title in enumerate(column_titles(table)):
        names = ("measured", "paper", "difference") if is_published(table, index) else ("measured",)
        titles.append(f'<th scope="colgroup" colspan="{len(names)}">{escape(title)}</th>')
        kinds += [f'<th class="{name}" scope="col">{name}</th>' for name in names]
    return ["<thead>", f"<tr>{''.join(titles)}</tr>", f"<tr>{''.join(kinds)}</tr>", "</thead>"]


def _html_row(table: Table, name: str, row: Sequence[Cell]) -> str:
    best = best_of(table, row)
    cells = [
        value
        for index, cell in enumerate(row)
        for value in _html_cells(table, cell, index in best, is_published(table, index))
    ]
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def _html_cells(table: Table, cell: Cell, best: bool, published: bool) -> list[str]:
    value = escape(str(measured(cell, table)))
    cells = [
        f'<td class="measured best"><strong>{value}</strong></td>' if best else f'<td class="measured">{value}</td>'
    ]
    if published:
        size = size_of(cell)
        cells.append(f'<td class="paper">{escape(str(paper(cell)))}</td>')
        cells.append(f'<td class="difference{f" {size}" if size else ""}">{difference(cell)}</td>')
    return cells
