"""The command demo: a complete run on embedded images and weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from gaussad_cli.cli.options import note, program
from gaussad_cli.cli.tables import render_tables


def demo(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Write the demo's data, cache and results here.")] = Path(
        "gaussad-demo"
    ),
) -> None:
    """Run everything on the images of 'pip install gaussad[demo]': a minute, without data set or network connection."""
    from gaussad_cli.datasets.demo import write_demo_data
    from gaussad_cli.datasets.index import find_categories
    from gaussad_cli.experiments.config import Overrides
    from gaussad_cli.experiments.execute import Setup, execute
    from gaussad_cli.experiments.plan import one_step, plan_stages

    data, cache, results = folder / "data", folder / "cache", folder / "results"
    note("Textile images (conformal-clip-data), EfficientNet-Lite0; 300 normal images to fit, 400 to test.")
    write_demo_data(data)
    overrides = Overrides(("efficientnet-lite0",))
    setup = Setup(data, "demo", find_categories(data), cache, results)
    step = dataclasses.replace(one_step(overrides), epochs=(0,))
    execute(plan_stages([step], overrides), setup, note)
    typer.echo(render_tables([1, 3], None, results, "demo", "text"))
    typer.echo(
        f"Images    {data / 'textile'}  (the layout to bring your own in)\n"
        f"Features  {cache}\n"
        f"Results   {results / 'demo' / 'metrics.csv'}, scores/, tables/\n\n"
        "A report with figures and images:\n"
        f"  {program()} report --results {results} --data {data}\n"
        "Next, on your own images in that layout:\n"
        f"  {program()} run --data YOUR_FOLDER --backbone efficientnet-lite0\n"
        "or a single score of what the demo extracted:\n"
        f"  {program()} evaluate --backbone efficientnet-lite0 --mode npca --var 0.01 --cache {cache} --out {results}"
    )
