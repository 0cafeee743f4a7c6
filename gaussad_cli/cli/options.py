"""Options that commands share, each defined once, and how their values are read."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from gaussad_cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

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
Jobs = Annotated[int, typer.Option(min=1, help="Processes at work on categories and levels.")]
Scheduler = Annotated[
    Optional[str], typer.Option(help="Address of a dask scheduler to work on instead, such as tcp://host:8786.")
]
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
Format = Annotated[str, typer.Option("--format", help="text, markdown, latex, html or csv.")]
ModelFile = Annotated[Path, typer.Argument(help="Model file that gaussad train wrote, such as screw.gaussad.")]


def split_names(text: str | None) -> list[str] | None:
    """Read names, comma-separated; None if the option was not given."""
    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UserError("--categories is empty: name some, or leave it out for all.")
    return names


def canonical_name(backbone: str) -> str:
    """Return a backbone's name as the cache spells it; one that is not ours may be of features made elsewhere."""
    from gaussad_cli.backbones.registry import BACKBONES

    return backbone.lower() if backbone.lower() in BACKBONES else backbone


def canonical_names(backbones: list[str]) -> list[str]:
    """Return every backbone once, as the cache spells it."""
    return list(dict.fromkeys(map(canonical_name, backbones)))


def after_augmentation(moments_only: bool, epochs: int) -> Callable[[Path], None] | None:
    """Return what is called with every category whose augmented features are complete."""
    if not moments_only:
        return None
    if not epochs:
        raise UserError("--moments-only goes with --epochs: the features of the images as they are are always kept.")
    from gaussad_cli.evaluation.evaluate import fit_and_forget

    return fit_and_forget


def raise_problems(*problems: str | None) -> None:
    """End with what went wrong with some categories, after all the rest is done."""
    if said := [problem for problem in problems if problem]:
        raise UserError(" ".join(said))


def program() -> str:
    """Return what to type for `gaussad`: its path, where the shell would not find it (make's virtual environment)."""
    return "gaussad" if shutil.which("gaussad") else sys.argv[0]


def note(text: str) -> None:
    """Tell a person, on stderr, so that stdout can be piped."""
    typer.echo(text, err=True)
