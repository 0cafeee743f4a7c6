"""The `gaussad` command: parse, call, print.

torch, timm and pandas are imported inside commands, so that help is instant.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gaussad_cli import __version__
from gaussad_cli.cli.augment_preview import augment_preview
from gaussad_cli.cli.compare import compare
from gaussad_cli.cli.demo import demo
from gaussad_cli.cli.download import download
from gaussad_cli.cli.evaluate import evaluate
from gaussad_cli.cli.explain import explain
from gaussad_cli.cli.export import export
from gaussad_cli.cli.extract import extract
from gaussad_cli.cli.fit import fit
from gaussad_cli.cli.info import info
from gaussad_cli.cli.options import note
from gaussad_cli.cli.predict import predict
from gaussad_cli.cli.report import report
from gaussad_cli.cli.run import run
from gaussad_cli.cli.serve import serve
from gaussad_cli.cli.tables import tables
from gaussad_cli.cli.train import train
from gaussad_cli.cli.update import update
from gaussad_cli.errors import INTERRUPTED, STOPPED, Interrupted, UserError

# How Python, OpenCV, ONNX Runtime and torch report that memory ran out, besides MemoryError
_OUT_OF_MEMORY = ("can't start new thread", "can't allocate", "Insufficient memory", "bad_alloc", "out of memory")
_NO_MEMORY = (
    "out of memory. What was finished is kept: run again on a machine with more memory, or with a smaller "
    "--batch-size, fewer --workers or --jobs, or fewer --levels at a time."
)
_UNWRITABLE = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EBADF, errno.EIO)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    # color: what is piped is not searched for escape codes, so that file names keep theirs
    context_settings={"help_option_names": ["-h", "--help"], "color": True},
    help="Image anomaly detection with one Gaussian on pre-trained deep features (Rippel et al., ICPR 2020).\n\n"
    "Images flow through extract, fit, evaluate and tables; run does all four. Start with: gaussad demo",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gaussad {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for command in (
    *(extract, fit, evaluate, tables, report, compare, run, demo),
    *(predict, serve, update, explain, export),
    *(download, info, augment_preview),
):
    app.command()(command)
app.add_typer(train, name="train")


def main() -> int:
    """Run the command line; return 0 (done), 2 (a problem for the user to fix) or 130 (interrupted); a bug raises."""
    try:
        _set_up_streams()
        app()
    except UserError as error:
        note(f"gaussad: error: {error}")
        return 2
    except Interrupted as stop:
        note(f"gaussad: {stop}")
        return INTERRUPTED
    except SystemExit as end:  # Typer's, for Ctrl-C outside of any command's own message
        if end.code != INTERRUPTED:
            raise
        note(STOPPED)
        return INTERRUPTED
    except Exception as error:
        if not (reason := _machines_fault(error)):
            raise
        note(f"gaussad: error: {reason}")
        return 2
    return 0


def _set_up_streams() -> None:
    """Make the standard streams take any text. What is piped is UTF-8 in every locale; file names keep their bytes.

    Raises
    ------
    UserError
        If standard output is closed.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (to the end)
    if sys.stdout is None:
        raise UserError("standard output is closed, so results cannot be printed: send it to a file or to /dev/null.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors=sys.getfilesystemencodeerrors())


def _machines_fault(error: Exception) -> str:
    """Return what the machine lacks, or an empty string if the error is a bug."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        # Failures to write our files are UserErrors already; this one is of the stream that results are printed to.
        return f"the results cannot be printed: {error.strerror}."
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != "gaussad_cli":
        return f"this needs the package {error.name}, which is not installed here: pip install gaussad brings it."
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return _NO_MEMORY
    return ""
