"""A shard: some buckets of a collection in memory, kept up to date with the store, and searched in batches."""

from __future__ import annotations

import logging
import os
import re
import resource
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike import storage
from lookalike.actors.index.follower import BucketFollower, FollowerTooFarBehind
from lookalike.actors.index.rows import Rows, Snapshot
from lookalike.actors.query import wire
from lookalike.actors.query.merge import Reply
from lookalike.actors.query.message import Kind, kind_of
from lookalike.actors.query.query import Descriptor, Query
from lookalike.actors.query.search import Bitmaps, search_batch
from lookalike.actors.restart import load
from lookalike.errors import LookalikeError, StorageUnavailable, StoreUnavailable
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.keys import keys_of
from lookalike.kernels import hamming
from lookalike.storage import Location, Version

logger = logging.getLogger(__name__)

# On a disk the token is one small file: looking four times a second costs nothing and keeps the promise of a second.
# On an object store the writer tells the shards, and the supervisor looks at the token for all of them; a shard looks
# by itself for the case that both are gone. At rest that makes, with eight shards in two replicas, 0.2 requests/s.
LOCAL_POLL_S = 0.25
REMOTE_POLL_S = 120.0
# Every so often the heads are read though the token did not change: a job may be killed between its commit and the
# token. 16 buckets every ten minutes are 0.03 requests/s.
LOCAL_FULL_LOOK_S = 10.0
REMOTE_FULL_LOOK_S = 600.0
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
# Errors that a status quotes; of more it gives the number.
MAX_QUOTED = 3
# What failures are noted by, beside the number of a bucket.
_TOKEN, _REFRESH = -1, -2


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What a shard says of itself.

    Attributes
    ----------
    rows : int
        Images that are searched.
    code_bytes, held_bytes, rss_bytes : int
        Memory: codes and keys; all that was counted; the whole process as the system sees it, without file pages.
    threads : int
        How many threads a search has.
    lag_s : float
        How long ago it last knew itself up to date with the store.
    last_error : str
        What keeps it from showing the store as it is, since ``last_error_age_s``; empty if nothing does.
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
    threads: int
    lag_s: float
    last_error: str
    last_error_age_s: float | None
    damaged_segments: int
    damaged_rows: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """What keeps a bucket from being followed, since when there are errors, and when to try again.

    The text of the last error: the error itself would keep the batches that were read when it was raised.
    """

    error: str
    is_damage: bool
    since: float
    retry_at: float
    backoff_s: float


