"""Extraction on a cluster: every category is a task, and a worker (one per GPU) works on one task at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.extract import ExtractionReport, Request, extract_dataset
from gaussad_cli.parallel import Distribution, run_tasks


def extract_on_cluster(
    request: Request, augmented: Callable[[Path], object] | None, scheduler: str
) -> ExtractionReport:
    """Extract every category on some worker of a dask cluster; see :func:`extract_dataset`.

    All workers must see the data and the cache under the same paths.

    Raises
    ------
    UserError
        If no scheduler answers, or no category could be extracted.
    """
    names = [category.name for category in find_categories(request.data, request.categories)]
    networks = [replace(net, weights=net.weights and net.weights.resolve()) for net in request.networks]
    absolute = replace(request, networks=networks, data=request.data.resolve(), cache=request.cache.resolve())
    tasks = [(replace(absolute, categories=[name]), augmented) for name in names]
    results = run_tasks(_extract, tasks, Distribution(scheduler=scheduler))
    bar = tqdm(results, total=len(tasks), desc="extract", unit="category", disable=None, dynamic_ncols=True)
    outcomes = list(bar)
    reports = [outcome for outcome in outcomes if isinstance(outcome, ExtractionReport)]
    problems = [str(outcome) for outcome in outcomes if isinstance(outcome, UserError)]
    if not reports:
        raise UserError(" ".join(dict.fromkeys(problems)))
    return _together(reports, problems)


def _extract(request: Request, augmented: Callable[[Path], object] | None) -> ExtractionReport | UserError:
    try:
        return extract_dataset(request, augmented)
    except UserError as problem:
        return problem


def _together(reports: Sequence[ExtractionReport], problems: Sequence[str]) -> ExtractionReport:
    """Combine the reports of all categories; `seconds` adds up working time, without waiting."""
    first = reports[0]
    messages = [*filter(None, (report.problem for report in reports)), *problems]
    return replace(
        first,
        categories=tuple(name for report in reports for name in report.categories),
        extracted=sum(report.extracted for report in reports),
        already_there=sum(report.already_there for report in reports),
        seconds=sum(report.seconds for report in reports),
        problem=" ".join(dict.fromkeys(messages)) or None,
    )
