"""A shard: some buckets of a collection in memory, kept up to date with the store, and searched in batches."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray

from lookalike.actors.index.follower import BucketTail, Changes
from lookalike.actors.index.rows import Rows
from lookalike.actors.query.merge import Reply
from lookalike.actors.query.query import Query
from lookalike.actors.query.search import Bitmaps, search_batch
from lookalike.errors import LookalikeError
from lookalike.ingest.store.collection import Store
from lookalike.ingest.store.keys import keys_of
from lookalike.kernels import hamming
from lookalike.model.spec import ModelSpec

logger = logging.getLogger(__name__)

# The head is one small file: looking four times a second costs nothing and keeps the promise of a second.
POLL_S = 0.25
# Every so often the buckets are looked at even if the head did not change: a writer may be killed between its
# commit and its word about it.
FULL_LOOK_S = 10.0
# Dead rows still cost their scan; past this share of all rows the shard loads itself anew.
MOST_DEAD = 0.25


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What a shard says of itself.

    Attributes
    ----------
    code_bytes, held_bytes : int
        Of codes and keys, and of all that is held of the rows; counted from the arrays.
    rss_bytes : int
        The resident memory of the process.
    lag_s : float
        How long ago it last knew itself up to date with the store.
    last_error : str
        What keeps it from following the store; empty: nothing does. ``last_error_age_s``: since when, or None.
    damaged_segments, damaged_rows : int
        What could not be read and is left out.
    """

    pid: int
    rows: int
    code_bytes: int
    held_bytes: int
    rss_bytes: int
    huge_pages: bool
    kernel_variant: str
    lag_s: float
    last_error: str = ""
    last_error_age_s: float | None = None
    damaged_segments: int = 0
    damaged_rows: int = 0


class Shard:
    """Hold some buckets of a collection and answer for them; it knows nothing of its siblings.

    One thread calls ``refresh``; any thread may ``search`` meanwhile and sees the rows before or after.
    """

    def __init__(self, root: Path, collection: str, version: str, buckets: Sequence[int]) -> None:
        self._store = Store.open(root, collection, version)
        self._spec = ModelSpec.load(self._store.model_folder)
        self._buckets = tuple(buckets)
        self._changing = threading.Lock()
        self._head = ""
        self._looked_fully = self._up_to_date = 0.0
        self._bitmaps: Bitmaps = {}
        self._load()

    def refresh(self) -> bool:
        """Take in what was committed since the last look. Returns whether anything changed."""
        head, looked = self._store.head(), time.monotonic()
        if head == self._head and looked - self._looked_fully < FULL_LOOK_S:
            self._up_to_date = looked
            return False
        changes = [tail.changes() for tail in self._tails]
        if any(changes):
            self._take_in(changes)
        self._head, self._looked_fully, self._up_to_date = head, looked, looked
        return any(changes)

    def _take_in(self, changes: Sequence[Changes]) -> None:
        """Append what is new beside the searches, and exchange the snapshot in one step.

        When much is replaced, as by a compaction, loading anew costs less memory and never holds up a search.
        """
        dead = self._rows.dead + sum(change.rows_removed for change in changes)
        if dead > max(MOST_DEAD * len(self._rows), 1000):
            self._load()
            return
        try:
            for tail, change in zip(self._tails, changes, strict=True):
                tail.append(change, self._rows)
        except Exception:  # columns of different lengths, and no telling which: only the store is sure
            self._load()
            raise
        with self._changing:
            for tail, change in zip(self._tails, changes, strict=True):
                tail.remove(change, self._rows)
            self._rows.admit()
            self._publish()

    def search(self, queries: Sequence[Query]) -> list[Reply]:
        """Answer a batch from the rows as they are now."""
        with self._changing:
            snapshot, bitmaps = self._snapshot, self._bitmaps
            target_rows = self._rows_of([query.image_id for query in queries])
        return search_batch(queries, target_rows, snapshot, bitmaps)

    def status(self) -> ShardStatus:
        """Report rows, memory, kernel and lag."""
        return ShardStatus(
            pid=os.getpid(),
            rows=self._snapshot.rows_alive,
            code_bytes=self._rows.code_bytes,
            held_bytes=self._rows.code_bytes,
            rss_bytes=_rss_bytes(),
            huge_pages=self._rows.huge_pages,
            kernel_variant=hamming.ACTIVE,
            lag_s=time.monotonic() - self._up_to_date,
        )

    def _load(self) -> None:
        """Read the buckets from the store, and swap them in."""
        head, looked = self._store.head(), time.monotonic()
        rows = Rows(self._spec.short_words, self._spec.long_words, self._spec.component_words)
        tails = [BucketTail(self._store.buckets[number]) for number in self._buckets]
        for tail in tails:
            changes = tail.changes()
            tail.append(changes, rows)
            tail.remove(changes, rows)
        rows.admit()
        with self._changing:
            self._rows, self._tails = rows, tails
            self._publish()
        self._head, self._looked_fully, self._up_to_date = head, looked, looked

    def _publish(self) -> None:
        self._snapshot = self._rows.snapshot()
        self._bitmaps = {}

    def _rows_of(self, image_ids: Sequence[str | None]) -> NDArray[np.int64]:
        rows = np.full(len(image_ids), -1, np.int64)
        named = [place for place, image_id in enumerate(image_ids) if image_id is not None]
        if named:
            wanted = [image_ids[place] or "" for place in named]
            found = self._rows.find(keys_of(wanted))
            there = np.flatnonzero(found >= 0)
            # Two ids can share a key (7e-5 among 50 million): the id decides.
            for place, image_id in zip(there, self._snapshot.texts_of("image_id", found[there]), strict=True):
                if image_id == wanted[place]:
                    rows[named[place]] = found[place]
        return rows


class ShardActor(Shard):
    """A shard that keeps itself up to date; the class that Ray runs."""

    def __init__(self, root: Path, collection: str, version: str, buckets: Sequence[int]) -> None:
        self._last_error = ""
        self._failing_since = 0.0
        while True:
            try:
                super().__init__(root, collection, version, buckets)
                break
            except (LookalikeError, OSError):
                # Ray gives up an actor that cannot be built. At the first start that is right: the operator is
                # told. One that is started again after it had served waits until the store is back.
                if not ray.get_runtime_context().was_current_actor_reconstructed:
                    raise
                logger.exception("cannot load; trying again")
                time.sleep(1.0)
        threading.Thread(target=self._follow, name="follow", daemon=True).start()

    def status(self) -> ShardStatus:
        """Report rows, memory, kernel, lag, and what keeps it from following the store, if anything does."""
        if not self._last_error:
            return super().status()
        age_s = time.monotonic() - self._failing_since
        return replace(super().status(), last_error=self._last_error, last_error_age_s=age_s)

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_S)
            try:
                self.refresh()
                self._last_error = ""
            except Exception as error:  # the store may be away for a while: say so, serve on, look again
                if not self._last_error:
                    self._failing_since = time.monotonic()
                if self._last_error != str(error):
                    logger.exception("cannot follow the store")
                self._last_error = str(error) or type(error).__name__


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
