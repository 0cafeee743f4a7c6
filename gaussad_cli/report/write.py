"""The page that `gaussad report` writes."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from gaussad_cli import __version__
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.manifests import ResultsManifest, check_images, facts
from gaussad_cli.evaluation.results import choose_dataset, metrics_path, read_manifests, read_metrics
from gaussad_cli.files import write_whole
from gaussad_cli.report.content import Content, gather
from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.known import NAMES
from gaussad_cli.tables.markup import TABLE_CSS, as_html


def write_report(results: Path, dataset: str | None, data: Path | None, backbone: str | None, out: Path | None) -> Path:
    """Write one self-contained HTML file, and return its path.

    Parameters
    ----------
    data : folder of the images, for thumbnails; None for a report without images
    backbone : the one whose distances are shown in detail; None for the best
    out : the file to write; None for report.html beside the metrics

    Raises
    ------
    UserError
        If there are no results, they come from different data, a file is damaged, or the page cannot be written.
    """
    name = choose_dataset(results, dataset)
    read = read_manifests(results, name)
    check_images(results / name, read)
    metrics = read_metrics(results, name)
    if data is not None and not data.is_dir():
        raise UserError(f"no such folder: {data}. Give the folder that holds the categories with --data.")
    content = gather(results, name, metrics, data, backbone)
    examples = content.all_examples
    if data is not None and examples and not any(example.picture for example in examples):
        raise UserError(
            f"none of the images that the page shows can be read in {data}, such as {examples[0].name} of "
            f"{content.categories[0]}: give the folder that holds the categories with --data."
        )
    tables = [as_html(table) for number in NAMES for table in build_tables(number, metrics)]
    manifests = {f"{manifest.backbone}, {manifest.key}": _summarise(manifest) for manifest in read}
    page = _render(content, tables, manifests)
    path = out or metrics_path(results, name).parent / "report.html"
    write_whole(path, lambda file: file.write(page.encode()))
    return path


def _summarise(manifest: ResultsManifest) -> dict[str, str]:
    """State every fact once if it is the same for all categories, otherwise for each category."""
    cells = {
        name: [cell for record in records for cell in record.cells] for name, records in manifest.categories.items()
    }
    values: dict[str, dict[str, str]] = {}
    for (what, category), value in facts(manifest, cells).items():
        values.setdefault(what, {})[category] = value
    summary = {}
    for what, by_category in values.items():
        each = "; ".join(f"{category}: {value}" for category, value in by_category.items())
        distinct = set(by_category.values())
        summary[what] = distinct.pop() if len(distinct) == 1 else each
    return summary


def _render(content: Content, tables: list[str], manifests: dict[str, dict[str, str]]) -> str:
    """Fill the template; everything but gaussad's own SVG and tables is escaped."""
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["drawing"] = lambda panel: Markup(panel.svg)
    template = resources.files("gaussad_cli.report").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(template).render(
        content=content,
        tables=[Markup(table) for table in tables],
        table_css=Markup(TABLE_CSS),
        manifests=manifests,
        version=__version__,
    )
