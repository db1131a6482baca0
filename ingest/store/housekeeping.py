"""Merge segments and empty the trash beside whoever writes to a collection."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from lookalike.errors import LookalikeError
from lookalike.ingest.store.collection import Collection

logger = logging.getLogger(__name__)

# A bucket needs a merge every eight commits at the most, and searches do not wait for it.
PAUSE_S = 2.0


class Housekeeping:
    """A thread that does the merges that commits make due. A context manager, or ``start`` and ``stop``.

    Any number of processes may do this to one collection: whoever commits its merge first wins, the others drop theirs.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the merge under way end, and no other begin."""
        self._stopped.set()
        self._due.set()
        self._thread.join()

    def poke(self) -> None:
        """Say that there were commits."""
        self._due.set()

    def __enter__(self) -> Housekeeping:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            self._due.wait()
            self._due.clear()
            if self._stopped.is_set():
                return
            try:
                self._collection.compact(self._stopped.is_set)
            except LookalikeError:  # the store may be away for a while; the next commit tries again
                logger.exception("cannot merge segments of %s", self._collection.location)
