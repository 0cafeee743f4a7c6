"""``python -m gaussad_cli`` is the ``gaussad`` command."""

import sys

from gaussad_cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
