"""Tasks for worker processes, in a module that imports nothing heavy, as each of them imports it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def slow_square(x: int, folder: str) -> int:
    """Square, after telling who is at work; slow enough to be killed on the way."""
    (Path(folder) / f"{x}-{os.getpid()}").touch()
    time.sleep(0.2)
    return x * x


def killing(_: int) -> None:
    """End the process that works on it."""
    os.kill(os.getpid(), signal.SIGKILL)
