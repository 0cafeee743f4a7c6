"""Options that several commands share, each defined once, and functions that read their values."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from gaussad_cli.cli.layout import AUGMENTATION, COMPUTING, IMAGES, NETWORK, OUTPUT, SCORE, THRESHOLD, TRAINING
from gaussad_cli.errors import UserError, escaped
from gaussad_cli.tables.known import NUMBERS, SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable

    from gaussad_cli.datasets.index import Category

# Values of options. They are checked where they are used, by modules that are too heavy for the help;
# tests/cli/test_help.py holds that those take the same values.
ENGINES = ("auto", "onnx", "torch")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "tf32", "bf16")
PADDINGS = ("paper", "tf")
SCORES = ("mahalanobis", "l2", "sed", "ocsvm", "knn", "gmm", "ood", "places")
MODES = ("all", "pca", "npca")
COVARIANCES = ("shared", "own")
TARGETS = ("image", "identity", "padim")
METHODS = ("chi2", "empirical", "gamma", "conformal", "cross-conformal", "all")


def choice(known: Iterable[str], *names: str, **settings: Any) -> Any:
    """Declare an option that takes one of some values: the help lists them, and the shell completes them."""
    values = list(known)
    return typer.Option(*names, metavar=f"[{'|'.join(values)}]", autocompletion=lambda: values, **settings)


def _backbones() -> list[str]:
    from gaussad_cli.backbones.registry import BACKBONES

    return list(BACKBONES)


def backbone_option(**settings: Any) -> Any:
    """Declare an option that names a network; the shell completes those that need no timm: before them."""
    return typer.Option(metavar="NAME", autocompletion=_backbones, rich_help_panel=NETWORK, **settings)


Data = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="Read <category>/train/good/* and <category>/test/<class>/* in this folder.",
        rich_help_panel=IMAGES,
    ),
]
BackboneNames = Annotated[
    list[str], backbone_option(help="Use this network, such as efficientnet-b4 or timm:convnext_tiny; repeatable.")
]
BackboneName = Annotated[str, backbone_option(help="Use this network, such as efficientnet-b4 or timm:convnext_tiny.")]
Categories = Annotated[
    Optional[str],
    typer.Option(
        metavar="NAMES", help="Use only these categories, comma-separated.  [default: all]", rich_help_panel=IMAGES
    ),
]
Levels = Annotated[
    Optional[str],
    typer.Option(
        metavar="LEVELS",
        help="Use these feature levels, such as 7 or 1-7.  [default: all]",
        rich_help_panel=NETWORK,
    ),
]
Weights = Annotated[
    Optional[Path],
    typer.Option(
        metavar="FILE",
        help="Read this .pth or .safetensors file, not the published one.",
        rich_help_panel=NETWORK,
    ),
]
Verify = Annotated[bool, typer.Option(help="Check a published weight file's hash.", rich_help_panel=NETWORK)]
Padding = Annotated[
    Optional[str],
    choice(PADDINGS, help="Pad EfficientNet-B0..B7 in this way.  [default: paper]", rich_help_panel=NETWORK),
]
Depth = Annotated[
    Optional[int],
    typer.Option(
        min=9,
        max=16,
        metavar="BITS",
        help="Read the pixels of 16-bit files as this many bits, such as 12.  [default: 16]",
        rich_help_panel=IMAGES,
    ),
]
Engine = Annotated[
    str,
    choice(ENGINES, help="Run networks in this; auto takes the faster one for the device.", rich_help_panel=COMPUTING),
]
Device = Annotated[str, choice(DEVICES, help="Run networks on this.", rich_help_panel=COMPUTING)]
Precision = Annotated[
    str,
    choice(
        PRECISIONS,
        help="Compute in this; tf32 (CUDA only) and bf16 change the numbers for speed.",
        rich_help_panel=COMPUTING,
    ),
]
BatchSize = Annotated[
    Optional[int],
    typer.Option(
        min=1,
        metavar="N",
        help="Decode and run this many images together.  [default: the engine's]",
        rich_help_panel=COMPUTING,
    ),
]
Workers = Annotated[
    Optional[int],
    typer.Option(
        min=0,
        metavar="N",
        help="Decode in this many threads; 0 decodes between batches.  [default: cores]",
        rich_help_panel=COMPUTING,
    ),
]
Epochs = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Add this many augmented epochs to the original training images; the paper uses 100.",
        rich_help_panel=AUGMENTATION,
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, metavar="N", help="Draw random numbers from this seed.", rich_help_panel=AUGMENTATION)
]
Grid = Annotated[
    int,
    typer.Option(
        min=0,
        help="Keep the features of N x N places instead of their average, for evaluate --score places; --levels is "
        "then the middle ones by default.",
        metavar="N",
        rich_help_panel=NETWORK,
    ),
]
Rules = Annotated[
    Optional[Path],
    typer.Option(
        "--augmentation",
        metavar="FILE",
        help="Read augmentation rules from this YAML file.  [default: the paper's]",
        rich_help_panel=AUGMENTATION,
    ),
]
MomentsOnly = Annotated[
    bool,
    typer.Option(
        "--moments-only",
        help="Keep fitted spectra, not augmented features; numbers stay the same.",
        rich_help_panel=AUGMENTATION,
    ),
]
WhichEpochs = Annotated[
    Optional[int],
    typer.Option(
        min=0,
        metavar="N",
        help="Use features of this many augmented epochs.  [default: 0]",
        rich_help_panel=AUGMENTATION,
    ),
]
Thresholds = Annotated[
    Optional[list[str]],
    choice(METHODS, "--threshold", help="Compute thresholds in this way; repeatable.", rich_help_panel=THRESHOLD),
]
Fpr = Annotated[
    Optional[str],
    typer.Option(
        "--fpr",
        metavar="RATES",
        help="Aim for these false-positive rates, such as 0.05,0.01.",
        rich_help_panel=THRESHOLD,
    ),
]
MaxEpochs = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Stop training after this many epochs at the latest.", rich_help_panel=TRAINING
    ),
]
Patience = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Stop after this many epochs without progress; paper: 3.", rich_help_panel=TRAINING
    ),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Start at random the tensors that the weight file lacks.", rich_help_panel=NETWORK),
]
TrainBatch = Annotated[
    Optional[int],
    typer.Option(
        "--batch-size",
        min=1,
        metavar="N",
        help="Train on this many images at a time.  [default: 64 or 16]",
        rich_help_panel=TRAINING,
    ),
]
TrainWorkers = Annotated[
    Optional[int],
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Augment in this many threads.  [default: cores]",
        rich_help_panel=COMPUTING,
    ),
]
Cache = Annotated[
    Path,
    typer.Option(metavar="DIR", envvar="GAUSSAD_CACHE", help="Keep features in this folder.", rich_help_panel=OUTPUT),
]
Dataset = Annotated[
    Optional[str],
    typer.Option(
        metavar="NAME",
        help="Name the data set in cache and results.  [default: the data folder's name]",
        rich_help_panel=OUTPUT,
    ),
]
WhichDataset = Annotated[
    Optional[str],
    typer.Option(metavar="NAME", help="Choose a data set if the cache holds several.", rich_help_panel=OUTPUT),
]
Key = Annotated[
    Optional[str],
    typer.Option(
        metavar="KEY",
        help="Choose one of several extractions by the first digits of its key.",
        rich_help_panel=OUTPUT,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Work on categories and levels in this many processes.", rich_help_panel=COMPUTING
    ),
]
Scheduler = Annotated[
    Optional[str],
    typer.Option(
        metavar="ADDRESS",
        help="Work on the cluster of this dask scheduler instead, tcp://host:8786 or tls://...",
        rich_help_panel=COMPUTING,
    ),
]
ScoreName = Annotated[
    Optional[str], choice(SCORES, help="Compute this score.  [default: all of Tables I and III]", rich_help_panel=SCORE)
]
Mode = Annotated[
    Optional[str],
    choice(
        (*MODES, "nystroem"),
        help="Compress features in this way: all, pca or npca for mahalanobis and places; all or nystroem for ocsvm.",
        rich_help_panel=SCORE,
    ),
]
Neighbours = Annotated[
    Optional[int],
    typer.Option(
        "--k", min=1, metavar="N", help="Use this many neighbours in knn.  [default: 50]", rich_help_panel=SCORE
    ),
]
Components = Annotated[
    Optional[int],
    typer.Option(min=1, metavar="N", help="Use this many Gaussians in gmm.  [default: 2]", rich_help_panel=SCORE),
]
Covariance = Annotated[
    Optional[str],
    choice(COVARIANCES, help="Give the Gaussians of gmm such covariances.  [default: shared]", rich_help_panel=SCORE),
]
Var = Annotated[
    Optional[float],
    typer.Option(
        metavar="SHARE",
        help="Keep this share of variance: pca 0.99 the largest 99 %, npca 0.01 the smallest 1 %.",
        rich_help_panel=SCORE,
    ),
]
Rho = Annotated[
    Optional[str],
    typer.Option(
        metavar="SHARE",
        help="Shrink places towards their target by 0 to 1, or closed: by closed form.  [default: 0.5]",
        rich_help_panel=SCORE,
    ),
]
ShrinkTarget = Annotated[
    Optional[str],
    choice(
        TARGETS,
        help="Shrink places towards this; image is the image-wide covariance.  [default: image]",
        rich_help_panel=SCORE,
    ),
]
Channels = Annotated[
    Optional[int],
    typer.Option(
        min=1,
        metavar="N",
        help="Use a random subset of so many channels for places, as PaDiM.  [default: all]",
        rich_help_panel=SCORE,
    ),
]
Smooth = Annotated[
    Optional[float],
    typer.Option(
        metavar="SIGMA",
        help="Smooth heat maps by a Gaussian of this sigma, in places.  [default: 0]",
        rich_help_panel=SCORE,
    ),
]
WhichGrid = Annotated[
    Optional[int],
    typer.Option(
        min=1,
        metavar="N",
        help="Use features of N x N places, if there are several.  [default: any]",
        rich_help_panel=NETWORK,
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Keep results in this folder.", rich_help_panel=OUTPUT)]
TableNumbers = Annotated[
    Optional[list[str]],
    choice(NUMBERS, help="Print this table; repeatable.  [default: all measured]", rich_help_panel=OUTPUT),
]
Format = Annotated[str, choice(SUFFIXES, "--format", help="Print tables like this.", rich_help_panel=OUTPUT)]
ModelFile = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Model file that gaussad train wrote, such as screw.gaussad.")
]
DecideBy = Annotated[
    Optional[float],
    typer.Option(
        "--threshold",
        metavar="DISTANCE",
        help="Decide by this distance, not by the model's own.",
        rich_help_panel=THRESHOLD,
    ),
]
DecideAt = Annotated[
    Optional[float],
    typer.Option(
        "--fpr",
        metavar="RATE",
        help="Decide by the threshold for this false-positive rate, not the model's own.",
        rich_help_panel=THRESHOLD,
    ),
]
ModelFiles = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Model file that gaussad train wrote, such as screw.gaussad, or a folder of such files."
    ),
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
