"""Requests of one kind in flight: how many are worked on, how many bytes they hold, who goes when there is no room.

Each kind has a lane of its own, so that a stalled upload takes no search's place. Only requests that are worked on are
counted: one whose client is waited for, while its body comes or its answer is taken, costs the bytes that it holds.
Where these are too many, the transfer that has been slow for longest is ended, so that clients that stall cost others
nothing; one on a slow line is left alone as long as there is room. Where nobody is slow, the newcomer is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

from lookalike.errors import LookalikeError

ResultT = TypeVar("ResultT")

# How long a client may be silent, and the least rate after that: 25 MB in 6.5 minutes.
MAX_SILENCE_S = 10.0
MIN_BYTES_PER_S = 64 * 2**10
# Where there is no room: a transfer below this rate gives way, whatever it has done before. The rate is that of the
# last half second to second, because a busy event loop is late, too.
MIN_CONTENDED_BYTES_PER_S = 2**20
MIN_WAIT_S = 0.5
WINDOW_S = 1.0
# Who holds no more than this is not ended for it, and is not refused for what others hold: so much the proxy collects
# before it hands a request on.
SMALL_BYTES = 16 * 2**10


class LaneFullError(LookalikeError):
    """Too many requests of one kind are in flight. Argument: of which kind."""

    def __str__(self) -> str:
        return f"too many {self.args[0]} at once; try again in a moment"


class TransferTooSlowError(LookalikeError):
    """A body came, or an answer was taken, too slowly. Argument: how much there was of it."""

    def __str__(self) -> str:
        return f"too slow: {self.args[0]:,} bytes so far; send all of the body at once"


class Lane:
    """The requests of one kind that are in flight.

    Parameters
    ----------
    name : str
        What they are, in the plural.
    max_working : int
        How many may be worked on.
    max_bytes : int
        Of all that they hold: bodies that have arrived, large answers that have not been taken.
    small_bytes : int
        A request that holds no more than this is never refused for what others hold.
    """

    def __init__(self, name: str, max_working: int, max_bytes: int, small_bytes: int = SMALL_BYTES) -> None:
        self.name = name
        self.max_working = max_working
        self.max_bytes = max_bytes
        self.small_bytes = small_bytes
        self.working = 0
        self.held_bytes = 0
        self.waiting: dict[Transfer, None] = {}  # for their clients, the longest first

    def check(self) -> None:
        """Refuse a newcomer while as many are worked on as may be.

        Raises
        ------
        LaneFullError
        """
        if self.working >= self.max_working:
            raise LaneFullError(self.name)

    def make_room(self, newcomer: Transfer) -> None:
        """End slow transfers until what is held fits.

        Raises
        ------
        LaneFullError
            It does not, and the newcomer is not small.
        """
        while self.held_bytes > self.max_bytes:
            if not self._end_slow(newcomer):
                if newcomer.held_bytes > self.small_bytes:
                    raise LaneFullError(self.name)
                return

    def _end_slow(self, newcomer: Transfer) -> bool:
        """End the transfer that has been slow for longest, of those that hold something worth having."""
        now = asyncio.get_running_loop().time()
        for transfer in self.waiting:
            if transfer is not newcomer and transfer.held_bytes > SMALL_BYTES and transfer.is_slow(now):
                transfer.end()
                return True
        return False


class Transfer:
    """One request in its lane: what it holds, and how fast its client sends or reads."""

    __slots__ = (
        "_ended",
        "_lane",
        "_moved_bytes",
        "_started",
        "_timeout",
        "_window_bytes",
        "_window_started",
        "_working",
        "held_bytes",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._timeout: asyncio.Timeout | None = None
        self._ended = False
        self._working = False
        self._started = 0.0
        self._moved_bytes = 0
        self._window_started = 0.0
        self._window_bytes = 0
        self.held_bytes = 0

    def wait(self) -> None:
        """From now on the client is waited for."""
        self._stop()
        if not self._ended:
            self._lane.waiting[self] = None
        self._started = self._window_started = asyncio.get_running_loop().time()
        self._moved_bytes = self._window_bytes = 0

    def work(self) -> None:
        """From now on the client waits for us.

        Raises
        ------
        LaneFullError
            Too many are worked on.
        """
        self._stop()
        if not self._ended:
            self._lane.check()
            self._lane.working += 1
            self._working = True

    def _stop(self) -> None:
        self._lane.waiting.pop(self, None)
        self._lane.working -= self._working
        self._working = False

    async def move(self, step: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Wait for the client's next step for as long as it may take.

        Raises
        ------
        TransferTooSlowError
            It took longer, or has been slow and another needs the room.
        """
        if self._ended:
            raise TransferTooSlowError(self._moved_bytes)
        silent = asyncio.get_running_loop().time() + MAX_SILENCE_S
        slowest = self._started + MAX_SILENCE_S + self._moved_bytes / MIN_BYTES_PER_S
        try:
            async with asyncio.timeout_at(min(silent, slowest)) as self._timeout:
                return await step()
        except TimeoutError:
            raise TransferTooSlowError(self._moved_bytes) from None
        finally:
            self._timeout = None

    def moved(self, size_bytes: int) -> None:
        """Count what was sent or received."""
        self._moved_bytes += size_bytes
        now = asyncio.get_running_loop().time()
        if now - self._window_started > WINDOW_S:
            self._window_started, self._window_bytes = now, 0
        self._window_bytes += size_bytes

    def hold(self, size_bytes: int) -> None:
        """Count what is held.

        Raises
        ------
        LaneFullError
            There is no room for it.
        """
        if self._ended:
            return  # it is counted no more, and the next step fails
        self.held_bytes += size_bytes
        self._lane.held_bytes += size_bytes
        if self._lane.held_bytes > self._lane.max_bytes:
            self._lane.make_room(self)

    def is_slow(self, now: float) -> bool:
        """Whether the client is waited for now, and slower than others should wait for."""
        if self._timeout is None:
            return False
        age_s = now - self._window_started
        # After the window's end nothing has moved.
        least_bytes = age_s * MIN_CONTENDED_BYTES_PER_S if age_s <= WINDOW_S else inf
        return age_s > MIN_WAIT_S and self._window_bytes < least_bytes

    def end(self) -> None:
        """Give what is held to others now, and let the step in flight fail."""
        self.leave()
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> None:
        """Give everything back; a second time does nothing."""
        if not self._ended:
            self._ended = True
            self._stop()
            self._lane.held_bytes -= self.held_bytes
            self.held_bytes = 0
