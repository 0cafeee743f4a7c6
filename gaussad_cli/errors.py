"""Exceptions for problems that the user can fix, and for work that the user stopped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # exit status after Ctrl-C: 128 + SIGINT, as shells have it
STOPPED = "gaussad: interrupted. What was finished is kept: run the same command again to go on."


class UserError(Exception):
    """A problem that the user must fix: the message says what is wrong, where, and what to do.

    The command line prints it as one line on stderr and exits with 2. Every other exception is a bug and keeps its
    traceback. Unprintable characters, which a file name may hold, are escaped: the message stays one line, and the
    terminal obeys none of them.
    """

    def __str__(self) -> str:
        return escaped(super().__str__())


class Interrupted(Exception):  # noqa: N818 (not an error)
    """The user stopped the work with Ctrl-C; the message says what is kept and how to continue."""


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Turn Ctrl-C into :class:`Interrupted` with a message that says how to continue; also works as a decorator."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(message) from None


class ImageError(UserError):
    """An image cannot be used; work on the other categories can continue."""


def escaped(text: str, keep: str = "") -> str:
    """Escape unprintable characters other than those of `keep`: a file name may hold what a terminal obeys."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error of a library, or the error's name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def in_one_line(error: BaseException) -> str:
    """Return all that an error of a library says in one line, or the error's name if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean X?`` for the nearest known name, or an empty string."""
    nearest = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]}?" if nearest else ""
