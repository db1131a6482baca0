"""A process that does jobs, one after the other, so that its memory and its CPU are its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Worker:
    """Calls a function of this module's importers in a process of its own. A context manager.

    Parameters
    ----------
    work : callable
        Given one end of a pipe and the arguments; answers each job that it receives, until it gets ``EOFError``.
    """

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pipe.close()  # ends a process that waits, and one that works when it is done
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def ask(self, job: object) -> Any:
        """Have a job done; EOFError where the process has ended."""
        self._pipe.send(job)
        return self._pipe.recv()
