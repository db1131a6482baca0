"""A process that counts up by compare-and-swap; a module of its own, so that a new process can import it."""

from __future__ import annotations

import contextlib
from multiprocessing.synchronize import Barrier

from lookalike import storage
from lookalike.errors import Conflict
from lookalike.storage import Location

WRITERS = 4
ROUNDS = 25


def count_up(counter: Location, barrier: Barrier) -> None:
    """Add one to the number in a file, once a round, beside others who do the same."""
    barrier.wait()
    for _ in range(ROUNDS):
        done = False
        while not done:
            content, version = storage.read_versioned(counter)
            with contextlib.suppress(Conflict):
                storage.replace(counter, b"%d" % (int(content) + 1), version)
                done = True


def append_ids(log: Location, barrier: Barrier, writer: int) -> None:
    """Append one id a round to a file, as often as needed until it is there, whatever becomes of the answers."""
    barrier.wait()
    for number in range(ROUNDS):
        mine = f"{writer}/{number}"
        while mine not in (lines := (found := storage.read_versioned(log))[0].decode().split()):
            with contextlib.suppress(Conflict):
                storage.replace(log, " ".join([*lines, mine]).encode(), found[1])
