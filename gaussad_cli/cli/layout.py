"""Commands whose help shows their options in sections, as plain text of 80 columns.

The sections are Typer's `rich_help_panel`. Rich itself would draw them in boxes, but importing it takes as long as all
else that help needs. What is derived from here is what Typer documents: the classes of `typer.core`, which are Click's
commands. Click is a package of its own for Typer 0.20 and a part of Typer 0.29, so its types are Any here.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# The sections of the help, in the order in which they are written; an option's is its rich_help_panel
SECTIONS = (
    ARGUMENTS := "Arguments",
    EXPERIMENT := "Experiment",
    IMAGES := "Images",
    NETWORK := "Network",
    SCORE := "Score",
    THRESHOLD := "Threshold",
    TRAINING := "Training",
    AUGMENTATION := "Augmentation",
    COMPUTING := "Computing",
    OUTPUT := "Cache and results",
    OTHERS := "Options",  # of --help, and of options that name none
)


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
    rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
    for parameter in command.get_params(ctx):
        is_argument = parameter.param_type_name == "argument"
        section = ARGUMENTS if is_argument else getattr(parameter, "rich_help_panel", None) or OTHERS
        if record := parameter.get_help_record(ctx):  # None if it is hidden
            rows[section].append(record)
    for section, records in rows.items():
        if records:
            with formatter.section(section):
                formatter.write_dl(records)
