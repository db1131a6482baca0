"""One bucket of a collection: a Lance dataset, written by one process at a time and read by many.

Lance is a list of immutable fragments, each with a growing set of deleted rows; a version is such a list.
A reader that remembers which fragments it holds therefore learns what changed by comparing two lists.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.errors import StoreUnavailable
from lookalike.storage.local import locked

# A merge opens every fragment: 64 keep it near its cost on one (25 ms against 20 ms for 100 rows).
MOST_FRAGMENTS = 64
MOST_DELETED = 0.2
# Readers may be loading an old version when a writer compacts; nobody loads for ten minutes.
KEEP_OLD_VERSIONS = datetime.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Fragment:
    """An immutable run of rows in one version of a bucket, less the rows deleted since it was written."""

    number: int
    rows: int
    deleted: int


class Bucket:
    """One Lance dataset at ``path`` (``NN.lance``), with its lock file beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_suffix(".lock")

    def create(self, schema: pa.Schema) -> None:
        """Write the empty first version."""
        lance.write_dataset(schema.empty_table(), str(self._path), schema=schema, mode="create")
        self._lock.touch()

    def open(self) -> lance.LanceDataset:
        """Open the newest version (0.5 ms: one small file is read)."""
        try:
            return lance.dataset(str(self._path))
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"cannot open the bucket {self._path}: {error}") from error

    def upsert(self, rows: pa.Table) -> int:
        """Insert new rows and replace those whose ``image_id`` is there. Returns the version committed.

        ``rows`` holds an ``image_id`` at most once. Durable on return. Writers of one bucket queue on its
        lock: two merges of the same new ids at once could both insert them (lance #8949).
        """
        with locked(self._lock):
            dataset = self.open()
            merge = dataset.merge_insert("image_id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(rows)
            version: int = self._tidied(self.open()).version
            return version

    def delete(self, image_ids: Sequence[str]) -> set[str]:
        """Delete rows by id; durable on return. Returns the ids that were there."""
        with locked(self._lock):
            there = set(self.find(image_ids, ["image_id"])["image_id"].to_pylist())
            if there:
                self.open().delete(pc.field("image_id").isin(sorted(there)))
                self._tidied(self.open())
            return there

    def compact(self) -> None:
        """Rewrite the bucket as few fragments without deleted rows, and drop versions nobody reads.

        Readers must then load it anew, so a bucket that is in good order is left as it is.
        """
        with locked(self._lock):
            dataset = self.open()
            parts = fragments(dataset)
            deleted, rows = sum(part.deleted for part in parts), sum(part.rows for part in parts)
            if len(parts) > MOST_FRAGMENTS // 4 or deleted > MOST_DELETED * rows:
                self._compacted(dataset)

    def find(self, image_ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Read rows by id; unknown ids are left out."""
        return self.open().to_table(columns=list(columns), filter=pc.field("image_id").isin(image_ids))

    def column_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read some columns of every row."""
        yield from self.open().to_batches(columns=list(columns))

    def _tidied(self, dataset: lance.LanceDataset) -> lance.LanceDataset:
        if len(dataset.get_fragments()) <= MOST_FRAGMENTS:
            return dataset
        return self._compacted(dataset)

    def _compacted(self, dataset: lance.LanceDataset) -> lance.LanceDataset:
        dataset.optimize.compact_files()
        dataset = self.open()
        dataset.cleanup_old_versions(older_than=KEEP_OLD_VERSIONS)
        return dataset


def fragments(dataset: lance.LanceDataset) -> list[Fragment]:
    """List the fragments of one version, oldest first: later fragments hold newer rows."""
    return [
        Fragment(fragment.fragment_id, fragment.physical_rows, fragment.num_deletions)
        for fragment in dataset.get_fragments()
    ]


def read_fragment(
    dataset: lance.LanceDataset, number: int, columns: Sequence[str]
) -> tuple[pa.Table, NDArray[np.uint32]]:
    """Read the rows of a fragment that are not deleted.

    Returns
    -------
    rows : Table
        In the order of the file.
    offsets : ndarray of uint32, shape (rows,)
        Where each row lies in the fragment; it never changes.
    """
    fragment = dataset.get_fragment(number)
    if fragment is None:
        raise ValueError(f"no fragment {number} in version {dataset.version}")
    table = fragment.to_table(columns=list(columns), with_row_address=True)
    addresses = table["_rowaddr"].to_numpy()
    return table.drop_columns(["_rowaddr"]), addresses.astype(np.uint32)  # the low half is the offset


def deleted_rows(dataset: lance.LanceDataset, fragment: Fragment) -> NDArray[np.uint32]:
    """List the offsets of the rows deleted from a fragment, ascending."""
    left = read_fragment(dataset, fragment.number, ["key"])[1]
    gone = np.ones(fragment.rows, bool)
    gone[left] = False
    return np.flatnonzero(gone).astype(np.uint32)
