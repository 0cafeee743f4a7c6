"""The `gaussad` command as a process; ``python -m gaussad_cli`` is the same."""

import os
import signal
import sys
from contextlib import suppress

from gaussad_cli.errors import INTERRUPTED, STOPPED


def entry() -> None:
    """Run the command line, and end the process with its exit status.

    After Ctrl-C nobody waits for threads that are at work: files are whole or not there, as after a SIGKILL. A second
    Ctrl-C ends the process at once.
    """
    _keep_standard_numbers()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, in the background
        signal.signal(signal.SIGINT, _stop)
    try:
        from gaussad_cli.cli import main

        code = main()
    except BaseException:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
            raise
        code = INTERRUPTED  # whatever has become of it: importing a compiled module can make it another error
        os.write(2, f"{STOPPED}\n".encode())
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the last line is printed
    if code == INTERRUPTED:
        _leave()
    sys.exit(code)


def _keep_standard_numbers() -> None:
    """Open the null device for standard streams that are closed, or else the next files get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, which is this one


def _stop(*_: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the next one is the system's to answer
    raise KeyboardInterrupt


def _leave() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    entry()
