"""Tables in the formats of files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.known import NAMES
from gaussad_cli.tables.latex import as_latex
from gaussad_cli.tables.markup import as_markdown, as_page
from gaussad_cli.tables.text import as_text

_COLUMNS = (
    *("table", "backbone", "weights", "padding", "key", "epochs", "score", "mode", "var"),
    *("level", "category", "quantity", "sigma", "categories", "n_categories"),
    *("mean", "sem", "paper_mean", "paper_sem", "difference"),
)
_RENDERERS: dict[str, Callable[[Table], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}


def render_all(tables: Sequence[Table], style: str) -> str:
    """Render tables in a format of :data:`gaussad_cli.tables.known.SUFFIXES`."""
    if style == "csv":
        return as_csv(tables)
    if style == "html":
        return as_page(tables)
    return "\n".join(map(_RENDERERS[style], tables))


def as_csv(tables: Sequence[Table]) -> str:
    """Write a row per cell, in percent, at full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in tables:
        for cell in table.all_cells():
            if cell.quantity and cell.source:
                names = [cell.source.epochs, cell.source.score, cell.source.mode, cell.source.var]
                shown = [cell.level, cell.category, cell.quantity, cell.sigma]
                over = [" ".join(cell.categories), len(cell.categories)]
                numbers = [cell.mean, cell.sem, cell.published_mean, cell.published_sem, cell.difference]
                writer.writerow([NAMES[table.number], *cell.source.variant, *names, *shown, *over, *numbers])
    return buffer.getvalue()
