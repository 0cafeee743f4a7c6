"""The `gaussad` command: parse, call, print.

A command is imported when it is called, and torch, timm and pandas inside of it, so that help is instant.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from gaussad_cli import __version__
from gaussad_cli.cli.layout import SectionedCommand, SectionedGroup, plain_typer
from gaussad_cli.cli.options import note
from gaussad_cli.errors import INTERRUPTED, STOPPED, Interrupted, UserError

# Section of the help -> command -> what it does. A command is the function, or the Typer, of its module's name.
COMMANDS = {
    "On your own images": {
        "train": "Train a detector on normal images, or a comparator.",
        "predict": "Score images: decision, p-value, and where they deviate.",
        "update": "Add normal images to a model without the old ones.",
        "explain": "Draw where images deviate, and what that comes from.",
        "export": "Write a model as one ONNX file.",
    },
    "Benchmark": {
        "demo": "Run everything on images that come as a package.",
        "run": "Extract, fit, evaluate and print tables in one go.",
        "extract": "Run images through networks and cache the features.",
        "fit": "Fit spectra to cached features.",
        "evaluate": "Score the test sets: AUROCs, distances, thresholds.",
        "tables": "Print the paper's tables, measured beside published.",
        "report": "Write one HTML file with tables, figures and images.",
        "compare": "Compare two results folders: what differs, and by chance?",
    },
    "Data and networks": {
        "download": "Download MVTec AD, VisA or BTAD from their owners.",
        "info": "Describe the backbones, a model or a weight file.",
        "augment-preview": "Show what augmentation does to images.",
    },
}
_NAMES = [name for section in COMMANDS.values() for name in section]

# How Python, OpenCV, ONNX Runtime and torch report that memory ran out, besides MemoryError
_OUT_OF_MEMORY = ("can't start new thread", "can't allocate", "Insufficient memory", "bad_alloc", "out of memory")
_NO_MEMORY = (
    "out of memory. What was finished is kept: run again on a machine with more memory, or with a smaller "
    "--batch-size, fewer --workers or --jobs, or fewer --levels at a time."
)
_UNWRITABLE = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EBADF, errno.EIO)


class _Commands(Mapping[str, Any]):
    """The commands by name. Looking one up imports it; listing the names imports nothing."""

    def __getitem__(self, name: str) -> Any:
        if name not in _NAMES:
            raise KeyError(name)
        attribute = name.replace("-", "_")
        found = getattr(import_module(f"gaussad_cli.cli.{attribute}"), attribute)
        if not isinstance(found, typer.Typer):
            (of_one := plain_typer()).command(name, cls=SectionedCommand)(found)
            found = of_one
        return typer.main.get_command(found)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


class _Gaussad(SectionedGroup):
    """The group of all commands, which are imported when they are called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        commands: Any = _Commands()
        self.commands = commands

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (Click's signature)
        """Return the names; Typer would look up every command."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (Click's signature)
        """Write the commands in their sections."""
        width = max(map(len, _NAMES))
        for title, lines in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", line) for name, line in lines.items()])


app = plain_typer(
    cls=_Gaussad,
    add_completion=True,
    no_args_is_help=True,
    # color: what is piped is not searched for escape codes, so that file names keep theirs
    context_settings={"help_option_names": ["-h", "--help"], "color": True},
    help="Image anomaly detection with one Gaussian on pre-trained deep features (Rippel et al., ICPR 2020).\n\n"
    "For a detector on images of your own, use train and predict. For the paper's benchmark, images flow through "
    "extract, fit, evaluate and tables; run does all four. Start with: gaussad demo",
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
