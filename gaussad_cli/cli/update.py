"""`gaussad update`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import BatchSize, Cache, Device, Engine, ModelFile, Precision, Weights, Workers, note


def update(
    model: ModelFile,
    normal: Annotated[Path, typer.Option(help="Folder of normal images to add.")],
    out: Annotated[
        Optional[Path], typer.Option(help="Model file to write.  [default: the one that is updated]")
    ] = None,
    weights: Weights = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = None,
    workers: Workers = None,
    cache: Cache = Path("cache"),
) -> None:
    """Add normal images to a model without the old ones: its Gaussian becomes that of training on all images.

    The distances of the new images to the old model join the calibration. Images that the model has already are left
    out.

    Example: gaussad update screw.gaussad --normal screws/good-of-today
    """
    from gaussad_cli.datasets.own import find_class_images
    from gaussad_cli.detector.container import read_model, write_model
    from gaussad_cli.detector.look import open_network_of
    from gaussad_cli.detector.update import add_images
    from gaussad_cli.extraction.engine import Compute

    old, found = read_model(model), find_class_images(normal)
    note(str(found))
    network = open_network_of(old, weights, Compute(engine, device, precision, batch_size, workers), cache, note)
    new, known = add_images(old, network, found.paths)
    if new is not old or out is not None:
        write_model(out or model, new)
    note(
        f"{len(new.hashes) - len(old.hashes)} images added, {known} were in the model already, {new.levels[0].n} in "
        f"all. Threshold {new.calibration.threshold:.6g} (it was {old.calibration.threshold:.6g}) for a false-positive "
        f"rate of {new.calibration.fpr:g}."
    )
    typer.echo(out or model)
