"""matplotlib figures as inline SVG with the colours and the font of the page, light or dark."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that nothing else uses: matplotlib draws with them, then they are replaced by the page's CSS variables.
INK, FAINT, GRID = "#010101", "#010102", "#010103"
SERIES = tuple(f"#0102{number:02x}" for number in range(1, 9))
_VARIABLES = {INK: "ink", FAINT: "faint", GRID: "grid"} | {c: f"c{n}" for n, c in enumerate(SERIES)}
WIDTH, HEIGHT = 3.3, 2.6  # inches; the page scales a panel to the width of its place


def new_panel(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return a figure of one panel, styled like the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(which="both", colors=FAINT, labelcolor=INK, labelsize=8)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Name a panel and its axes."""
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)


def legend(axes: Axes, where: Literal["best", "upper left", "upper right", "lower right"] = "best") -> None:
    """Show a panel's legend."""
    axes.legend(loc=where, fontsize=7, frameon=False, labelcolor=INK, handlelength=1.6)


def as_svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an SVG element for HTML.

    Parameters
    ----------
    name : unique in the page; the ids inside the drawing begin with it
    description : for readers who do not see it
    """
    from html import escape

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gaussad"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id=")([^"]+)"', rf'\g<1>{name}-\g<2>"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(font: (?:[a-z0-9]+ )*?[\d.]+px) [^;"]+', r"\g<1> var(--font)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"(<svg[^>]*?) (?:width|height)=\"[^\"]*\"", r"\g<1>", svg)
    svg = re.sub(r"(<svg[^>]*?) (?:width|height)=\"[^\"]*\"", r"\g<1>", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
