"""Requests of one kind in flight: how many there may be, how many bytes they hold, and who goes when there is no room.

Each kind has a lane of its own, so that a stalled upload takes no search's place. A lane that is full ends the transfer
that has been slow for longest, so that clients that stall cost others nothing; one on a slow line is left alone as long
as there is room. Where nobody is slow, the newcomer is refused at once.
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
FAIR_BYTES_PER_S = 2**20
FAIR_AFTER_S = 0.5
WINDOW_S = 1.0
# What holds no more than this is never refused for its bytes: the number of requests bounds these.
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
    max_requests : int
    max_bytes : int
        Of all that they hold: bodies that have arrived, large answers that have not been taken.
    """

    def __init__(self, name: str, max_requests: int, max_bytes: int) -> None:
        self.name = name
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.held_bytes = 0
        self.moving: dict[Transfer, None] = {}  # those that wait for their client, the longest first

    def enter(self) -> Transfer:
        """Take a place; give it back with ``Transfer.leave``.

        Raises
        ------
        LaneFullError
            Every place is taken, and nobody is slow.
        """
        if self.requests >= self.max_requests and not self._end_slow(0, None):
            raise LaneFullError(self.name)
        self.requests += 1
        return Transfer(self)

    def make_room(self, newcomer: Transfer) -> None:
        """End slow transfers until what is held fits.

        Raises
        ------
        LaneFullError
            It does not, and the newcomer is not small.
        """
        while self.held_bytes > self.max_bytes and newcomer.held_bytes > SMALL_BYTES:
            if not self._end_slow(SMALL_BYTES, newcomer):
                raise LaneFullError(self.name)

    def _end_slow(self, more_than_bytes: int, spared: Transfer | None) -> bool:
        """End the transfer that has been slow for longest, of those that hold more than so much."""
        now = asyncio.get_running_loop().time()
        for transfer in self.moving:
            if transfer is not spared and transfer.held_bytes >= more_than_bytes and transfer.is_slow(now):
                transfer.end()
                return True
        return False


class Transfer:
    """One request's place in its lane: what it holds, and how fast its client sends or reads."""

    __slots__ = (
        "_ended",
        "_lane",
        "_moved_bytes",
        "_started",
        "_timeout",
        "_window_bytes",
        "_window_started",
        "held_bytes",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._timeout: asyncio.Timeout | None = None
        self._ended = False
        self._started = 0.0
        self._moved_bytes = 0
        self._window_started = 0.0
        self._window_bytes = 0
        self.held_bytes = 0

    def start(self) -> None:
        """From now on the client is waited for."""
        self._started = self._window_started = asyncio.get_running_loop().time()
        self._moved_bytes = self._window_bytes = 0
        self._lane.moving[self] = None

    def stop(self) -> None:
        """From now on the client waits for us."""
        self._lane.moving.pop(self, None)

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
        fair_bytes = age_s * FAIR_BYTES_PER_S if age_s <= WINDOW_S else inf  # nothing has moved since the window's end
        return age_s > FAIR_AFTER_S and self._window_bytes < fair_bytes

    def end(self) -> None:
        """Give the place to another now, and let the step in flight fail."""
        self.leave()
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> None:
        """Give the place back; a second time does nothing."""
        if not self._ended:
            self._ended = True
            self.stop()
            self._lane.requests -= 1
            self._lane.held_bytes -= self.held_bytes
            self.held_bytes = 0
