"""The command line: `app.py` lists the commands, `options.py` what their options mean."""

from gaussad_cli.cli.app import app, main

__all__ = ["app", "main"]
