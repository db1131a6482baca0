"""A shard: some buckets of a collection in memory, kept up to date with the store, and searched in batches."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import ray
from numpy.typing import NDArray

from lookalike import storage
from lookalike.actors.index.follower import BucketFollower, FollowerTooFarBehind
from lookalike.actors.index.rows import Rows, Snapshot
from lookalike.actors.query.merge import Reply
from lookalike.actors.query.query import Query
from lookalike.actors.query.search import Bitmaps, search_batch
from lookalike.errors import LookalikeError
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.keys import keys_of
from lookalike.kernels import hamming
from lookalike.storage import Location, Version

logger = logging.getLogger(__name__)

# On a disk the token is one small file: looking four times a second costs nothing and keeps the promise of a second.
# On an object store the supervisor looks for all shards; a shard that hears nothing of it looks itself.
LOCAL_POLL_S = 0.25
REMOTE_POLL_S = 30.0
# Every so often the heads are read though the token did not change: a writer may be killed between its commit and the
# token. 16 buckets every five minutes are 0.05 requests/s.
LOCAL_FULL_LOOK_S = 10.0
REMOTE_FULL_LOOK_S = 300.0
MAX_BACKOFF_S = 60.0


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What a shard says of itself.

    Attributes
    ----------
    rows : int
        Images that are searched.
    code_bytes, held_bytes, rss_bytes : int
        Memory: codes and keys; all that was counted; the whole process as the system sees it, without file pages.
    lag_s : float
        How long ago it last knew itself up to date with the store.
    last_error : str
        What keeps it from following the store, since ``last_error_age_s``; empty if nothing does.
    damaged_segments, damaged_rows : int
        What could not be read and is not searched.
    """

    pid: int
    rows: int
    code_bytes: int
    held_bytes: int
    rss_bytes: int
    huge_pages: bool
    kernel_variant: str
    lag_s: float
    last_error: str
    last_error_age_s: float | None
    damaged_segments: int
    damaged_rows: int


@dataclass
class _Trouble:
    """The last error of a follower, and when to try again."""

    error: str
    since: float
    retry_at: float
    backoff_s: float


