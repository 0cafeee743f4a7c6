"""Tables as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from gaussad_cli.evaluation.evaluate import SUM
from gaussad_cli.tables.cells import MEAN, Cell, Table, is_partial

ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", 7: "VII", 8: "VIII"}
NOTHING = "-"
_WIDTH = 180  # characters, of a text table
_GAP = 3  # between columns


def as_text(table: Table) -> str:
    """Lay a table out in aligned columns: measured, then the paper's and the difference where there is one.

    A table that is too wide for most screens is broken into blocks of columns, each with the rows' names.
    """
    names = [[""], [table.row_title], *([_row_name(row)] for row in table.rows)]
    first = max(len(line[0]) for line in names)
    blocks: list[list[list[str]]] = []
    room = 0
    for index, column in enumerate(table.columns):
        lines = _text_column(table, index, column.title)
        if not blocks or len(lines[0]) + _GAP > room:
            blocks.append([[line[0].ljust(first)] for line in names])
            room = _WIDTH - first
        room -= len(lines[0]) + _GAP
        for line, value in zip(blocks[-1], lines, strict=True):
            line.append(value)
    shown = [[" | ".join(line).rstrip() for line in block] for block in blocks]
    body = [line for block in shown for line in (*block[:2], "-" * max(map(len, block)), *block[2:], "")]
    return "\n".join([_title(table), "", *body, *table.notes]) + "\n"


def _text_column(table: Table, index: int, title: str) -> list[str]:
    """Return a column's title, sub-titles and cells, all of one width."""
    cells = [row[index] for row in table.cells]
    parts = [("measured", _measured(table))]
    if any(cell.published_mean is not None for cell in cells):
        parts += [("paper", _paper), ("diff", _difference)]
    block = [[name, *map(render, cells)] for name, render in parts]
    widths = [max(map(len, lines)) for lines in block]
    widths[0] += max(0, len(title) - sum(widths) - 2 * (len(widths) - 1))
    lines = [
        "  ".join(value.rjust(width) for value, width in zip(values, widths, strict=True))
        for values in zip(*block, strict=True)
    ]
    return [title.ljust(len(lines[0])), *lines]


def as_markdown(table: Table) -> str:
    """Render a GitHub table; cells read measured (paper, difference)."""
    lines = [[table.row_title.capitalize(), *(column.title for column in table.columns)]]
    lines += [
        [_row_name(name), *(_markdown_cell(cell, table) for cell in row)]
        for name, row in zip(table.rows, table.cells, strict=True)
    ]
    rule = "|".join(["---", *("---:" for _ in table.columns)])
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"**{_title(table)}**", "", body[0], f"|{rule}|", *body[1:], "", *table.notes]) + "\n"


def as_csv(tables: Sequence[Table]) -> str:
    """Write one row per cell, full precision, percent."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["table", "backbone", "weights", "padding", "key", "epochs", "score", "mode", "var"]
        + [
            "level",
            "category",
            "quantity",
            "sigma",
            "categories",
            "n_categories",
            "mean",
            "sem",
            "paper_mean",
            "paper_sem",
            "difference",
        ]
    )
    for table in tables:
        for row in table.cells:
            for cell in row:
                if cell.quantity and cell.source:
                    names = [cell.source.epochs, cell.source.score, cell.source.mode, cell.source.var]
                    what = [cell.level, cell.category, cell.quantity, cell.sigma]
                    over = [" ".join(cell.categories), len(cell.categories)]
                    numbers = [cell.mean, cell.sem, cell.published_mean, cell.published_sem, cell.difference]
                    writer.writerow([table.number, *cell.source.variant, *names, *what, *over, *numbers])
    return buffer.getvalue()


def render_all(tables: Sequence[Table], style: str) -> str:
    """Render tables as ``text``, ``markdown`` or ``csv``."""
    if style == "csv":
        return as_csv(tables)
    render: Callable[[Table], str] = as_markdown if style == "markdown" else as_text
    return "\n".join(render(table) for table in tables)


def _row_name(name: str) -> str:
    return name.capitalize() if name == MEAN or name.startswith(SUM) else name


def _title(table: Table) -> str:
    return f"Table {ROMAN[table.number]}. {table.title}"


def _measured(table: Table) -> Callable[[Cell], str]:
    def render(cell: Cell) -> str:
        if cell.mean is None:
            return NOTHING if cell.quantity else ""
        return _with_sem(cell.mean, cell.sem) + ("†" if is_partial(cell, table) else "")

    return render


def _paper(cell: Cell) -> str:
    if not cell.quantity:
        return ""
    return NOTHING if cell.published_mean is None else _with_sem(cell.published_mean, cell.published_sem)


def _difference(cell: Cell) -> str:
    if not cell.quantity:
        return ""
    return NOTHING if cell.difference is None else f"{round(cell.difference, 1) + 0.0:+.1f}"  # never -0.0


def _with_sem(mean: float, sem: float | None) -> str:
    return f"{mean:.1f}" if sem is None else f"{mean:.1f} ±{sem:.1f}"


def _markdown_cell(cell: Cell, table: Table) -> str:
    text = _measured(table)(cell)
    if cell.published_mean is None:
        return text
    return f"{text} ({_paper(cell)}, {_difference(cell)})"
