"""Work that is started ahead of the code that needs its result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Job(Protocol[Result_co]):
    """Work under way, such as a :class:`concurrent.futures.Future`."""

    def result(self) -> Result_co:
        """Wait for the result and return it, or raise what the work raised."""
        ...


@dataclass(frozen=True)
class Together(Generic[Result]):
    """Several jobs as one job, whose result is the list of their results."""

    jobs: Sequence[Job[Result]]

    def result(self) -> list[Result]:
        """Wait for all jobs and return their results in order."""
        return [job.result() for job in self.jobs]


def look_ahead(
    items: Iterable[Item], submit: Callable[[Item], Job[Result]], ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with the result of its job, in order, while the jobs of later items are under way.

    Parameters
    ----------
    submit : starts the job of an item
    ahead : how many jobs may be under way beyond the one whose result is yielded next. At 0, the next item is asked for
        only after the consumer has taken the result of the one before.
    """
    waiting: deque[tuple[Item, Job[Result]]] = deque()
    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) > ahead:
            first, job = waiting.popleft()
            yield first, job.result()
    while waiting:
        first, job = waiting.popleft()
        yield first, job.result()
