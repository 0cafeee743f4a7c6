"""``python -m gaussad_cli`` is the ``gaussad`` command."""

from gaussad_cli.cli import entry

if __name__ == "__main__":
    entry()
