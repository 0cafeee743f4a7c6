"""Runs tasks in this process, in several, or on an existing dask cluster: the results and their order are the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gaussad_cli.errors import UserError, first_line

if TYPE_CHECKING:
    from distributed import Security

Result = TypeVar("Result")
_PATIENCE = 30  # seconds to wait for a scheduler's answer
_CERTIFICATES = "docs/cluster.md says where they are named."
_LOOK = 0.5  # seconds between a worker's looks at whether its parent is still there


@dataclass(frozen=True)
class Distribution:
    """Where tasks run.

    Attributes
    ----------
    jobs : processes on this machine
    scheduler : address of a dask scheduler, such as tcp://host:8786, or tls:// with the certificates of dask's own
        configuration; its workers see the cache and the data by the same paths
    """

    jobs: int = 1
    scheduler: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether tasks run in this process, one after the other."""
        return self.jobs == 1 and self.scheduler is None


HERE = Distribution()


def run_tasks(
    task: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], distribution: Distribution = HERE
) -> Iterator[Result]:
    """Yield the results of a task in the order of its arguments, each as soon as it is ready.

    On a cluster, a task whose worker is lost runs again on another worker.

    Parameters
    ----------
    task : a module-level function, so that other processes find it; its arguments and results are pickled

    Raises
    ------
    UserError
        If no scheduler answers at the address, or a worker process was killed. A task's own exceptions pass through.
    """
    if distribution.is_here:
        yield from (task(*each) for each in arguments)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    with _backend(distribution) as options:
        try:
            yield from Parallel(return_as="generator", **options)(delayed(task)(*each) for each in arguments)
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, perhaps for lack of memory: use fewer --jobs. What was finished is kept."
            ) from None


@contextmanager
def _backend(distribution: Distribution) -> Iterator[dict[str, Any]]:
    """Point joblib to the chosen processes or cluster; yield the options of its `Parallel`."""
    if distribution.scheduler is None:
        yield {"n_jobs": distribution.jobs, "initializer": _end_with, "initargs": (os.getpid(),)}
        return
    try:
        from distributed import Client, Security
    except ImportError:
        raise UserError("--scheduler needs dask: pip install 'gaussad[cluster]'.") from None
    from joblib import parallel_config

    security = Security()  # type: ignore[no-untyped-call]  # of dask's configuration
    _check_encryption(security, distribution.scheduler)
    try:
        client = Client(distribution.scheduler, security=security, timeout=_PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"no dask scheduler answers at {distribution.scheduler} ({first_line(error)}).") from None
    with client, parallel_config(backend="dask", client=client):
        yield {"n_jobs": -1, "pre_dispatch": "all"}


def _check_encryption(security: Security, address: str) -> None:
    """Check that the connection can be encrypted if it should be; dask's client itself would hang for a minute."""
    try:
        context = security.get_connection_args("client").get("ssl_context")  # type: ignore[no-untyped-call]
    except OSError as error:  # of OpenSSL too
        raise UserError(f"the certificates of dask's configuration cannot be used ({error}). {_CERTIFICATES}") from None
    if address.startswith("tls://") and context is None:
        raise UserError(f"--scheduler {address} needs certificates, and dask's configuration has none. {_CERTIFICATES}")
    if security.require_encryption and (address.startswith("tcp://") or "://" not in address):
        raise UserError(f"--scheduler {address}: dask's configuration requires encryption. Give tls://, or change it.")


def _end_with(parent: int) -> None:
    """End this worker process when its parent has ended, in whatever way; a signal to the parent does not reach it."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
