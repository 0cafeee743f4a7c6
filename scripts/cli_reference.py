"""Write docs/cli.md, the reference of the command line, from the help of the commands themselves.

The texts, types and defaults are read from the commands, not from a printed help page, so the width of the terminal,
the language and the home folder change nothing.

    python scripts/cli_reference.py            write docs/cli.md
    python scripts/cli_reference.py --check    exit 1 if docs/cli.md is not what the help says now
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import typer

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cli.md"
INTRODUCTION = """\
# Command line

`scripts/cli_reference.py` writes this page from the help of the commands (`make docs`); edit the help, not the page.
`gaussad COMMAND --help` shows the same text in a terminal.
"""
_KINDS = {Path: "path", str: "text", int: "integer", float: "number", bool: "flag"}
_EXAMPLE = "Example: "
_CHOICE = re.compile(r"\[([a-z0-9|-]+)\]")  # a metavar of known values
_DEFAULT = re.compile(r"\s*\[default: (.*)\]$")  # a help text that words its default itself


def render() -> str:
    """Return the page."""
    from gaussad_cli.cli.app import app

    sections = "\n".join(_sections(typer.main.get_command(app), "gaussad"))
    return f"{INTRODUCTION}\n{sections}"


def _sections(command: Any, name: str) -> Iterator[str]:
    """Yield the section of a command, then those of the commands below it."""
    yield f"## {name}\n"
    yield from map(_paragraph, (command.help or "").strip().split("\n\n"))
    hints = get_type_hints(command.callback, include_extras=True)
    parameters = [parameter for parameter in command.params if parameter.name in hints]  # Typer adds some of its own
    for kind in ("argument", "option"):
        rows = [_row(parameter, hints[parameter.name]) for parameter in parameters if parameter.param_type_name == kind]
        if rows:
            yield f"| {kind} | type | default | |\n|---|---|---|---|"
            yield "\n".join(rows) + "\n"
    for below, subcommand in getattr(command, "commands", {}).items():
        yield from _sections(subcommand, f"{name} {below}")


def _paragraph(text: str) -> str:
    """Return a paragraph of help as Markdown; its examples are code, each on a line of its own."""
    joined = " ".join(text.split())
    if joined.startswith(_EXAMPLE):
        return "".join(f"    {example.strip()}\n" for example in joined.split(_EXAMPLE)[1:])
    return f"{_escaped(joined)}\n"


def _row(parameter: Any, hint: Any) -> str:
    """Return the table row of an option or an argument that is declared as `hint`, Annotated[a type, Typer's info]."""
    names = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else [parameter.name]
    declared, information = get_args(hint)
    kind = _kind(declared, information.metavar) + (
        f", at least {information.min:g}" if information.min is not None else ""
    )
    default, text = _default_and_text(parameter)
    cells = (_escaped(" ".join(cell.split())) for cell in (kind, default, text))
    return f"| {', '.join(f'`{name}`' for name in names)} | {' | '.join(cells)} |"


def _kind(hint: Any, metavar: str | None) -> str:
    """Name a parameter's type in words: Optional[list[int]] is "integer, repeatable", and [a|b|c] is "a, b or c"."""
    if get_origin(hint) is list:
        return f"{_kind(get_args(hint)[0], metavar)}, repeatable"
    if values := _CHOICE.fullmatch(metavar or ""):
        *first, last = values[1].split("|")
        return f"{', '.join(first)} or {last}" if first else last
    parts = [part for part in get_args(hint) if part is not type(None)]
    return _kind(parts[0], metavar) if parts else _KINDS[hint]


def _default_and_text(parameter: Any) -> tuple[str, str]:
    """Return what a parameter is without being given, and its help without that."""
    text, default = parameter.help or "", ""
    if worded := _DEFAULT.search(text):
        text, default = text[: worded.start()], worded[1]
    elif parameter.required:
        default = "required"
    elif parameter.default is True:
        default = parameter.opts[0]
    elif parameter.default is not None and parameter.default is not False:
        default = f"{parameter.default}"
    return f"{default}; or ${parameter.envvar}" if parameter.envvar else default, text


def _escaped(text: str) -> str:
    return re.sub(r"([<*|_])", r"\\\1", text)


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="do not write; exit 1 if the page is stale")
    page = render()
    if not parser.parse_args().check:
        PAGE.write_text(page, "utf-8", newline="\n")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != page:
        print(f"{PAGE.relative_to(ROOT)} is not what the help says now: run 'make docs'.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
