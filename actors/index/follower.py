"""Follow one bucket: apply its commits, in order, to the rows of a shard."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lookalike.actors.index.rows import COLUMNS, Rows
from lookalike.errors import Conflict, LookalikeError
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.head import Head, SegmentInfo
from lookalike.ingest.store.segment import SegmentDamaged

logger = logging.getLogger(__name__)

# How often a look begins anew because a merge took a segment away that its head names: minutes lie between such merges.
MAX_HEADS = 5
APPLIED_ROWS = 8192
# Descriptions can be long, and an Arrow column of texts holds 2 GiB.
APPLIED_BYTES = 64 << 20


class FollowerTooFarBehind(LookalikeError):
    """The rows of a shard cannot be brought up to date any more: it must load anew. Argument: the bucket, and why."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What could not be read of a segment: why, how many rows, and since when that is known (monotonic)."""

    error: str
    rows: int
    since: float


@dataclass
class BucketFollower:
    """Remembers up to which commit the rows of a shard show a bucket.

    Attributes
    ----------
    applied : int
        The last commit applied whole. After an error the next try goes on with the segment that failed: some of its
        rows are applied twice then, and no row ever falls back to an older commit.
    batches : int
        How many batches of rows were applied so far: it grows when there is something to publish.
    damaged : mapping of Damage
        By segment. Such a segment is set aside for as long as the shard lives: later commits are applied already, and
        its rows must not be applied after them. The mapping is replaced, never changed, so any thread may read it.
    """

    bucket: Bucket
    applied: int = 0
    batches: int = 0
    damaged: Mapping[str, Damage] = field(default_factory=dict)
    _oldest: SegmentInfo | None = None

    def follow(self, rows: Rows) -> None:
        """Apply what was committed since the last time; searches see it once the rows are published.

        Raises
        ------
        StorageUnavailable
            The head or a segment cannot be read now. What was applied before is whole and may be published.
        FollowerTooFarBehind
            Deletions that were not applied are no longer in the store, or the store went back to an earlier state.
        """
        for attempt in itertools.count(1):
            head = self.bucket.head()
            self._check(head)
            self._oldest = head.segments[0] if head.segments else None
            try:
                for info in head.segments:
                    if info.last > self.applied:
                        self._apply(head, info, rows)
                        self.applied = info.last
            except Conflict:  # the segment was merged, and put away, since the head was read
                if attempt == MAX_HEADS:
                    raise
            else:
                self.applied = head.sequence
                return

    def _check(self, head: Head) -> None:
        if head.sequence < self.applied:
            raise FollowerTooFarBehind(
                f"{self.bucket.location} is at commit {head.sequence}, but this shard shows commit {self.applied}"
            )
        # Only a merge that takes in the oldest segment drops deletions.
        oldest = head.segments[0] if head.segments else None
        if self.batches and self.applied < head.tombstones_dropped_to and oldest != self._oldest:
            raise FollowerTooFarBehind(f"{self.bucket.location} dropped deletions that this shard has not seen")

    def _apply(self, head: Head, info: SegmentInfo, rows: Rows) -> None:
        errors: list[SegmentDamaged] = []
        only = head.model_copy(update={"segments": (info,)})
        for batch in _joined(self.bucket.changes(only, self.applied, COLUMNS, errors.append)):
            rows.apply(batch)
            self.batches += 1
        if errors:
            lost = sum(error.rows for error in errors)
            logger.error("%s; %d rows are not searched", str(errors[0]), lost)
            self.damaged = {**self.damaged, info.name: Damage(f"{errors[0]}", lost, time.monotonic())}


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join batches to larger ones: applying costs per batch too, a sixth of the load of a shard if they are small."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        pending.append(batch)
        rows, size = rows + len(batch), size + batch.nbytes
        if rows >= APPLIED_ROWS or size >= APPLIED_BYTES:
            yield pa.concat_batches(pending)
            pending = []
            rows = size = 0
    if pending:
        yield pa.concat_batches(pending)
