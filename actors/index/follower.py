"""Follow one bucket: what changed between the version that a shard holds and the newest."""

from __future__ import annotations

from dataclasses import dataclass, field

import lance
import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.rows import COLUMNS, Rows
from lookalike.ingest.store.bucket import Bucket, Fragment, deleted_rows, fragments, read_fragment


@dataclass(frozen=True, slots=True)
class _Held:
    """A fragment whose rows the shard holds from row ``first`` on.

    ``offsets`` uint32 (rows,): where each row lies in the fragment. None: every row of the fragment is held.
    """

    fragment: Fragment
    first: int
    offsets: NDArray[np.uint32] | None
    rows: int


@dataclass(frozen=True)
class Changes:
    """How a newer version differs; false when it does not. ``removed`` are row numbers of the shard."""

    dataset: lance.LanceDataset
    removed: list[NDArray[np.int64]] = field(default_factory=list)
    vanished: list[int] = field(default_factory=list)
    added: list[Fragment] = field(default_factory=list)
    thinned: list[Fragment] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.vanished or self.added or self.thinned)

    @property
    def rows_removed(self) -> int:
        """How many rows of the shard go."""
        return sum(map(len, self.removed))


class BucketTail:
    """Remembers which fragments of a bucket a shard holds, and where."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._version = 0
        self._held: dict[int, _Held] = {}

    def changes(self) -> Changes:
        """Compare what is held with the newest version. Changes nothing, and reads no new row yet."""
        dataset = self._bucket.open()
        changes = Changes(dataset)
        if dataset.version == self._version:
            return changes
        newest = fragments(dataset)
        for fragment in newest:
            held = self._held.get(fragment.number)
            if held is None:
                changes.added.append(fragment)
            elif fragment.deleted != held.fragment.deleted:
                changes.removed.append(_rows_at(held, deleted_rows(dataset, fragment)))
                changes.thinned.append(fragment)
        for number in self._held.keys() - {fragment.number for fragment in newest}:
            held = self._held[number]
            changes.removed.append(np.arange(held.first, held.first + held.rows))
            changes.vanished.append(number)
        return changes

    def append(self, changes: Changes, rows: Rows) -> None:
        """Read the new fragments, one at a time, and append their rows."""
        for fragment in changes.added:
            table, offsets = read_fragment(changes.dataset, fragment.number, COLUMNS)
            first = rows.append(table) if len(table) else len(rows)
            whole = len(offsets) == fragment.rows
            self._held[fragment.number] = _Held(fragment, first, None if whole else offsets, len(offsets))

    def remove(self, changes: Changes, rows: Rows) -> None:
        """Let the rows that are gone count no more; after this the version of the changes is held."""
        for removed in changes.removed:
            rows.kill(removed)
        for number in changes.vanished:
            del self._held[number]
        for fragment in changes.thinned:
            held = self._held[fragment.number]
            self._held[fragment.number] = _Held(fragment, held.first, held.offsets, held.rows)
        self._version = changes.dataset.version


def _rows_at(held: _Held, offsets: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The shard's rows at some offsets of a fragment; offsets that were never read are left out."""
    if held.offsets is None:
        return held.first + offsets.astype(np.int64)
    return held.first + np.flatnonzero(np.isin(held.offsets, offsets))
