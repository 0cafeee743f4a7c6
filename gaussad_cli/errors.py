"""The one exception type for what the user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # exit status after Ctrl-C: 128 + SIGINT, as shells have it
STOPPED = "gaussad: interrupted. What was finished is kept: run the same command again to go on."


class UserError(Exception):
    """Something the user must change: the message says what, where and how.

    The command line prints it as one line on stderr and exits with 2.
    Every other exception is a bug and keeps its traceback. What cannot be printed (a file's name may be anything) is
    escaped, so that it is one line, and nothing that a terminal obeys.
    """

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


class Interrupted(Exception):  # noqa: N818 (not an error)
    """The user stopped the work (Ctrl-C); the message says what is kept and how to go on."""


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Turn Ctrl-C into :class:`Interrupted` with a message that says how to go on; also decorates a function."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(message) from None


class ImageError(UserError):
    """An image that cannot be used; the other categories can go on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean X?`` for the nearest known name, or an empty string."""
    nearest = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]}?" if nearest else ""
