"""Photos to pixels in processes of their own, with limits: a photo that goes over one costs its own request alone.

Small photos, which take milliseconds, have processes apart from large ones, and never wait behind one that takes a
second.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.coordinator.batching import OverloadedError
from lookalike.cluster.coordinator.decoder_process import CPU_SIGNAL, CRASHES, DecoderProcess, Limits
from lookalike.errors import LookalikeError, UndecodableImage
from lookalike.ingest.photos.header import Header, read_header

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

T = TypeVar("T")

# A photo whose client went away is decoded to its end if that comes soon: another process costs more to start.
GRACE_S = 0.3
# Photos wait for at most so long, as far as their headers tell.
MAX_WAITING_S = 2.0
# Small photos are those that take at most so long.
SMALL_S = 0.15
# CPU time per pixel and per byte, rounded up from the worst photos measured.
_BASELINE_PIXEL_S, _BASELINE_BYTE_S = 1.5e-9, 10e-9
_OTHER_PIXEL_S = 50e-9
_LEAST_S = 2e-3


class DecoderLostError(LookalikeError):
    """The process that decoded a photo ended or hangs, and not by the photo's fault. Argument: what happened."""


# The worst photos of 50 megapixels took 2.4 s (a lossless WebP) and 0.8 GB (any WebP), and small ones 0.1 s and 70 MB.
LARGE = Limits(cpu_s=6.0, wall_s=30.0, memory_bytes=1200 * 2**20, niceness=5)
SMALL = Limits(cpu_s=1.5, wall_s=15.0, memory_bytes=256 * 2**20)


def estimated_s(header: Header, size_bytes: int) -> float:
    """Estimate the CPU time of decoding from above. A baseline JPEG is read whole, but made into few pixels."""
    pixels = header.width * header.height
    if header.media_type == "image/jpeg" and not header.progressive:
        return max(pixels * _BASELINE_PIXEL_S + size_bytes * _BASELINE_BYTE_S, _LEAST_S)
    return max(pixels * _OTHER_PIXEL_S, _LEAST_S)


class Decoders:
    """Decode photos in processes. They start with the first photo, or with ``start``, and end with this process.

    Parameters
    ----------
    small : int, optional
        Processes for small photos; by default one per core, four at most.
    """

    def __init__(self, small: int | None = None, *, small_limits: Limits = SMALL, large_limits: Limits = LARGE) -> None:
        self._small = Lane(small or min(4, len(os.sched_getaffinity(0))), small_limits)
        self._large = Lane(1, large_limits)

    async def start(self) -> None:
        """Start every process that does not run yet, and return once all are ready."""
        await asyncio.gather(self._small.start(), self._large.start())

    async def decode(self, photo: bytes, side_px: int) -> Pixels:
        """Decode a photo exactly as ``ingest.photos.decode`` does.

        Raises
        ------
        UndecodableImage
            It is no photo that we read, or takes more CPU time or memory than a photo may.
        OverloadedError
            Too many photos wait already.
        DecoderLostError
            The process was killed, or does not come to its end.
        """
        needed_s = estimated_s(read_header(photo), len(photo))
        lane = self._small if needed_s <= SMALL_S else self._large
        return await lane.decode(photo, side_px, needed_s)

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [*self._small.pids, *self._large.pids]

    def close(self) -> None:
        """End the processes."""
        self._small.close()
        self._large.close()


class Lane:
    """Some processes with the same limits, and one queue before them."""

    def __init__(self, processes: int, limits: Limits) -> None:
        self._processes = [DecoderProcess(limits) for _ in range(processes)]
        self._free = list(self._processes)
        self._waiting: OrderedDict[asyncio.Future[DecoderProcess], float] = OrderedDict()
        self._waiting_s = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Start every process that does not run yet."""
        idle, self._free = self._free, []
        await asyncio.gather(*(self._renew(process) for process in idle))

    async def decode(self, photo: bytes, side_px: int, needed_s: float) -> Pixels:
        """Decode a photo that takes about ``needed_s``; see ``Decoders.decode``."""
        process = await self._take(needed_s)
        job = self._keep(self._decode(process, photo, side_px))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:  # the client went away
            asyncio.get_running_loop().call_later(GRACE_S, _end, job, process)
            raise

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [process.pid for process in self._processes if process.pid is not None]

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()

    async def _take(self, needed_s: float) -> DecoderProcess:
        """Wait for a process. Whoever is cancelled meanwhile leaves the queue at once."""
        if self._free:
            return self._free.pop()
        if self._waiting and self._waiting_s + needed_s > MAX_WAITING_S * len(self._processes):
            raise OverloadedError(f"{len(self._waiting)} photos wait to be decoded already; try again in a moment")
        given: asyncio.Future[DecoderProcess] = asyncio.get_running_loop().create_future()
        self._waiting[given] = needed_s
        self._waiting_s += needed_s
        try:
            return await given
        except asyncio.CancelledError:
            if given in self._waiting:
                self._leave(given)
            elif not given.cancelled():  # it was given one in the same moment
                self._give(given.result())
            raise

    def _leave(self, given: asyncio.Future[DecoderProcess]) -> None:
        self._waiting_s -= self._waiting.pop(given)
        if not self._waiting:
            self._waiting_s = 0.0  # what rounding left

    def _give(self, process: DecoderProcess) -> None:
        """Hand a process to whoever waits longest."""
        while self._waiting:
            given = next(iter(self._waiting))
            self._leave(given)
            if not given.done():
                given.set_result(process)
                return
        self._free.append(process)

    async def _decode(self, process: DecoderProcess, photo: bytes, side_px: int) -> Pixels:
        """Have one photo decoded, and hand the process on: at once, or a new one if this one ended."""
        try:
            await process.start()
            answer = await process.ask(photo, side_px)
        except OSError as error:
            explained = _explained(await process.end(), process.limits, isinstance(error, TimeoutError))
            self._keep(self._renew(process))
            raise explained from error
        except BaseException:  # the event loop ends
            process.close()
            self._give(process)
            raise
        self._give(process)
        if isinstance(answer, str):
            raise UndecodableImage(answer)
        return answer

    async def _renew(self, process: DecoderProcess) -> None:
        """Start a process, and hand it on. If it cannot start, the next photo tries again."""
        try:
            await process.start()
        except OSError as error:
            logger.error("cannot start a process to decode photos: %r", error)
            process.close()
        finally:
            self._give(process)

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task and hold it until it is done. If its client went away, nobody else takes its error."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task


def _end(job: asyncio.Task[Pixels], process: DecoderProcess) -> None:
    """End what nobody waits for any more, unless it came to its end."""
    if not job.done():
        process.kill()


def _explained(code: int, limits: Limits, late: bool) -> LookalikeError:
    """Say why a process ended, and by whose fault."""
    if late:
        return DecoderLostError(f"the photo was not decoded within {limits.wall_s:g} s; try again in a moment")
    if code == -CPU_SIGNAL:
        return UndecodableImage(f"it takes more than {limits.cpu_s:g} s of CPU time to decode")
    if -code in CRASHES:
        return UndecodableImage("damaged: the decoder crashes on it")
    return DecoderLostError("the process that decoded the photo ended; try again in a moment")
