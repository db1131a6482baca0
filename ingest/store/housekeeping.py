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
# A merge ends between two batches, milliseconds apart, when it is stopped. Only storage that does not answer takes
# longer; a merge can be left alone at any moment, and nothing is lost.
STOP_S = 5.0


class Housekeeping:
    """A thread that does the merges that commits make due. A context manager, or ``start`` and ``stop``.

    A block that ends well waits for the merges that are due; one that is left by an error gives them up.

    Any number of processes may do this to one collection: whoever commits its merge first wins, the others drop theirs.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._due = threading.Event()
        self._ended = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, give_up: bool = True) -> None:
        """End the thread: within a few seconds, whatever it is doing, or else once all due merges are done."""
        self._ended.set()
        self._due.set()
        try:
            if not give_up:
                self._thread.join()
        finally:  # Ctrl-C ends the wait
            self._given_up.set()
            self._thread.join(STOP_S)

    def poke(self) -> None:
        """Say that there were commits."""
        self._due.set()

    def __enter__(self) -> Housekeeping:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(give_up=kind is not None)

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            self._due.wait()
            self._due.clear()
            try:
                self._collection.compact(self._given_up.is_set)
            except LookalikeError:  # the store may be away for a while; the next commit tries again
                logger.exception("cannot merge segments of %s", self._collection.location)
            except Exception:  # a defect must not end merges for good: without them every commit gets slower
                logger.exception("merging segments of %s failed", self._collection.location)
