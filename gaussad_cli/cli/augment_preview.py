"""The command augment-preview: contact sheets of augmented images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaussad_cli.cli.options import (
    Categories,
    Data,
    Rules,
    Seed,
    announce_images,
    print_result,
    split_names,
)


def augment_preview(
    data: Data,
    categories: Categories = None,
    augmentation: Rules = None,
    seed: Seed = 0,
    images: Annotated[int, typer.Option(min=1, metavar="N", help="Show this many images, one per row.")] = 4,
    epochs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Show this many epochs beside each original image.")
    ] = 9,
    size: Annotated[
        int,
        typer.Option(
            min=32,
            max=1024,
            metavar="PIXELS",
            help="Resize to this many pixels; a backbone's input size shows what it sees.",
        ),
    ] = 224,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Write the sheets to this folder.")] = Path("preview"),
) -> None:
    """Show what augmentation does to images: write one contact sheet per category.

    Example: gaussad augment-preview --data mvtec --categories bottle,screw --out preview
    """
    from gaussad_cli.extraction.augment import Augmentation, read_rules
    from gaussad_cli.extraction.preview import write_preview

    rules = Augmentation(read_rules(augmentation), seed)
    for category in announce_images(data, split_names(categories)):
        print_result(write_preview(category, rules, out, images, epochs, size))
