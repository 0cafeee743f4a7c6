"""Tables in every format."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.latex import as_latex
from gaussad_cli.tables.markup import as_markdown, as_page
from gaussad_cli.tables.text import as_text

STYLES = {"text": "txt", "markdown": "md", "latex": "tex", "html": "html", "csv": "csv"}  # format -> suffix


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


def render_all(tables: Sequence[Table], style: str, colour: bool = False) -> str:
    """Render tables in a format of :data:`STYLES`; `colour` is for text in a terminal."""
    if style == "csv":
        return as_csv(tables)
    if style == "html":
        return as_page(tables)
    if style == "text":
        return "\n".join(as_text(table, colour) for table in tables)
    render: Callable[[Table], str] = as_markdown if style == "markdown" else as_latex
    return "\n".join(map(render, tables))
