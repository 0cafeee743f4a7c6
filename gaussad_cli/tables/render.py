"""Tables in any format."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.latex import NEEDS, as_latex
from gaussad_cli.tables.markup import TABLE_CSS, as_html, as_markdown, as_page
from gaussad_cli.tables.text import WIDTH, as_text

__all__ = ["STYLES", "TABLE_CSS", "as_csv", "as_html", "as_latex", "as_markdown", "as_text", "render_all"]

STYLES = {"text": "txt", "markdown": "md", "latex": "tex", "csv": "csv", "html": "html"}  # format -> suffix
_CSV_COLUMNS = (
    *("table", "backbone", "weights", "padding", "key", "epochs", "score", "mode", "var"),
    *("level", "category", "quantity", "sigma", "categories", "n_categories"),
    *("mean", "sem", "paper_mean", "paper_sem", "difference"),
)


def as_csv(tables: Sequence[Table]) -> str:
    """Write one row per cell, full precision, percent."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
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


def render_all(tables: Sequence[Table], style: str, colour: bool = False, width: int | None = None) -> str:
    """Render tables in one of `STYLES`.

    Parameters
    ----------
    colour, width : of text, for a terminal; width None for a file's
    """
    if style == "csv":
        return as_csv(tables)
    if style == "html":
        return as_page(tables)
    if style == "latex":
        return "\n".join([NEEDS, *map(as_latex, tables)])
    if style == "markdown":
        return "\n".join(map(as_markdown, tables))
    return "\n".join(as_text(table, colour, width or WIDTH) for table in tables)
