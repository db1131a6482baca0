"""A table as a catalogue: its rows, checked one by one, and ids that come twice.

Fifty million rows are never held. What is kept of each is 8 bytes, the hash of its id, because an id that comes twice
must be seen: two photos under one id would overwrite each other in the store.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import BadCatalogue
from lookalike.ingest.catalogue.entries import Entry, Problem, table_entry
from lookalike.ingest.catalogue.tables import BadRow, CsvTable, ParquetTable, is_parquet
from lookalike.ingest.photos.location import shown_photo
from lookalike.storage.location import Location

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")


class CatalogueTable:
    """The rows of a CSV or Parquet file, local or on S3."""

    def __init__(self, location: Location) -> None:
        """Read the header.

        Raises
        ------
        BadCatalogue
            It is neither kind of table, or one without the columns that it must have.
        """
        name = location.name.lower()
        if name.endswith(PARQUET_SUFFIXES) or is_parquet(location):
            self._table: CsvTable | ParquetTable = ParquetTable(location)
        elif name.endswith(CSV_SUFFIXES):
            self._table = CsvTable(location)
        else:
            raise BadCatalogue(f"{location.shown} is neither a folder of photos nor a .csv or .parquet file")
        self.ignored_columns = self._table.ignored_columns

    def estimate(self) -> int:
        return self._table.estimate()

    def entries(self) -> Iterator[Entry | Problem]:
        seen = _Seen()
        for row in self._table:
            if isinstance(row, BadRow):
                yield Problem(row.reason, row=row.row)
                continue
            at, fields = row
            entry = table_entry(fields, at)
            if isinstance(entry, Entry) and not seen.add(entry.image_id):
                file = shown_photo(entry.photo)
                entry = Problem("image_id came before; the first is kept", entry.image_id, file, at)
            yield entry


class _Seen:
    """Which ids came before, in 8 bytes each.

    Python's own hash of a string is used: 64 bits, and keyed anew in each process, so that no stranger can
    make two ids meet. By chance, among 50 million ids, two meet once in 15,000 catalogues. A plain set of
    these hashes takes 80 bytes an id; here it only holds the newest million and the others lie sorted in one
    array.
    """

    def __init__(self, recent: int = 1 << 20) -> None:
        self._limit = recent
        self._recent: set[int] = set()
        self._sorted: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, image_id: str) -> bool:
        """Remember an id; False if it was there."""
        key = hash(image_id)
        if key in self._recent:
            return False
        at = self._sorted.searchsorted(key)
        if at < len(self._sorted) and self._sorted[at] == key:
            return False
        self._recent.add(key)
        if len(self._recent) >= self._limit:
            new = np.fromiter(self._recent, np.int64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, new]), kind="stable")
            self._recent.clear()
        return True
