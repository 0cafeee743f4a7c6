"""The pictures of the README: a table as the terminal shows it, and the report of the demo in a browser.

python -m scripts.pictures table results mvtec3 3     # docs/pictures/table.svg
python -m scripts.pictures report gaussad-demo/results/demo/report.html    # docs/pictures/report.png, by Chromium
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def table(results: Path, dataset: str, number: int, backbone: str = "efficientnet-b4", width: int = 120) -> None:
    """Draw a table as SVG."""
    from rich.console import Console

    from gaussad_cli.tables.terminal import print_table
    from gaussad_cli.tables.write import build_all

    (first, *_) = build_all([number], [backbone], results, dataset).tables
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    print_table(first, console)
    PICTURES.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title=f"gaussad tables --table {number}")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")  # nothing is fetched
    (PICTURES / "table.svg").write_text(svg, "utf-8")


@app.command()
def report(page: Path, width: int = 1280, height: int = 1500) -> None:
    """Photograph a report, in light."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("pictures: no Chromium here (apt install chromium)")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
            + [f"--window-size={width},{height}", f"--screenshot={PICTURES / 'report.png'}", page.resolve().as_uri()],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    app()
