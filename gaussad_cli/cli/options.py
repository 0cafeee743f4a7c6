"""Options that several commands share, each defined once, and functions that read their values."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.errors import UserError, escaped

if TYPE_CHECKING:
    from collections.abc import Callable

    from gaussad_cli.datasets.index import Category

Data = Annotated[Path, typer.Option(help="Read <category>/train/good/* and <category>/test/<class>/* in this folder.")]
BackboneNames = Annotated[
    list[str], typer.Option(help="Use this network, such as efficientnet-b4 or timm:convnext_tiny; repeatable.")
]
BackboneName = Annotated[str, typer.Option(help="Use this network, such as efficientnet-b4 or timm:convnext_tiny.")]
Categories = Annotated[Optional[str], typer.Option(help="Use only these categories, comma-separated.  [default: all]")]
Levels = Annotated[Optional[str], typer.Option(help="Use these feature levels, such as 7 or 1-7.  [default: all]")]
Weights = Annotated[Optional[Path], typer.Option(help="Read this .pth or .safetensors file, not the published one.")]
Verify = Annotated[bool, typer.Option(help="Check a published weight file's hash.")]
Padding = Annotated[
    Optional[str], typer.Option(help="Choose the padding of EfficientNet-B0..B7: paper or tf.  [default: paper]")
]
Depth = Annotated[
    Optional[int],
    typer.Option(min=9, max=16, help="Read the pixels of 16-bit files as this many bits, such as 12.  [default: 16]"),
]
Engine = Annotated[str, typer.Option(help="Choose auto, onnx or torch; auto takes the faster one for the device.")]
Device = Annotated[str, typer.Option(help="Choose auto, cpu or cuda.")]
Precision = Annotated[
    str,
    typer.Option(help="Choose fp32, tf32 (CUDA only) or bf16; the last two change the numbers for speed."),
]
BatchSize = Annotated[
    Optional[int], typer.Option(min=1, help="Decode and run this many images together.  [default: the engine's]")
]
Workers = Annotated[
    Optional[int],
    typer.Option(min=0, help="Decode in this many threads; 0 decodes between batches.  [default: cores]"),
]
Epochs = Annotated[
    int,
    typer.Option(min=0, help="Add this many augmented epochs to the original training images; the paper uses 100."),
]
Seed = Annotated[int, typer.Option(min=0, help="Draw random numbers from this seed.")]
Grid = Annotated[
    int,
    typer.Option(
        min=0,
        help="Keep the features of N x N places instead of their average, for evaluate --score places; --levels is "
        "then the middle ones by default.",
        metavar="N",
    ),
]
Rules = Annotated[
    Optional[Path],
    typer.Option("--augmentation", help="Read augmentation rules from this YAML file.  [default: the paper's]"),
]
MomentsOnly = Annotated[
    bool,
    typer.Option("--moments-only", help="Keep fitted spectra, not augmented features; numbers stay the same."),
]
WhichEpochs = Annotated[
    Optional[int], typer.Option(min=0, help="Use features of this many augmented epochs.  [default: 0]")
]
Thresholds = Annotated[
    Optional[list[str]],
    typer.Option("--threshold", help="Choose chi2, empirical, gamma, conformal, cross-conformal or all; repeatable."),
]
Fpr = Annotated[Optional[str], typer.Option("--fpr", help="Aim for these false-positive rates, such as 0.05,0.01.")]
MaxEpochs = Annotated[int, typer.Option(min=1, help="Stop training after this many epochs at the latest.")]
Patience = Annotated[int, typer.Option(min=1, help="Stop after this many epochs without progress; paper: 3.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start at random the tensors that the weight file lacks.")]
TrainBatch = Annotated[
    Optional[int],
    typer.Option("--batch-size", min=1, help="Train on this many images at a time.  [default: 64 or 16]"),
]
TrainWorkers = Annotated[
    Optional[int], typer.Option("--workers", min=1, help="Augment in this many threads.  [default: cores]")
]
Cache = Annotated[Path, typer.Option(envvar="GAUSSAD_CACHE", help="Keep features in this folder.")]
Dataset = Annotated[
    Optional[str], typer.Option(help="Name the data set in cache and results.  [default: the data folder's name]")
]
WhichDataset = Annotated[Optional[str], typer.Option(help="Choose a data set if the cache holds several.")]
Key = Annotated[Optional[str], typer.Option(help="Choose one of several extractions by the first digits of its key.")]
Jobs = Annotated[int, typer.Option(min=1, help="Work on categories and levels in this many processes.")]
Scheduler = Annotated[
    Optional[str], typer.Option(help="Work on the cluster of this dask scheduler instead, tcp://host:8786 or tls://...")
]
ScoreName = Annotated[
    Optional[str],
    typer.Option(
        help="Choose mahalanobis, l2, sed, ocsvm, knn, gmm, ood or places.  [default: all of Tables I and III]"
    ),
]
Mode = Annotated[
    Optional[str], typer.Option(help="Choose all, pca or npca for mahalanobis and places; all or nystroem for ocsvm.")
]
Neighbours = Annotated[
    Optional[int], typer.Option("--k", min=1, help="Use this many neighbours in knn.  [default: 50]")
]
Components = Annotated[Optional[int], typer.Option(min=1, help="Use this many Gaussians in gmm.  [default: 2]")]
Covariance = Annotated[Optional[str], typer.Option(help="Choose shared or own covariances in gmm.  [default: shared]")]
Var = Annotated[
    Optional[float],
    typer.Option(help="Keep this share of variance: pca 0.99 the largest 99 %, npca 0.01 the smallest 1 %."),
]
Rho = Annotated[
    Optional[str],
    typer.Option(help="Shrink places towards their target by 0 to 1, or closed: by closed form.  [default: 0.5]"),
]
ShrinkTarget = Annotated[
    Optional[str],
    typer.Option(help="Shrink places towards: image, the image-wide covariance; identity; padim.  [default: image]"),
]
Channels = Annotated[
    Optional[int],
    typer.Option(min=1, help="Use a random subset of so many channels for places, as PaDiM.  [default: all]"),
]
Smooth = Annotated[
    Optional[float], typer.Option(help="Smooth heat maps by a Gaussian of this sigma, in places.  [default: 0]")
]
WhichGrid = Annotated[
    Optional[int],
    typer.Option(min=1, metavar="N", help="Use features of N x N places, if there are several.  [default: any]"),
]
Out = Annotated[Path, typer.Option(help="Keep results in this folder.")]
TableNumbers = Annotated[
    Optional[list[str]],
    typer.Option(help="Choose tables 1, 2, 3, 4, 5, 7, 8 or places; repeatable.  [default: all measured]"),
]
Format = Annotated[str, typer.Option("--format", help="Choose text, markdown, latex, html or csv.")]
ModelFile = Annotated[Path, typer.Argument(help="Model file that gaussad train wrote, such as screw.gaussad.")]
ModelFiles = Annotated[
    Path,
    typer.Argument(help="Model file that gaussad train wrote, such as screw.gaussad, or a folder of such files."),
]


def split_names(text: str | None) -> list[str] | None:
    """Read comma-separated names; None if the option was not given."""
    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UserError("--categories is empty: name some categories, or leave it out for all.")
    return names


def canonical_name(backbone: str) -> str:
    """Return a backbone's name as the cache spells it; unknown names stay, since features may come from elsewhere."""
    from gaussad_cli.backbones.registry import BACKBONES

    return backbone.lower() if backbone.lower() in BACKBONES else backbone


