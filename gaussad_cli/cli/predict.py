"""`gaussad predict`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.layout import IMAGES, OUTPUT
from gaussad_cli.cli.options import (
    BatchSize,
    Cache,
    DecideAt,
    DecideBy,
    Device,
    Engine,
    ModelFiles,
    Precision,
    Weights,
    Workers,
    choice,
    note,
)
from gaussad_cli.errors import UserError, escaped

FORMATS = ("csv", "json")
ANOMALY_FOUND = 3  # exit status with --fail-on-anomaly


def predict(
    model: ModelFiles,
    images: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="IMAGES", help="Images, folders of images, or - for a list of paths on stdin."),
    ] = None,
    style: Annotated[
        str,
        choice(FORMATS, "--format", help="Print rows like this; json has an object per line.", rich_help_panel=OUTPUT),
    ] = "csv",
    threshold: DecideBy = None,
    fpr: DecideAt = None,
    copy_to: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DIR",
            help="Sort copies of the files into DIR/normal, DIR/anomalous and DIR/error.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    maps: Annotated[
        Optional[Path],
        typer.Option(
            help="Write heat maps into DIR under the images' paths: .overlay.png, .mask.png (255 beyond the "
            "threshold), and .npy (the distances of all places, float32).",
            metavar="DIR",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    watch: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DIR",
            help="Score the images that arrive in this folder, until Ctrl-C.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    listed: Annotated[
        Optional[Path],
        typer.Option(
            "--csv",
            help="Score the images that this CSV file lists, each by the model that it names: its columns are path "
            "(from the file's folder) and model.",
            metavar="FILE",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            help="End names in the list on stdin by NUL, as find -print0 does.",
            rich_help_panel=IMAGES,
        ),
    ] = False,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with status 3 if an image is anomalous.")
    ] = False,
    weights: Weights = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    cache: Cache = Path("cache"),
) -> None:
    """Score images with a trained model, or each with its own: path, decision, score, p-value, where it deviates.

    That is the place that deviates most and the box around it, in pixels; a pooled model gives the distance at every
    level instead.

    The p-value is the share of held-out normal images that are at least as far out. A file that cannot be read gets a
    row with an error; the exit status is 2 then, after all other files are done.

    Of a folder of models, screw.gaussad scores the images below a folder called screw, the nearest one counts; or --csv
    says which model scores which image. A column says which it was.

    Example: gaussad predict screw.gaussad screws/new --copy-to sorted --maps maps

    Example: gaussad predict models parts --maps maps

    Example: find . -name '*.png' | gaussad predict screw.gaussad - --format json
    """
    from gaussad_cli.detector.model_folder import open_models, read_list
    from gaussad_cli.detector.models import Opening
    from gaussad_cli.detector.predict import FilesToScore, PredictionOutput, predict_files
    from gaussad_cli.extraction.engine import Compute

    model_of = None if listed is None else read_list(listed)
    files = FilesToScore(tuple(images or ()), watch, null, note, tuple(model_of or ()))
    output = PredictionOutput(style, _write_row, copy_to, maps)
    files.check(copy_to, maps)
    compute = Compute(engine, device, precision, batch_size, workers)
    models = open_models(model, Opening(compute, cache, weights, threshold, fpr, note), model_of)
    _summarise(predict_files(models, files, output), fail_on_anomaly)


def _write_row(row: str) -> None:
    """Write a row and its line end: as it is where it is piped, escaped on a terminal."""
    typer.echo(f"{escaped(row[:-1])}\n" if sys.stdout.isatty() else row, nl=False)


def _summarise(by_model: dict[str, dict[str, int]], fail_on_anomaly: bool) -> None:
    from gaussad_cli.detector.predict import ANOMALOUS, ERROR, NORMAL, describe_counts

    if not by_model:
        raise UserError("there is no image to score: give image files, or folders that hold some.")
    for name, own in sorted(by_model.items()):
        is_one = len(by_model) == 1 and not name
        note(describe_counts(own) if is_one else f"{name or 'no model'}: {describe_counts(own)}")
    counts = sum(map(Counter, by_model.values()), Counter[str]())
    if counts[ERROR]:
        n_files = counts[NORMAL] + counts[ANOMALOUS] + counts[ERROR]
        raise UserError(f"{counts[ERROR]} of {n_files} files could not be scored: see their rows.")
    if fail_on_anomaly and counts[ANOMALOUS]:
        raise typer.Exit(ANOMALY_FOUND)
