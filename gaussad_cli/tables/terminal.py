"""Tables in a terminal: as wide as it is, with colours."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import Table
from gaussad_cli.tables.text import GAP, aligned

_COLOURS = {"near": "green", "off": "yellow", "far": "red"}
_NAME = 16  # characters that the names of rows may take in any terminal


def print_table(table: Table, console: Console) -> None:
    """Print a table: differences are coloured by size, and the best of a row is bold.

    A table that is wider than the console is broken into blocks of columns, each with the names of the rows.
    """
    names = [words.row_name(name) for name in table.rows]
    columns = [_column(table, index) for index in range(len(table.columns))]
    widths = [GAP + len(column[-1]) for column in columns]
    first = min(max(map(len, [table.row_title, *names])), max(_NAME, console.width // 3))
    console.print(Text(words.title(table), style="bold"))
    for block in words.break_columns(widths, console.width - first):
        grid = Grid(box=box.MINIMAL, show_edge=False, pad_edge=False)
        grid.add_column(Text(table.row_title), vertical="bottom")
        for index in block:
            grid.add_column(columns[index][0], width=widths[index] - GAP, vertical="bottom")
        for name, *cells in zip(names, *(columns[index][1:] for index in block), strict=True):
            grid.add_row(Text(name), *cells)
        console.print("", grid)
    sizes = [words.SIZES] if any(map(words.size, table.all_cells())) else []
    console.print("", *(Text(words.printable(note)) for note in (*table.notes, *sizes)), "", sep="\n")


def _column(table: Table, index: int) -> list[Text]:
    """Return a column's heading and cells; the heading's title is wrapped to the width of the cells."""
    title = words.printable(table.columns[index].title)
    names, *lines = aligned(table, index, max(map(len, title.split()), default=0))
    column = [Text(f"{title}\n{'  '.join(names)}")]
    for row, line in zip(table.cells, lines, strict=True):
        bold = "bold" if index in words.best_of(row, table.number) else ""
        styles = (bold, "", _COLOURS.get(words.size(row[index]), ""))
        column.append(Text("  ").join(Text(text, style) for text, style in zip(line, styles, strict=False)))
    return column
