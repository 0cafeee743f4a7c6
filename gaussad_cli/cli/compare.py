"""The command `compare`: two results folders beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gaussad_cli.cli.options import backbone_option, canonical_names, choice, note
from gaussad_cli.errors import UserError

FORMATS = ("text", "csv")
DIFFERENT = 3  # exit status with --fail-on-difference


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A results folder, or the folder of a data set in one.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other; may be the same, with --key-a and --key-b.")],
    dataset: Annotated[
        Optional[str], typer.Option(metavar="NAME", help="Compare this data set, where a folder holds several.")
    ] = None,
    backbone: Annotated[
        Optional[list[str]], backbone_option(help="Compare only this one; repeatable.  [default: all]")
    ] = None,
    score: Annotated[
        Optional[list[str]],
        typer.Option(metavar="NAME", help="Compare only this one, such as mahalanobis; repeatable.  [default: all]"),
    ] = None,
    key_a: Annotated[
        Optional[str],
        typer.Option(metavar="KEY", help="Choose a variant of a backbone in A by the beginning of its key."),
    ] = None,
    key_b: Annotated[
        Optional[str],
        typer.Option(metavar="KEY", help="Choose a variant of a backbone in B by the beginning of its key."),
    ] = None,
    min_difference: Annotated[
        float,
        typer.Option(min=0.0, metavar="POINTS", help="Ignore cells that differ by no more percentage points of AUROC."),
    ] = 0.0,
    style: Annotated[
        str, choice(FORMATS, "--format", help="Print like this; csv has all differing cells and tests.")
    ] = "text",
    fail_on_difference: Annotated[
        bool, typer.Option("--fail-on-difference", help="Exit 3 if a cell differs by more than --min-difference.")
    ] = False,
) -> None:
    """Compare two results folders: which AUROCs differ, whether by chance, and what differs in how they were made.

    Rows are matched by category, backbone, epochs, level, score, mode, var and fold; weights, padding and key may
    differ. An exact sign-flip permutation test over categories, Holm-corrected, says what may be chance.

    Example: gaussad compare results ../other/results --backbone efficientnet-b4

    Example: gaussad compare results results --key-a 8ce7 --key-b 0058 --min-difference 0.5
    """
    if style not in FORMATS:
        raise UserError(f"unknown format '{style}'. Known: {', '.join(FORMATS)}.")
    from gaussad_cli.compare.differences import compare_sides
    from gaussad_cli.compare.render import as_csv, as_text, summary
    from gaussad_cli.compare.sides import ResultsFilter, read_side

    wanted = ResultsFilter(tuple(canonical_names(backbone or [])), tuple(score or ()), key_a, key_b)
    comparison = compare_sides(read_side("A", a, dataset), read_side("B", b, dataset), wanted)
    if style == "csv":
        note(summary(comparison))
    typer.echo((as_csv if style == "csv" else as_text)(comparison, min_difference), nl=False)
    if fail_on_difference and len(comparison.beyond(min_difference)):
        raise typer.Exit(DIFFERENT)
