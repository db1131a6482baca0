"""A photo to its codes: decoded in another process, encoded in batches, and kept for a minute.

Requests for the same photo share one computation, also while it runs.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.actors.query.query import Descriptor
from lookalike.cluster.coordinator.batching import BatchingQueue
from lookalike.cluster.coordinator.decoding import Decoders, Pixels
from lookalike.errors import LookalikeError

# Encodes photos, each uint8 (side, side, 3), in their order; raises EncoderUnavailableError where it cannot.
Encode = Callable[[Sequence[Pixels]], Awaitable[Sequence[Descriptor]]]

# A call of 16 photos keeps two cores busy for 40 ms; more would only let the first wait for the last.
MAX_PHOTOS_PER_CALL = 16
# A user who turns pages or changes filters sends the same photo again. 1,024 descriptors are below a megabyte.
KEPT_S = 60.0
MAX_KEPT = 1024
# Up to here a photo is hashed in 0.3 ms; a larger one is hashed in a thread.
MAX_HASHED_HERE_BYTES = 2**18


class EncoderUnavailableError(LookalikeError):
    """The encoder does not answer. Argument: the reason."""


@dataclass
class _Shared:
    """A computation, and how many requests wait for it."""

    task: asyncio.Task[Descriptor]
    waiting: int = 0


class PhotoEncoder:
    """Encode the photos of one collection, whose model never changes.

    Parameters
    ----------
    decoders : Decoders
        Shared with other collections.
    encode : Encode
    side_px : int
        The side of the square that the model sees.
    """

    def __init__(self, decoders: Decoders, encode: Encode, side_px: int) -> None:
        self._decoders = decoders
        self._encode = encode
        self._side_px = side_px
        self._queue = BatchingQueue(encode, lambda _: MAX_PHOTOS_PER_CALL)
        self._running: dict[bytes, _Shared] = {}
        self._kept: OrderedDict[bytes, tuple[float, Descriptor]] = OrderedDict()

    async def __call__(self, photo: bytes) -> Descriptor:
        """Turn a photo into its codes.

        Raises
        ------
        UndecodableImage
            It is no photo that we read, or takes more to decode than a photo may.
        OverloadedError
            Too many photos wait already.
        DecoderLostError, EncoderUnavailableError
            A process ended meanwhile, or does not answer in time.
        """
        key = await _digest(photo)
        kept = self._find(key)
        if kept is not None:
            return kept
        shared = self._running.get(key)
        if shared is None:
            # In a context of its own: Serve cancels what was called in that of a request when its client goes away,
            # but others may wait for the same photo, or for another one in the same call.
            task = asyncio.create_task(self._make(key, photo), context=contextvars.Context())
            shared = self._running[key] = _Shared(task)
            shared.task.add_done_callback(lambda _: self._forget(key, shared))
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting:  # all clients have gone, or all have their answer
                self._forget(key, shared)
                shared.task.cancel()

    async def warm(self) -> None:
        """Do what the first photos would have to wait for: start the decoders, and encode batches of each size."""
        await self._decoders.start()
        grey = np.full((self._side_px, self._side_px, 3), 128, np.uint8)
        for size in (1, MAX_PHOTOS_PER_CALL // 2, MAX_PHOTOS_PER_CALL):
            await self._encode([grey] * size)

    async def _make(self, key: bytes, photo: bytes) -> Descriptor:
        pixels = await self._decoders.decode(photo, self._side_px)
        made = await self._queue.submit(pixels)
        made = Descriptor(made.short.copy(), made.long.copy())  # not a view that holds the batch
        self._kept[key] = (asyncio.get_running_loop().time() + KEPT_S, made)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return made

    def _find(self, key: bytes) -> Descriptor | None:
        """The codes of a photo that was encoded within the last minute."""
        until, made = self._kept.get(key, (0.0, None))
        if made is not None and until < asyncio.get_running_loop().time():
            del self._kept[key]
            return None
        return made

    def _forget(self, key: bytes, shared: _Shared) -> None:
        if self._running.get(key) is shared:
            del self._running[key]


async def _digest(photo: bytes) -> bytes:
    """Hash a photo, so that no other one is taken for it."""
    if len(photo) <= MAX_HASHED_HERE_BYTES:
        return hashlib.blake2b(photo, digest_size=32).digest()
    return await asyncio.to_thread(lambda: hashlib.blake2b(photo, digest_size=32).digest())