def canonical_names(backbones: list[str]) -> list[str]:
    """Return every backbone once, as the cache spells it."""
    return list(dict.fromkeys(map(canonical_name, backbones)))


def after_augmentation(moments_only: bool, epochs: int, grid: int) -> Callable[[Path], None] | None:
    """Return the function to call with every category whose augmented features are complete."""
    if not moments_only:
        return None
    if not epochs:
        raise UserError("--moments-only needs --epochs: features of the original images are always kept.")
    if grid:
        raise UserError("--moments-only keeps the spectra of averaged features: leave it out with --grid.")
    from gaussad_cli.evaluation.evaluate import fit_and_forget

    return fit_and_forget


def raise_problems(*problems: str | None) -> None:
    """Raise the problems with some categories after all others are done."""
    if messages := [problem for problem in problems if problem]:
        raise UserError(" ".join(messages))


def program() -> str:
    """Return the command to type: gaussad, or its path if the shell would not find it (make's virtual environment)."""
    return "gaussad" if shutil.which("gaussad") else sys.argv[0]


def note(text: str) -> None:
    """Print a message on stderr, so that stdout can be piped; file names in it cannot control a terminal."""
    with suppress(OSError):  # a message that nobody can read does not end the work
        typer.echo(escaped(text, keep="\n"), err=True)


def print_result(text: object) -> None:
    """Print a result on stdout: as it is where it is piped, so that file names keep their bytes; else escaped."""
    typer.echo(escaped(str(text), keep="\n") if sys.stdout.isatty() else str(text))


def announce_images(data: Path, categories: list[str] | None) -> list[Category]:
    """Say which images of a data set are taken and which are left out, before the work; return its categories."""
    from gaussad_cli.datasets.index import describe_categories, find_categories

    found = find_categories(data, categories)
    note(describe_categories(data, found))
    return found
