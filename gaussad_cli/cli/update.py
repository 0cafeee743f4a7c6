"""`gaussad update`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.layout import IMAGES, OUTPUT
from gaussad_cli.cli.options import BatchSize, Cache, Device, Engine, ModelFile, Precision, Weights, Workers, note


def update(
    model: ModelFile,
    normal: Annotated[
        Path, typer.Option(metavar="DIR", help="Add the normal images of this folder.", rich_help_panel=IMAGES)
    ],
    out: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE",
            help="Write this model file.  [default: the one that is updated]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    allow_anomalous: Annotated[
        bool,
        typer.Option(
            "--allow-anomalous",
            help="Add the images even if too many of them are beyond the threshold.",
            rich_help_panel=IMAGES,
        ),
    ] = False,
    weights: Weights = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    cache: Cache = Path("cache"),
) -> None:
    """Add normal images to a model without the old ones: its Gaussians become those of training on all images.

    So does its threshold; a model of places estimates it. Images that the model has already are left out. If more of
    the new images are beyond the old threshold than normal images would be by chance, nothing is changed, unless
    --allow-anomalous is given.

    Example: gaussad update screw.gaussad --normal screws/good-of-today
    """
    from gaussad_cli.datasets.own import find_class_images
    from gaussad_cli.detector.container import read_model, write_model
    from gaussad_cli.detector.look import open_network_of
    from gaussad_cli.detector.update import add_images, name_some
    from gaussad_cli.extraction.engine import Compute
    from gaussad_cli.files import locked

    found = find_class_images(normal)
    note(str(found))
    folders = [path.resolve().parent for path in (model, out or model)]
    with locked(folders, wait=False) as are_ours:
        if not are_ours:
            note("Another gaussad process is working in the model's folder: waiting for it.")
    with locked(folders):  # if two updates read the same model, the images of one of them are lost
        old = read_model(model)
        network = open_network_of(old, weights, Compute(engine, device, precision, batch_size, workers), cache, note)
        done = add_images(old, network, found.paths, allow_anomalous)
        if done.added or out is not None:
            write_model(out or model, done.model)
    now, before = done.model.calibration, old.calibration
    note(
        f"{done.added} images added, {done.known} were in the model already, {done.model.n} in all. "
        f"Threshold {now.threshold:.6g} (it was {before.threshold:.6g}) for a false-positive rate of {now.fpr:.3g}."
    )
    if done.beyond:
        note(f"{len(done.beyond)} of them were beyond the old threshold: {name_some(done.beyond)}.")
    typer.echo(out or model)