class Shard:
    """Hold some buckets of a collection and answer for them; it knows nothing of its siblings.

    One thread calls ``refresh``; any thread may ``search`` meanwhile and sees the rows before or after. What cannot be
    read leaves the rows in memory serving, is tried again with a growing pause, and is told by ``status``.

    Parameters
    ----------
    scratch : Path, optional
        A folder for what is kept on disk and not in memory.
    """

    def __init__(
        self, root: Location, collection: str, version: str, buckets: Sequence[int], scratch: Path | None = None
    ) -> None:
        opened = Collection.open(root, collection, version)
        spec = opened.spec
        self._token_location = opened.token_location
        self._full_look_s = LOCAL_FULL_LOOK_S if root.is_local else REMOTE_FULL_LOOK_S
        self._rows = Rows(spec.short_words, spec.long_words, spec.component_words, scratch)
        self._followers = [BucketFollower(opened.buckets[number]) for number in buckets]
        self._errors: dict[int, _Trouble] = {}
        self._token: Version | None = None
        self._looked_fully = self._up_to_date = 0.0
        self._bitmaps: tuple[int, Bitmaps] = (-1, {})
        self.refresh()

    def refresh(self) -> bool:
        """Take in what was committed since the last look. Returns whether anything changed."""
        looked = time.monotonic()
        try:
            changed_token = storage.read_if_changed(self._token_location, self._token)
        except LookalikeError as error:  # heads may be readable all the same: the full look will tell
            self._note(-1, error)
            changed_token = None
        else:
            self._errors.pop(-1, None)
        due = changed_token is not None or looked - self._looked_fully > self._full_look_s
        if not due and not any(looked >= trouble.retry_at for trouble in self._errors.values()):
            if not self._errors:
                self._up_to_date = looked
            return False
        changed = self._follow_all(looked)
        if changed:
            self._rows.publish()
        if changed_token is not None:
            self._token = changed_token[1]
        self._looked_fully = looked
        if not self._errors:
            self._up_to_date = looked
        return changed

    def _follow_all(self, looked: float) -> bool:
        changed = False
        for number, follower in enumerate(self._followers):
            trouble = self._errors.get(number)
            if trouble is not None and looked < trouble.retry_at:
                continue
            try:
                changed |= follower.follow(self._rows)
            except FollowerTooFarBehind:
                raise
            except (LookalikeError, OSError, MemoryError) as error:
                self._note(number, error)
                changed = True  # what came before the error is whole, and may be seen
            else:
                self._errors.pop(number, None)
        return changed

    def _note(self, number: int, error: Exception) -> None:
        now = time.monotonic()
        before = self._errors.get(number)
        if before is None:
            logger.error("cannot follow the store: %s", error)
        backoff_s = min(2 * before.backoff_s, MAX_BACKOFF_S) if before else 1.0
        since = before.since if before else now
        self._errors[number] = _Trouble(f"{error}", since, now + backoff_s, backoff_s)

    def search(self, queries: Sequence[Query]) -> list[Reply]:
        """Answer a batch from the rows as they are now."""
        with self._rows.reading() as snapshot:
            rows = _rows_of([query.image_id for query in queries], snapshot)
            return search_batch(queries, rows, snapshot, self._bitmaps_of(snapshot))

    def _bitmaps_of(self, snapshot: Snapshot) -> Bitmaps:
        generation, bitmaps = self._bitmaps
        if generation != snapshot.generation:
            bitmaps = {}
            self._bitmaps = (snapshot.generation, bitmaps)
        return bitmaps

    def status(self) -> ShardStatus:
        """Report rows, memory, kernel, lag, and what keeps it from following the store."""
        now = time.monotonic()
        errors = sorted(self._errors.values(), key=lambda trouble: trouble.since)
        damaged = [rows for follower in self._followers for rows in follower.damaged.values()]
        with self._rows.reading() as snapshot:
            rows = snapshot.rows_visible
        memory = psutil.Process().memory_info()
        return ShardStatus(
            pid=os.getpid(),
            rows=rows,
            code_bytes=self._rows.code_bytes,
            held_bytes=sum(self._rows.held_bytes.values()),
            rss_bytes=memory.rss - memory.shared,
            huge_pages=self._rows.huge_pages,
            kernel_variant=hamming.ACTIVE,
            lag_s=now - self._up_to_date,
            last_error="; ".join(dict.fromkeys(trouble.error for trouble in errors)),
            last_error_age_s=now - errors[0].since if errors else None,
            damaged_segments=len(damaged),
            damaged_rows=sum(damaged) + self._rows.bad_rows,
        )


def _rows_of(image_ids: Sequence[str | None], snapshot: Snapshot) -> NDArray[np.int64]:
    """The row of each image id, -1 for None and for unknown ids: int64, shape (n,)."""
    rows = np.full(len(image_ids), -1, np.int64)
    given = [at for at, image_id in enumerate(image_ids) if image_id is not None]
    if given:
        wanted = [image_ids[at] or "" for at in given]
        found = snapshot.find(keys_of(wanted))
        there = np.flatnonzero(found >= 0)
        # Two ids can share a key (7e-5 among 50 million): the id decides.
        for at, image_id in zip(there, snapshot.image_ids(found[there]), strict=True):
            if image_id == wanted[at]:
                rows[given[at]] = found[at]
    return rows


class ShardActor(Shard):
    """A shard that keeps itself up to date; the class that Ray runs."""

    def __init__(self, root: Location, collection: str, version: str, buckets: Sequence[int]) -> None:
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
        self._poll_s = LOCAL_POLL_S if root.is_local else REMOTE_POLL_S
        self._notified = threading.Event()
        threading.Thread(target=self._keep_up, name="follow", daemon=True).start()

    def notify(self) -> None:
        """Hear that something was, or may have been, committed."""
        self._notified.set()

    def _keep_up(self) -> None:
        while True:
            self._notified.wait(self._poll_s)
            self._notified.clear()
            try:
                self.refresh()
            except FollowerTooFarBehind:
                logger.exception("starting anew")
                os._exit(1)  # Ray starts the actor again, and it loads what is there now
            except Exception:  # a defect must not end the thread: the shard serves, and its growing lag is seen
                logger.exception("cannot follow the store")
