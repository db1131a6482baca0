"""Follow one bucket: apply its commits, in order, to the rows of a shard."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from lookalike.actors.index.rows import COLUMNS, Rows
from lookalike.errors import LookalikeError
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.head import Head, SegmentInfo
from lookalike.ingest.store.segment import SegmentDamaged

logger = logging.getLogger(__name__)


class FollowerTooFarBehind(LookalikeError):
    """Deletions that were not applied are no longer in the store: the shard must load anew. Argument: the bucket."""


@dataclass
class BucketFollower:
    """Remembers up to which commit the rows of a shard show a bucket.

    Attributes
    ----------
    applied : int
        The last commit applied. Segments are applied whole, so after an error the next try goes on with the segment
        that failed, and no row ever falls back to an older commit.
    damaged : dict
        Rows that could not be read, by segment.
    """

    bucket: Bucket
    applied: int = 0
    damaged: dict[str, int] = field(default_factory=dict)

    def follow(self, rows: Rows) -> bool:
        """Apply what was committed since the last time; searches see it once the rows are published.

        Returns
        -------
        bool
            Whether there was anything.

        Raises
        ------
        StorageUnavailable
            The head or a segment cannot be read now.
        FollowerTooFarBehind
            The shard missed commits for so long that it can only load anew.
        """
        head = self.bucket.head()
        if 0 < self.applied < head.tombstones_dropped_to:
            raise FollowerTooFarBehind(f"{self.bucket.location} dropped deletions that this shard has not seen")
        pending = [info for info in head.segments if info.last > self.applied]
        for info in pending:
            self._apply(head, info, rows)
            self.applied = info.last
        self.applied = max(self.applied, head.sequence)
        return bool(pending)

    def _apply(self, head: Head, info: SegmentInfo, rows: Rows) -> None:
        def note(error: SegmentDamaged) -> None:
            logger.error("%s; %d rows are not searched", error, error.rows)
            self.damaged[info.name] = self.damaged.get(info.name, 0) + error.rows

        only = head.model_copy(update={"segments": (info,)})
        for batch in self.bucket.changes(only, self.applied, COLUMNS, note):
            rows.apply(batch)