class Shard:
    """Hold some buckets of a collection and answer for them; it knows nothing of its siblings.

    One thread calls ``refresh``; any thread may ``search`` meanwhile and sees the rows before or after. What cannot be
    read leaves the rows in memory serving, is tried again with a growing pause, and is reported by ``status``.

    Parameters
    ----------
    scratch : Path, optional
        A folder for what is kept on disk and not in memory.
    threads : int
        How many threads a search has.

    Raises
    ------
    StorageUnavailable
        Nothing of it can be read now. Buckets that are damaged, or some that are out of reach, are left out;
        ``status`` reports them.
    """

    def __init__(
        self,
        root: Location,
        collection: str,
        version: str,
        buckets: Sequence[int],
        scratch: Path | None = None,
        *,
        threads: int = 1,
    ) -> None:
        opened = Collection.open(root, collection, version)
        spec = opened.spec
        self._token_location = opened.token_location
        self._full_look_s = LOCAL_FULL_LOOK_S if root.is_local else REMOTE_FULL_LOOK_S
        self._rows = Rows(spec.short_words, spec.long_words, spec.component_words, scratch)
        self.followers = [BucketFollower(opened.buckets[number]) for number in buckets]
        self._failures: dict[int, _Failure] = {}
        self._threads = threads
        self._token: Version | None = None
        self._looked_fully = self._up_to_date = time.monotonic()
        self._batches_published = 0
        self._bitmaps: tuple[int, Bitmaps] = (-1, {})
        self.refresh(look=True)
        self._check_loaded()

    def _check_loaded(self) -> None:
        """Raise if all is out of reach: an empty shard must not pass for one that is loaded."""
        failures = [self._failures.get(number) for number in range(len(self.followers))]
        if all(failure is not None and not failure.is_damage for failure in failures):
            raise StorageUnavailable(next(failure.error for failure in failures if failure is not None))

    def refresh(self, *, look: bool = False) -> bool:
        """Take in what was committed since the last look, or since any with ``look``: that passes the token by.

        Returns
        -------
        bool
            Whether anything changed.

        Raises
        ------
        FollowerTooFarBehind
            Only another shard, built anew, can show the store.
        """
        looked = time.monotonic()
        retry = any(looked >= failure.retry_at for failure in self._failures.values())
        token = self._changed_token(looked)
        changed = False
        if look or retry or token is not None or looked - self._looked_fully > self._full_look_s:
            changed = self._follow_all(looked)
            self._token = self._token if token is None else token
            self._looked_fully = looked
        if not self._failures:
            self._up_to_date = looked
        return changed

    def _changed_token(self, looked: float) -> Version | None:
        """The version of the token if it is another than at the last look."""
        failure = self._failures.get(_TOKEN)
        try:
            changed = storage.read_if_changed(self._token_location, self._token)
        except LookalikeError as error:  # the heads may be readable all the same: they are looked at when to try again
            if failure is None or looked >= failure.retry_at:
                self._note(_TOKEN, error)
            return None
        self._failures.pop(_TOKEN, None)
        return None if changed is None else changed[1]

    def _follow_all(self, looked: float) -> bool:
        try:
            for number, follower in enumerate(self.followers):
                failure = self._failures.get(number)
                if failure is None or looked >= failure.retry_at:
                    self._follow(number, follower)
        finally:
            batches = sum(follower.batches for follower in self.followers)
            changed = batches != self._batches_published
            if changed:
                self._rows.publish()
                self._batches_published = batches
        return changed

    def _follow(self, number: int, follower: BucketFollower) -> None:
        try:
            follower.follow(self._rows)
        except FollowerTooFarBehind:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a bucket holds, the others go on, and the status tells
            self._note(number, error)
        else:
            self._failures.pop(number, None)

    def _note(self, number: int, error: Exception) -> None:
        now = time.monotonic()
        before = self._failures.get(number)
        expected = isinstance(error, LookalikeError | OSError)
        text = f"{error}" if expected else f"{type(error).__name__}: {error}"
        if before is None:
            logger.error("cannot follow the store: %s", text, exc_info=None if expected else error)
        backoff_s = min(2 * before.backoff_s, MAX_BACKOFF_S) if before else FIRST_BACKOFF_S
        since = before.since if before else now
        self._failures[number] = _Failure(text, isinstance(error, StoreUnavailable), since, now + backoff_s, backoff_s)

    def answer(self, message: bytes) -> bytes:
        """Answer a batch of queries, or look up codes: what ``query.wire`` encodes, in and out.

        Raises
        ------
        WireError
            It is no such message.
        """
        if kind_of(message) is Kind.LOOKUP:
            return wire.encode_codes(self.codes_of(wire.decode_lookup(message)))
        return wire.encode_replies(self.search(wire.decode_queries(message, time.monotonic())))

    def search(self, queries: Sequence[Query]) -> list[Reply]:
        """Answer a batch from the rows as they are now."""
        with self._rows.reading() as snapshot:
            rows = _rows_of([query.image_id for query in queries], snapshot)
            bitmaps = self._bitmaps_of(snapshot)
            return search_batch(queries, rows, snapshot, bitmaps, threads=self._threads, now=time.monotonic)

    def codes_of(self, image_ids: Sequence[str]) -> list[Descriptor | None]:
        """The codes of each image; None for one that is not held."""
        with self._rows.reading() as snapshot:
            rows = _rows_of(image_ids, snapshot).tolist()
            short, long = snapshot.codes.short, snapshot.codes.long
            return [Descriptor(short[row].copy(), long[row].copy()) if row >= 0 else None for row in rows]

    def _bitmaps_of(self, snapshot: Snapshot) -> Bitmaps:
        generation, bitmaps = self._bitmaps
        if generation != snapshot.generation:
            bitmaps = {}
            self._bitmaps = (snapshot.generation, bitmaps)
        return bitmaps

    def status(self) -> ShardStatus:
        """Report rows, memory, kernel, lag, and what keeps it from showing the store as it is."""
        now = time.monotonic()
        damaged = [damage for follower in self.followers for damage in follower.damaged.values()]
        errors = [(failure.since, failure.error) for failure in list(self._failures.values())]
        errors = sorted([*errors, *((damage.since, damage.error) for damage in damaged)])
        with self._rows.reading() as snapshot:
            rows = snapshot.rows_visible
        return ShardStatus(
            pid=os.getpid(),
            rows=rows,
            code_bytes=self._rows.code_bytes,
            held_bytes=sum(self._rows.held_bytes.values()),
            rss_bytes=resident_bytes(),
            huge_pages=self._rows.huge_pages,
            kernel_variant=hamming.ACTIVE,
            threads=self._threads,
            lag_s=now - self._up_to_date,
            last_error=_quoted([text for _, text in errors]),
            last_error_age_s=now - errors[0][0] if errors else None,
            damaged_segments=len(damaged),
            damaged_rows=sum(damage.rows for damage in damaged) + self._rows.bad_rows,
        )


def resident_bytes() -> int:
    """Memory of this process as Linux counts it, without file pages; elsewhere the most that it ever had, with them."""
    try:
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    kilobytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * kilobytes


def _quoted(errors: Sequence[str]) -> str:
    different = list(dict.fromkeys(errors))
    more = len(different) - MAX_QUOTED
    return "; ".join([*different[:MAX_QUOTED], *([f"and {more} more"] if more > 0 else [])])


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

    def __init__(self, root: Location, collection: str, version: str, buckets: Sequence[int], threads: int = 1) -> None:
        self._poll_s = LOCAL_POLL_S if root.is_local else REMOTE_POLL_S
        self._notified = threading.Event()
        self._look = threading.Event()
        self._failed = load(lambda: self._load(root, collection, version, buckets, threads))
        if self._failed is None:
            threading.Thread(target=self._keep_up, name="follow", daemon=True).start()

    def _load(self, root: Location, collection: str, version: str, buckets: Sequence[int], threads: int) -> None:
        while True:
            try:
                return Shard.__init__(self, root, collection, version, buckets, threads=threads)
            except FollowerTooFarBehind:  # merges went past a slow loader
                logger.warning("loading anew", exc_info=True)

    def ready(self) -> bool:
        """Answer once it is loaded; raise why it could not be."""
        if self._failed is not None:
            raise self._failed
        return True

    def notify(self, look: bool = False) -> None:
        """Hear that something was committed; ``look``: that it may have been, whatever the token says."""
        if look:
            self._look.set()
        self._notified.set()

    def _keep_up(self) -> None:
        while True:
            self._notified.wait(self._poll_s)
            self._notified.clear()
            if look := self._look.is_set():
                self._look.clear()
            try:
                self.refresh(look=look)
            except FollowerTooFarBehind:
                logger.exception("starting anew")
                os._exit(1)  # Ray starts the actor again, and it loads what is there now
            except Exception as error:  # noqa: BLE001 - a defect must not end the thread; the status tells
                self._note(_REFRESH, error)
            else:
                self._failures.pop(_REFRESH, None)
