"""Commands whose help shows their options in sections, as plain text of 80 columns.

The sections are Typer's `rich_help_panel`. Rich itself would draw them in boxes, but importing it takes as long as all
else that help needs. What is derived from here is what Typer documents: the classes of `typer.core`, which are Click's
commands. Click is a package of its own for Typer 0.20 and a part of Typer 0.29, so its types are Any here.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_REST = "Options"  # the section of --help, and of options that name none


def plain_typer(**settings: Any) -> typer.Typer:
    """Return a Typer that prints plain text only, and leaves exceptions alone."""
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, **{"add_completion": False, **settings})


class SectionedCommand(TyperCommand):
    """A command whose help has its options in sections."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options; Click calls this for the help."""
        _write_sections(self, ctx, formatter)


class SectionedGroup(TyperGroup):
    """A group of commands whose help has its own options in sections."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave the group's own options alone where a command's name comes first, since none of them is given then.

        Typer would convert their defaults, and import pydantic for that, which takes longer than all of the help.
        """
        if args and args[0] in self.commands:
            self.params, self.add_help_option = [], False
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options and commands; Click calls this for the help."""
        _write_sections(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def _write_sections(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the sections in the order in which the options name them, and the rest last."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        is_argument = parameter.param_type_name == "argument"
        section = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or _REST
        if record := parameter.get_help_record(ctx):  # None if it is hidden
            sections.setdefault(section, []).append(record)
    for title in sorted(sections, key=lambda title: title == _REST):
        with formatter.section(title):
            formatter.write_dl(sections[title])
