"""A detector of one's own: train, predict, update."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.cli.options import (
    BatchSize,
    Cache,
    Device,
    Engine,
    Padding,
    Precision,
    Var,
    Verify,
    Weights,
    Workers,
    canonical_names,
    note,
)
from gaussad_cli.errors import UserError, interruptible

if TYPE_CHECKING:
    from tqdm import tqdm

    from gaussad_cli.datasets.own import OwnImages
    from gaussad_cli.gaussian.compression import Compression

_INTERVAL = 0.5  # seconds between two looks at a watched folder
ANOMALY_FOUND = 3  # exit status where that was asked for
Normal = Annotated[Optional[Path], typer.Option(help="Folder of normal images; every image below it.")]
Anomalous = Annotated[Optional[Path], typer.Option(help="Folder of anomalous images, if there are any.")]
ModelFile = Annotated[Path, typer.Argument(help="Model file, such as screw.gaussad.")]


def train_model(
    ctx: typer.Context,
    normal: Normal = None,
    anomalous: Anomalous = None,
    out: Annotated[Optional[Path], typer.Option(help="Model file to write, such as screw.gaussad.")] = None,
    data: Annotated[Optional[Path], typer.Option(help="Instead: a folder in the MVTec layout, and --category.")] = None,
    csv: Annotated[
        Optional[Path], typer.Option("--csv", help="Instead: a list with columns path, label, split, category.")
    ] = None,
    category: Annotated[Optional[str], typer.Option(help="Of --data, or of --csv where it has several.")] = None,
    fpr: Annotated[float, typer.Option(help="Wanted false-positive rate.")] = 0.01,
    auto: Annotated[
        bool, typer.Option("--auto", help="Choose backbone, level and mode by how well they tell the anomalies.")
    ] = False,
    backbone: Annotated[
        Optional[list[str]], typer.Option(help="Such as efficientnet-lite0.  [default: efficientnet-b4]")
    ] = None,
    levels: Annotated[
        Optional[str],
        typer.Option(help="Several are averaged.  [default: 7; of networks with fewer, the last but one]"),
    ] = None,
    mode: Annotated[str, typer.Option(help="all, pca or npca.")] = "all",
    var: Var = None,
    weights: Weights = None,
    verify: Verify = True,
    padding: Padding = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    cache: Cache = Path("cache"),
) -> None:
    """Train a detector on good images, or one of the paper's comparators.

    A folder of good images becomes a model file: a Gaussian on the features of all of them, and a threshold for --fpr
    that is calibrated on images held out. Images may come as --normal DIR, --data DIR --category NAME, or --csv FILE.

    The commands below train and evaluate comparators of Tables V and VIII instead; every finished epoch is kept in the
    cache, and an interrupted training goes on from there.

    Example: gaussad train --normal screws/good --out screw.gaussad --fpr 0.01

    Example: gaussad train classifier --data mvtec --backbone resnet-18
    """
    if ctx.invoked_subcommand is not None:
        return
    if out is None or out.is_dir():
        raise UserError("say where the model goes: --out screw.gaussad, a file.")
    if auto and (levels is not None or mode != "all" or var is not None):
        raise UserError("--auto chooses level and mode itself: leave out --levels, --mode and --var.")
    from gaussad_cli.backbones.resolve import NetworkOptions, check
    from gaussad_cli.detector.container import write_model
    from gaussad_cli.detector.train import DEFAULT_BACKBONE, Looking, report, train, train_best
    from gaussad_cli.extraction.engine import Compute

    images = _own_images(normal, anomalous, data, csv, category)
    names = canonical_names(backbone or [DEFAULT_BACKBONE])
    compute = Compute(engine, device, precision, batch_size, workers)
    looking = Looking(weights, verify, padding, compute, cache)
    if len(names) > 1 and (weights is not None or not auto):
        raise UserError("several --backbone go with --auto, and without --weights.")
    for name in names:
        check(NetworkOptions(name, levels, weights, padding, verify))
    if auto:
        trained = train_best(images, names, fpr, looking)
    else:
        trained = train(images, names, levels, _compression(mode, var), fpr, looking)
    write_model(out, trained.model)
    note(report(trained))
    typer.echo(out)


def _compression(mode: str, var: float | None) -> Compression:
    from gaussad_cli.evaluation.scorings import Setting, choose_scorings

    (scoring,) = choose_scorings("mahalanobis", Setting(mode, var))
    return scoring.compression


def _own_images(
    normal: Path | None, anomalous: Path | None, data: Path | None, csv: Path | None, category: str | None
) -> OwnImages:
    from gaussad_cli.datasets.own import of_category, of_csv, of_folders

    if sum(source is not None for source in (normal, data, csv)) != 1:
        raise UserError("say where the images are: --normal DIR, or --data DIR --category NAME, or --csv FILE.")
    if anomalous is not None and normal is None:
        raise UserError("--anomalous goes with --normal.")
    if csv is not None:
        return of_csv(csv, category)
    if data is not None:
        if category is None:
            raise UserError("--data DIR goes with --category NAME here: a model is of one kind of object.")
        return of_category(data, category)
    return of_folders(normal or Path(), anomalous)


def predict(
    model: ModelFile,
    images: Annotated[
        Optional[list[str]], typer.Argument(help="Images, folders of them, or - for a list on stdin.")
    ] = None,
    style: Annotated[str, typer.Option("--format", help="csv or json (a line each).")] = "csv",
    threshold: Annotated[Optional[float], typer.Option(help="Instead of the model's own.")] = None,
    fpr: Annotated[Optional[float], typer.Option(help="The threshold for another false-positive rate.")] = None,
    copy_to: Annotated[Optional[Path], typer.Option(help="Sort copies into DIR/normal, DIR/anomalous.")] = None,
    watch: Annotated[
        Optional[Path], typer.Option(help="Score files as they arrive in a folder; end by Ctrl-C.")
    ] = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit 3 if an image is anomalous.")
    ] = False,
    weights: Weights = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    cache: Cache = Path("cache"),
) -> None:
    """Score images by a trained model: path, decision, score, p-value, and the distance at every level.

    The p-value is the share of held-out normal images at least as far out. A file that cannot be read is a row with an
    error, and exit status 2 after all the rest.

    Example: gaussad predict screw.gaussad screws/new --copy-to sorted

    Example: find . -name '*.png' | gaussad predict screw.gaussad - --format json
    """
    from gaussad_cli.detector.container import read_model
    from gaussad_cli.detector.predict import (
        ANOMALOUS,
        ERROR,
        FORMATS,
        NORMAL,
        Writer,
        check_apart,
        check_threshold,
        expand,
        open_engine,
        threshold_for,
    )
    from gaussad_cli.detector.predict import copy_to as copy
    from gaussad_cli.detector.predict import predict as score
    from gaussad_cli.detector.predict import watch as stay
    from gaussad_cli.detector.train import Looking
    from gaussad_cli.extraction.engine import Compute

    if style not in FORMATS:
        raise UserError(f"unknown format '{style}'. Known: {', '.join(FORMATS)}.")
    if bool(images) == (watch is not None):
        raise UserError("say which images: files, folders, or - for a list on stdin; or --watch DIR.")
    check_threshold(threshold)
    if copy_to is not None:
        check_apart(copy_to, [watch] if watch else map(Path, images or []))
    read = read_model(model)
    line = threshold_for(read, threshold, fpr)
    compute = Compute(engine, device, precision, batch_size, workers)
    looking = Looking(weights, False, None, compute, cache)
    if watch or (batch_size == 1 and images == ["-"]):  # answers as they are asked for
        looking = dataclasses.replace(looking, compute=dataclasses.replace(compute, batch_size=1), ahead=0)
    engine_ = open_engine(read, looking, note)
    paths = stay(watch, _INTERVAL) if watch else expand(images or [], sys.stdin)
    root = watch or (Path(images[0]) if images and len(images) == 1 and Path(images[0]).is_dir() else None)
    write = Writer(style, read.level_numbers, lambda text: typer.echo(text, nl=False))
    counts = {NORMAL: 0, ANOMALOUS: 0, ERROR: 0}
    with _bar(watch) as bar, interruptible("interrupted. What was written is kept."):
        for batch in score(read, engine_, paths, line, looking):
            for one in batch:
                write(one)
                counts[one.decision] += 1
                if copy_to is not None:
                    copy(copy_to, one, root)
            sys.stdout.flush()
            bar.update(len(batch))
    note(", ".join(f"{n} {decision}" for decision, n in counts.items() if n) or "no image.")
    if counts[ERROR]:
        raise UserError(f"{counts[ERROR]} of {sum(counts.values())} files could not be scored: see their rows.")
    if fail_on_anomaly and counts[ANOMALOUS]:
        raise typer.Exit(ANOMALY_FOUND)


def _bar(watch: Path | None) -> tqdm[None]:
    from tqdm import tqdm

    hidden = True if watch or sys.stdout.isatty() else None  # rows on the same terminal show how far it is
    return tqdm(desc="predict", unit="img", disable=hidden, dynamic_ncols=True)


def update(
    model: ModelFile,
    normal: Annotated[Path, typer.Option(help="Folder of normal images to add.")],
    out: Annotated[Optional[Path], typer.Option(help="Model file to write.  [default: the same]")] = None,
    weights: Weights = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    cache: Cache = Path("cache"),
) -> None:
    """Add normal images to a model: the same Gaussian as training on all images, without the old ones.

    The new images' distances to the old model join the calibration. Images that the model has already are left out.

    Example: gaussad update screw.gaussad --normal screws/good-of-today
    """
    from gaussad_cli.detector.container import read_model, write_model
    from gaussad_cli.detector.predict import add_images
    from gaussad_cli.detector.train import Looking
    from gaussad_cli.extraction.engine import Compute

    read = read_model(model)
    compute = Compute(engine, device, precision, batch_size, workers)
    looking = Looking(weights, False, None, compute, cache)
    new, known = add_images(read, normal, looking, note)
    write_model(out or model, new)
    now, before = new.calibration, read.calibration
    note(
        f"{len(new.hashes) - len(read.hashes)} added, {known} were there already: {new.levels[0].n} in all; "
        f"threshold {now.threshold:.6g} (was {before.threshold:.6g}) for a rate of {now.fpr:g}."
    )
    typer.echo(out or model)
