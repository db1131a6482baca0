"""The head of a bucket: the one object that a commit replaces, by compare-and-swap.

It lists the segments, oldest commit first. Whoever commits has read the head before and names its version; when
another was faster, the swap fails, and the commit is made again from the newer head. So a writer that was cut off for
an hour cannot commit on what it knew then, whatever it still believes, and no lease is needed to be correct.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from lookalike.ingest.store import checked
from lookalike.storage import Location

FORMAT = 2

SegmentName = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.seg$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmentInfo(_Value):
    """A segment: the rows of the commits ``first`` to ``last``, less those that a later one of them replaced."""

    name: SegmentName
    first: PositiveInt
    last: PositiveInt
    rows: NonNegativeInt
    deleted: NonNegativeInt
    size_bytes: PositiveInt


class Retired(_Value):
    """A segment that a merge replaced: readers of an older head may still need it for a while."""

    name: SegmentName
    at: datetime


class Head(_Value):
    """One version of a bucket.

    Attributes
    ----------
    sequence : int
        Counts the commits of rows; a merge of segments does not change it.
    retired : tuple of Retired
        What may be deleted, and since when: nothing else ever is.
    tombstones_dropped_to : int
        Tombstones of commits up to this one may be gone: a reader that is behind it must read the bucket anew, from
        nothing.
    commit : str
        Differs in every head, so that no two have one version, and a swap can never mistake one for another.
    """

    format: PositiveInt = FORMAT
    sequence: NonNegativeInt = 0
    segments: tuple[SegmentInfo, ...] = ()
    retired: tuple[Retired, ...] = ()
    tombstones_dropped_to: NonNegativeInt = 0
    commit: str = ""

    @property
    def rows(self) -> int:
        """How many rows that are no tombstones the segments hold: at least as many as there are images."""
        return sum(segment.rows - segment.deleted for segment in self.segments)

    def names(self, segment: str) -> bool:
        """Whether a segment is, or was until a while ago, a part of the bucket."""
        return any(info.name == segment for info in self.segments) or any(e.name == segment for e in self.retired)

    def with_segment(self, name: str, rows: int, deleted: int, size_bytes: int) -> Head:
        """The head after a commit of one segment."""
        number = self.sequence + 1
        info = SegmentInfo(name=name, first=number, last=number, rows=rows, deleted=deleted, size_bytes=size_bytes)
        return self.model_copy(update={"sequence": number, "segments": (*self.segments, info), **_new_commit()})

    def with_merged(
        self, merged: Sequence[SegmentInfo], result: SegmentInfo | None, dropped_to: int, now: datetime
    ) -> Head | None:
        """The head after a merge of adjacent segments; None if they are not all there any more."""
        names = [segment.name for segment in self.segments]
        start = names.index(merged[0].name) if merged[0].name in names else -1
        if start < 0 or tuple(self.segments[start : start + len(merged)]) != tuple(merged):
            return None
        segments = (*self.segments[:start], *([result] if result else []), *self.segments[start + len(merged) :])
        retired = (*self.retired, *(Retired(name=segment.name, at=now) for segment in merged))
        dropped = max(self.tombstones_dropped_to, dropped_to)
        update = {"segments": segments, "retired": retired, "tombstones_dropped_to": dropped, **_new_commit()}
        return self.model_copy(update=update)

    def without_retired(self, names: set[str]) -> Head | None:
        """The head after retired segments were moved to the trash; None if it lists none of them."""
        left = tuple(entry for entry in self.retired if entry.name not in names)
        return None if left == self.retired else self.model_copy(update={"retired": left, **_new_commit()})

    def encoded(self) -> bytes:
        """The content of the head's object."""
        return checked.encode(self)


def parse_head(content: bytes, location: Location) -> Head:
    """Read a head.

    Raises
    ------
    StoreUnavailable
        It is damaged, or of a newer format.
    """
    restore = (
        "put it back from a copy of the store, or move this bucket's folder away and write its images again; "
        "the other buckets are not concerned"
    )
    return checked.decode(content, Head, location, FORMAT, restore=restore)


def _new_commit() -> dict[str, str]:
    return {"commit": uuid.uuid4().hex}
