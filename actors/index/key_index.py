"""The slot of each key: in the rows as they are now, and in every snapshot that is still read."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.slots import is_visible, write
from lookalike.kernels.key_table import KeyTable
from lookalike.kernels.memory import GrowableRows


class KeyIndex:
    """One table of the newest rows, and the slots whose rows were replaced or deleted since older snapshots.

    A key that a snapshot shows is either at the slot which the table names now, or among the slots *retired* after
    that snapshot; these keep their rows, keys included, until its last reader has left. So one table answers for
    all snapshots, and nothing is copied when one is published.

    The lock orders the table's changes with look-ups: these wait 2 ms for a batch of 8,192 rows, and 0.16 s while the
    table of 5 million keys grows, which it does after a quarter more. A search by codes never comes here.
    """

    def __init__(self) -> None:
        self._keys = GrowableRows(1)
        self._table = KeyTable()
        self._lock = threading.Lock()
        # (the first generation that does not show them, slots), in order of generation
        self._retired: deque[tuple[int, NDArray[np.int64]]] = deque()
        # Of the newest snapshot.
        self._generation = self._count = 0
        self._visible: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        """How many slots have ever held a key."""
        return len(self._keys)

    @property
    def held_bytes(self) -> dict[str, int]:
        return {"keys": self._keys.held_bytes, "key_table": self._table.held_bytes}

    def keys(self) -> NDArray[np.uint64]:
        """The key of every slot: uint64, shape (n,)."""
        keys: NDArray[np.uint64] = self._keys.view()[:, 0]
        return keys

    def put(self, slots: NDArray[np.int64], keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Let each key be at a slot; none comes twice.

        Returns
        -------
        replaced : ndarray of int64
            The slots that held the keys before.
        free : ndarray of int64
            Those of them that no snapshot shows; the others are retired.

        Raises
        ------
        MemoryError
            There is no memory for a larger table. Nothing has changed.
        """
        with self._lock:
            write(self._keys, slots, keys.reshape(-1, 1))
            every = self.keys()
            previous = self._table.find(every, keys)
            try:
                self._table.put(every, slots)
            except MemoryError:
                # Some of them are in. Those that replaced another go back to it, which takes no memory.
                self._table.remove(every, keys[previous < 0])
                self._table.put(every, previous[previous >= 0])
                raise
            return self._retire(previous[previous >= 0])

    def remove(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take keys out, those that are there. Returns as ``put`` does."""
        with self._lock:
            slots = self._table.remove(self.keys(), keys)
            return self._retire(slots[slots >= 0])

    def _retire(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Under the lock under which the table changed: no look-up may find a row in neither of the two."""
        shown = is_visible(self._visible, self._count, slots)
        if shown.any():
            self._retired.append((self._generation + 1, slots[shown]))
        return slots, slots[~shown]

    def publish(self, generation: int, visible: NDArray[np.uint64] | None, count: int) -> None:
        """Take note of the snapshot that new readers get: what it shows and is replaced from now on is retired."""
        with self._lock:
            self._generation, self._visible, self._count = generation, visible, count

    def find(
        self, wanted: NDArray[np.uint64], generation: int, visible: NDArray[np.uint64] | None, count: int
    ) -> NDArray[np.int64]:
        """Find the slot of each key in the snapshot of a generation, which the caller reads.

        Parameters
        ----------
        wanted : ndarray of uint64, shape (m,)
        generation, visible, count
            Of the snapshot: its number, its bitmap, its slots.

        Returns
        -------
        ndarray of int64, shape (m,)
            -1 for a key that the snapshot does not show.
        """
        with self._lock:
            keys = self.keys()
            slots = self._table.find(keys, wanted)
            retired = [slots for first, slots in self._retired if first > generation]
        slots[~is_visible(visible, count, slots)] = -1
        missing = np.flatnonzero(slots < 0)
        if len(missing) and retired:
            earlier = np.concatenate(retired)
            earlier = earlier[is_visible(visible, count, earlier)]  # not those written and replaced after it
            earlier = earlier[np.isin(keys[earlier], wanted[missing])]
            slot_of = dict(zip(keys[earlier].tolist(), earlier.tolist(), strict=True))
            slots[missing] = [slot_of.get(key, -1) for key in wanted[missing].tolist()]
        return slots

    def reclaim(self, oldest: int) -> NDArray[np.int64]:
        """Forget the retired slots that no snapshot from ``oldest`` on shows, and return them."""
        free = [np.empty(0, np.int64)]
        with self._lock:
            while self._retired and self._retired[0][0] <= oldest:
                free.append(self._retired.popleft()[1])
        return np.concatenate(free)
