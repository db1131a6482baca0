"""Which slots hold a visible row, which may be written again, and who still reads an older snapshot."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels.memory import GrowableRows


def write(rows: GrowableRows, slots: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Write one row per slot; slots past the end are made, those between hold zeros."""
    if len(slots):
        rows.extend(max(int(slots.max()) + 1 - len(rows), 0))
    rows.put(slots, values)


class FreeList:
    """Numbers to be used again, the latest first: 4 bytes each."""

    def __init__(self) -> None:
        self._stack: list[NDArray[np.uint32]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def held_bytes(self) -> int:
        return 4 * self._count

    def push(self, numbers: NDArray[np.int64]) -> None:
        if len(numbers):
            self._stack.append(numbers.astype(np.uint32))
            self._count += len(numbers)

    def pop(self, count: int) -> NDArray[np.int64]:
        """Take up to ``count`` numbers: int64, shape (m,)."""
        taken: list[NDArray[np.uint32]] = []
        missing = min(count, self._count)
        self._count -= missing
        while missing:
            top = self._stack.pop()
            if len(top) > missing:
                # A copy, so that what is left of a large piece does not keep all of it.
                self._stack.append(top[:-missing].copy() if len(top) > 2 * missing + 4096 else top[:-missing])
                top = top[-missing:]
            taken.append(top)
            missing -= len(top)
        return np.concatenate([np.empty(0, np.int64), *taken], dtype=np.int64)


_MAX_KNOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Writes:
    """Which slots were written lately, as of one publication: all those since the ``first`` generation.

    ``pieces`` are (generation that shows them first, slots uint32), in order of generation.
    """

    first: int = 0
    pieces: tuple[tuple[int, NDArray[np.uint32]], ...] = ()
    # By generation, a few: every condition of a search asks, and most for the same one.
    _known: dict[int, NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)

    def since(self, generation: int) -> NDArray[np.int64] | None:
        """Slots that a snapshot shows otherwise than that of an earlier generation: ascending int64, each once.

        None: too many were written since, and they were not kept.
        """
        if generation < self.first:
            return None
        known = self._known.get(generation)
        if known is None:
            slots = [slots for published, slots in self.pieces if published > generation]
            known = np.unique(np.concatenate([np.empty(0, np.int64), *slots], dtype=np.int64))
            if len(self._known) < _MAX_KNOWN:
                self._known[generation] = known
        return known


class WriteLog:
    """Remembers which slots were written, so that what was computed of all rows needs not be computed anew.

    A slot becomes visible only by being written, and its contents change in no other way: whatever was computed of the
    rows of one snapshot holds in a later one for all slots that were not written between the two.
    """

    # To compute anew for more slots than that, at 50 ns each, costs as much as for all of them in their order.
    _SHARE, _MIN_SLOTS = 1 / 256, 1 << 12
    _MAX_PIECES = 256

    def __init__(self) -> None:
        self._pending: list[NDArray[np.uint32]] | None = []
        self._pending_slots = 0
        self._writes = Writes()

    @property
    def held_bytes(self) -> int:
        return 4 * (self._pending_slots + sum(len(slots) for _, slots in self._writes.pieces))

    def note(self, slots: NDArray[np.int64], total: int) -> None:
        """Take note of written slots, of ``total`` that there are."""
        if self._pending is None:
            return
        self._pending.append(slots.astype(np.uint32))
        self._pending_slots += len(slots)
        if self._pending_slots > self._limit(total):
            self._pending, self._pending_slots = None, 0

    def publish(self, generation: int, total: int) -> Writes:
        """What a snapshot of this generation knows. Each generation is published once."""
        if self._pending is None:
            self._writes = Writes(generation)
        elif self._pending_slots:
            pieces = [*self._writes.pieces, (generation, np.concatenate(self._pending))]
            first, kept = self._writes.first, sum(len(slots) for _, slots in pieces)
            while kept > self._limit(total) or len(pieces) > self._MAX_PIECES:
                first, slots = pieces.pop(0)
                kept -= len(slots)
            self._writes = Writes(first, tuple(pieces))
        self._pending, self._pending_slots = [], 0
        return self._writes

    def _limit(self, total: int) -> int:
        return max(int(total * self._SHARE), self._MIN_SLOTS)


class VisibleSlots:
    """One bit per slot, as the kernels take it: slot i is bit i % 64 of word i // 64."""

    def __init__(self) -> None:
        self._words = np.zeros(1024, np.uint64)
        self.count = 0

    @property
    def held_bytes(self) -> int:
        return self._words.nbytes

    def show(self, slots: NDArray[np.int64]) -> None:
        """Make hidden slots visible; none may come twice."""
        if len(slots):
            words = (int(slots.max()) >> 6) + 1
            if words > len(self._words):
                grown = np.zeros(words + words // 4, np.uint64)
                grown[: len(self._words)] = self._words
                self._words = grown
            np.bitwise_or.at(self._words, slots >> 6, _bits(slots))
            self.count += len(slots)

    def hide(self, slots: NDArray[np.int64]) -> None:
        """Make visible slots hidden; none may come twice."""
        if len(slots):
            np.bitwise_and.at(self._words, slots >> 6, ~_bits(slots))
            self.count -= len(slots)

    def freeze(self, slots: int) -> NDArray[np.uint64] | None:
        """Copy the bits of the first ``slots`` slots. None: all of them are visible."""
        if self.count == slots:
            return None
        words = np.zeros(-(-slots // 64), np.uint64)
        known = self._words[: len(words)]  # fewer where the last slots were never shown
        words[: len(known)] = known
        return words


def is_visible(visible: NDArray[np.uint64] | None, count: int, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a snapshot of ``count`` slots shows each of some slots (-1: no): bool, shape of ``slots``."""
    within: NDArray[np.bool_] = (slots >= 0) & (slots < count)
    if visible is not None and len(visible):
        inside = np.where(within, slots, 0)
        within &= (visible[inside >> 6] & _bits(inside)) != 0
    return within


def _bits(slots: NDArray[np.int64]) -> NDArray[np.uint64]:
    return np.left_shift(np.uint64(1), (slots & 63).astype(np.uint64))


class _Numbered(Protocol):
    @property
    def generation(self) -> int: ...


S = TypeVar("S", bound=_Numbered)


class Published(Generic[S]):
    """The snapshot that new readers get, and how many still read each one.

    What a snapshot shows must stay in place until its last reader has left: the idea of read-copy-update. Readers
    count themselves in and out under a lock held for a microsecond; the writer reads the oldest generation in use.
    """

    def __init__(self, snapshot: S) -> None:
        self._lock = threading.Lock()
        self._snapshot = snapshot
        self._readers: Counter[int] = Counter()

    def swap(self, snapshot: S) -> None:
        with self._lock:
            self._snapshot = snapshot

    @contextmanager
    def reading(self) -> Iterator[S]:
        with self._lock:
            snapshot = self._snapshot
            self._readers[snapshot.generation] += 1
        try:
            yield snapshot
        finally:
            with self._lock:
                self._readers[snapshot.generation] -= 1
                if not self._readers[snapshot.generation]:
                    del self._readers[snapshot.generation]

    def oldest(self) -> int:
        """The lowest generation that a reader holds or can get."""
        with self._lock:
            return min(self._readers, default=self._snapshot.generation)
