"""What a server does before it says that it is ready: each collection's whole path, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from lookalike.cluster.coordinator.collection import ServedCollection

logger = logging.getLogger(__name__)

PAUSE_S = 1.0
# An encoder that is started again is back within half a minute. After that a server that serves all the rest is worth
# more than one that is not ready.
MAX_TRIES = 60


class WarmUp:
    """Warm collections up, and tell when that is done."""

    def __init__(self, collections: Iterable[ServedCollection] = (), pause_s: float = PAUSE_S) -> None:
        self._collections = list(collections)
        self._pause_s = pause_s
        self._done = asyncio.Event()
        if not self._collections:
            self._done.set()

    @property
    def is_done(self) -> bool:
        """Whether every collection is warm, or was given up."""
        return self._done.is_set()

    async def wait(self) -> None:
        """Return when it is done."""
        await self._done.wait()

    async def run(self) -> None:
        """Do it: all collections at once, each until it succeeds."""
        try:
            await asyncio.gather(*(self._warm(collection) for collection in self._collections))
        finally:
            self._done.set()

    async def _warm(self, collection: ServedCollection) -> None:
        error: Exception | None = None
        for _ in range(MAX_TRIES):
            try:
                await collection.warm()
                return
            except Exception as failure:  # noqa: BLE001 - whatever it is, requests meet it too, and say so
                error = failure
            await asyncio.sleep(self._pause_s)
        logger.error("%s is served, but its first requests may be slow or fail", collection.name, exc_info=error)
