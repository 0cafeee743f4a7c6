"""The page: what `gaussad report` writes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gaussad_cli import __version__
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.manifests import ResultsManifest, facts
from gaussad_cli.evaluation.results import metrics_path, read_manifests, read_metrics
from gaussad_cli.files import write_whole
from gaussad_cli.report.content import Content, gather
from gaussad_cli.tables.build import build_tables
from gaussad_cli.tables.markup import TABLE_CSS, as_html

TABLES = (1, 2, 3, 4, 5, 7, 8)


def write_report(results: Path, dataset: str | None, data: Path | None, backbone: str | None, out: Path | None) -> Path:
    """Write one self-contained HTML file; return where it is.

    Parameters
    ----------
    data : folder of the images, for thumbnails; None for none
    backbone : whose distances are shown in detail; None: the best
    out : the file; None: report.html beside the metrics

    Raises
    ------
    UserError
        If there are no results, a file is damaged, or the page cannot be written.
    """
    metrics = read_metrics(results, dataset)
    name = str(metrics["dataset"].iloc[0])
    if data is not None and not data.is_dir():
        raise UserError(f"no such folder: {data}. Give the folder that holds the categories with --data.")
    content = gather(results, name, metrics, data, backbone)
    tables = [as_html(table) for number in TABLES for table in build_tables(number, metrics)]
    page = render(content, tables, [_summary(manifest) for manifest in read_manifests(results, name)])
    path = out or metrics_path(results, name).parent / "report.html"
    write_whole(path, lambda file: file.write(page.encode()))
    return path


@dataclass(frozen=True)
class Summary:
    """What a manifest says, in words."""

    title: str
    facts: tuple[tuple[str, str], ...]


def _summary(manifest: ResultsManifest) -> Summary:
    """Say once what is the same for all categories, and name the category of what is not."""
    cells = {
        name: [cell for record in records for cell in record.cells] for name, records in manifest.categories.items()
    }
    values: dict[str, dict[str, str]] = {}
    for (what, category), value in facts(manifest, cells).items():
        values.setdefault(what, {})[category] = value
    lines = []
    for what, by_category in values.items():
        distinct = set(by_category.values())
        each = "; ".join(f"{category}: {value}" for category, value in by_category.items())
        lines.append((what, distinct.pop() if len(distinct) == 1 else each))
    return Summary(f"{manifest.backbone}, {manifest.key}", tuple(lines))


def render(content: Content, tables: list[str], manifests: list[Summary]) -> str:
    """Fill the template; everything but our own SVG and tables is escaped."""
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
