"""The words of one text field by slot, in scratch files: a filter reads the postings of the words that it names.

New texts are collected in memory and become a *run* (``kernels.word_index``), which is never changed. Of a slot the
newest run that has an entry of it counts. Runs are merged in a thread of their own, so that there are few; a view keeps
the runs that it was made of, so that no search is disturbed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.actors.index.ragged import parts_of
from lookalike.actors.index.scratch import ScratchFile
from lookalike.actors.index.words import fold_pieces, prefix_of
from lookalike.kernels.word_index import MAX_MERGED, Collected, Collector, Merge, Run, can_merge

logger = logging.getLogger(__name__)

Bits = NDArray[np.uint64]


def _nothing() -> None:
    pass


class Words:
    """The words of the slots as a snapshot sees them; what they say of hidden slots means nothing."""

    def __init__(self, runs: tuple[Run, ...], slots: int) -> None:
        self.runs, self._slots = runs, slots

    def cost(self, words: Sequence[str]) -> int:
        """How many postings and slots ``matching`` would read, each about a nanosecond; microseconds to find out."""
        return sum(
            run.slots + sum(last - first for first, last in _ranges(run, [prefix_of(word) for word in words]))
            for run in self.runs
        )

    def matching(self, words: Sequence[str], check: Callable[[], None] = _nothing) -> Bits:
        """Which slots have, for each of some words, a word that begins with it.

        Parameters
        ----------
        words : sequence of str
            As ``words.words_of`` gives them, one at least.
        check : callable
            Called before the postings of each word are read; what it raises ends the work.

        Returns
        -------
        ndarray of uint64, shape (ceil(slots / 64),)
            Slot i is bit ``i & 63`` of word ``i >> 6``.
        """
        runs = self.runs  # read once: a merge may replace them
        prefixes = [prefix_of(word) for word in words]
        size = -(-max([self._slots, *(run.end for run in runs)]) // 64)
        bits = np.zeros(size, np.uint64)
        marks = np.zeros(size, np.uint64)
        for run in runs:
            check()
            # The rarest word first: most runs of a large index lack one of three words.
            ranges = sorted(_ranges(run, prefixes), key=lambda found: found[1] - found[0])
            if run.is_sparse:
                run.match(ranges, bits, marks)
            else:
                _match(run, ranges, bits, check)
        bits = bits[: -(-self._slots // 64)]
        if self._slots % 64:
            bits[-1] &= np.uint64((1 << self._slots % 64) - 1)
        return bits


def _ranges(run: Run, prefixes: Sequence[bytes]) -> list[tuple[int, int]]:
    return [run.find(prefix) for prefix in prefixes]


def _match(run: Run, ranges: Sequence[tuple[int, int]], bits: Bits, check: Callable[[], None]) -> None:
    part = bits[run.base // 64 : run.base // 64 + len(run.cover)]
    part &= ~run.cover
    if any(first == last for first, last in ranges):
        return
    met = run.select(*ranges[0])
    for first, last in ranges[1:]:
        check()
        met &= run.select(first, last)
    part |= met


class WordIndex:
    """Words by slot. One thread puts, tidies and makes views; any number read these.

    Parameters
    ----------
    folder : Path, optional
        Where scratch files are made, the system's temporary one unless given.
    """

    # A run is written when so much was collected: it decides how often a run is rewritten while a shard is loaded.
    _RUN_BYTES = 8 << 20
    # Up to here what was collected is kept as it is from view to view: runs for a few rows each would be many.
    _TAIL_ENTRIES = 4096
    _TAIL_BYTES = 1 << 20
    # Texts taken at a time, so that little more than a run is collected whatever the batch.
    _PART_BYTES = 4 << 20
    # While a shard is loaded, which makes no view, runs are merged when there are so many.
    _MAX_LOADED_RUNS = 64
    # Rewriting a few void entries is not worth it.
    _MIN_GARBAGE = 1 << 16

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._collector = Collector(fold_pieces)
        self._collected: list[NDArray[np.uint32]] = []
        self._tail: Run | None = None  # what was collected, as a run; None: not made, or more came since
        self._lock = threading.Lock()  # of what follows, which merges change
        self._runs: tuple[Run, ...] = ()
        self._views = 0
        self._latest = Words((), 0)
        self._merging: threading.Thread | None = None

    @property
    def held_bytes(self) -> int:
        tail = self._tail
        return self._collector.held_bytes + 4 * len(self._collector) + (0 if tail is None else len(tail.data))

    @property
    def disk_bytes(self) -> int:
        with self._lock:
            return sum(len(run.data) for run in self._runs)

    def put(self, slots: NDArray[np.int64], values: pa.Array) -> None:
        """Set the texts of some slots; a null is an empty text.

        Raises
        ------
        OSError, MemoryError
            The disk is full or fails, or there is no memory. Of the slots given some may have their new texts.
        """
        values = pc.fill_null(values, "")
        data, bounds = parts_of(values)
        start = 0
        while start < len(slots):
            if self._collector.held_bytes > self._RUN_BYTES:
                self._flush()
            stop = int(np.searchsorted(bounds, bounds[start] + self._PART_BYTES, "right")) - 1
            stop = min(max(stop, start + 1), len(slots))
            self._collector.add(data, bounds[start : stop + 1])
            self._collected.append(slots[start:stop].astype(np.uint32))
            self._tail = None
            start = stop
        if len(self._runs) > self._MAX_LOADED_RUNS:
            self._start_merge(None, None, None)

    def view(self, slots: int) -> Words:
        """The words of the first ``slots`` slots as they are now."""
        if len(self._collector) > self._TAIL_ENTRIES or self._collector.held_bytes > self._TAIL_BYTES:
            try:
                self._flush()
            except OSError:  # what was collected stays in memory; once it is too much for that, putting fails
                logger.exception("cannot write words to the scratch folder")
        if self._tail is None and len(self._collector):
            collected = self._prepared()
            data = np.empty(collected.max_bytes, np.uint8)
            self._tail = Run.of(data[: collected.write(data)])
        tail = () if self._tail is None else (self._tail,)
        with self._lock:
            self._views += 1
            self._latest = Words((*self._runs, *tail), slots)
            return self._latest

    def tidy(self, visible: Bits | None, slots: int, rows: int) -> None:
        """Begin to merge runs where it is due, in a thread of its own: call it before the view that shows these slots.

        When the newer runs together have the size of an older one, they and it become one; when less than half of all
        entries are of the ``rows`` visible slots, all do. So runs are about as many as the logarithm of the rows, and
        an entry is rewritten about as often. Entries of slots that are not ``visible`` are dropped.
        """
        self._start_merge(visible, slots, rows)

    def wait(self) -> None:
        """Wait until nothing is being merged."""
        merging = self._merging
        if merging is not None:
            merging.join()

    def _prepared(self) -> Collected:
        """What was collected, to be a run: of each slot the last entry."""
        slots = np.concatenate([np.empty(0, np.uint32), *self._collected])
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        last = np.ones(len(ordered), bool)
        last[:-1] = ordered[1:] != ordered[:-1]
        return self._collector.prepare(order[last].astype(np.uint32), ordered[last])

    def _flush(self) -> None:
        """Let what was collected be a run in a file."""
        run = self._written(self._prepared())
        with self._lock:
            self._runs = (*self._runs, run)
        self._collector.clear()
        self._collected, self._tail = [], None

    def _written(self, prepared: Collected | Merge) -> Run:
        file = ScratchFile(self._folder, prepared.max_bytes)
        return Run.of(file.finish(prepared.write(file.data)))

    def _replace(self, replaced: tuple[Run, ...], run: Run, views: int) -> None:
        """Let a run stand for some, also in the latest view if more than ``views`` were made."""
        new = (run,) if run.slots else ()
        with self._lock:
            self._runs = _with(self._runs, replaced, new)
            if self._views > views:
                self._latest.runs = _with(self._latest.runs, replaced, new)

    def _start_merge(self, visible: Bits | None, slots: int | None, rows: int | None) -> None:
        with self._lock:
            due = () if self._merging else self._due(rows)
            if due:
                # A view made before shows slots that are hidden by now; without a bitmap none is taken for hidden.
                views = -1 if slots is None else self._views
                arguments = (due, visible, slots, views)
                self._merging = threading.Thread(target=self._merge, args=arguments, name="merge words", daemon=True)
                self._merging.start()

    def _due(self, rows: int | None) -> tuple[Run, ...]:
        """Runs that are to become one, neighbours; under the lock."""
        runs = self._runs
        garbage = rows is not None and sum(run.slots for run in runs) > 2 * rows + self._MIN_GARBAGE
        if garbage and can_merge(runs[:MAX_MERGED]):
            return runs[:MAX_MERGED]
        newer = 0
        due: tuple[Run, ...] = ()
        for first in range(len(runs) - 2, -1, -1):
            newer += len(runs[first + 1].data)
            chosen = runs[first : first + MAX_MERGED]
            if newer >= len(runs[first].data) and can_merge(chosen):
                due = chosen
        return due

    def _merge(self, due: tuple[Run, ...], visible: Bits | None, slots: int | None, views: int) -> None:
        try:
            while due:
                self._replace(due, self._written(Merge(due, visible, slots)), views)
                # The bitmap knows nothing of slots written since. Without it only void entries are dropped, which is
                # right for every view that has these runs.
                visible, slots, views = None, None, -1
                with self._lock:
                    due = self._due(None)
                    if not due:
                        self._merging = None
        except (OSError, MemoryError):  # the runs as they are serve; the next call of ``tidy`` tries again
            logger.exception("cannot merge words in the scratch folder")
        finally:
            with self._lock:
                if self._merging is threading.current_thread():
                    self._merging = None


def _with(runs: tuple[Run, ...], replaced: tuple[Run, ...], new: tuple[Run, ...]) -> tuple[Run, ...]:
    """Runs with some neighbours replaced; as they were if these are not among them."""
    for at, run in enumerate(runs):
        if run is replaced[0]:
            if len(runs) >= at + len(replaced) and all(map(lambda a, b: a is b, runs[at:], replaced)):
                return (*runs[:at], *new, *runs[at + len(replaced) :])
            return runs
    return runs
