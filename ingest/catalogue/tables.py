"""A CSV or Parquet file as rows of text, whatever is in it: streamed, never held, from a local path or from S3.

Both kinds give the same: dictionaries of the columns that a catalogue has, with "" for unknown, so that the
rules of `entries` hold for both. Bytes that are not UTF-8 come as lone surrogates and spoil their own field
only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from lookalike import storage
from lookalike.errors import BadCatalogue
from lookalike.ingest.catalogue.entries import COLUMNS, LEVEL
from lookalike.storage.location import Location

Row = tuple[int, dict[str, str]]  # its position, and its values by column

_HEAD_BYTES = 65_536
_READ_BYTES = 4_194_304  # at a time: a request to S3 costs 10 to 30 ms, whatever its size
MAX_LINE_CHARS = 4_000_000  # no honest row is longer; a file without line breaks must not fill the memory
_DELIMITERS = ",;\t"
_BATCH_ROWS = 1_024
_NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be taken apart; the next one can."""

    row: int
    reason: str


def used_columns(names: Sequence[str]) -> dict[str, int]:
    """Find our columns by name; levels in their order, and none of them if there is a ``group``.

    Raises
    ------
    BadCatalogue
        ``image_id`` or ``file`` is missing, or a column that we use is there twice.
    """
    columns: dict[str, int] = {}
    for at, name in enumerate(name.strip().lower() for name in names):
        if name in COLUMNS or LEVEL.fullmatch(name):
            if name in columns:
                raise BadCatalogue(f"the column {name} is there twice; rename one")
            columns[name] = at
    missing = [name for name in ("image_id", "file") if name not in columns]
    if missing:
        found = ", ".join(name.strip() or "(unnamed)" for name in names[:20])
        raise BadCatalogue(f"no column {' and no column '.join(missing)}; found: {found[:500]}")
    levels = [name for name in columns if LEVEL.fullmatch(name)]
    if "group" in columns:
        return {name: at for name, at in columns.items() if name not in levels}
    levels.sort(key=lambda name: int(name.removeprefix("level")))
    return {name: columns[name] for name in [*(name for name in columns if name not in levels), *levels]}


class CsvTable:
    """A CSV in UTF-8 with a header; commas, semicolons or tabs between the fields."""

    def __init__(self, location: Location) -> None:
        """Read the header.

        Raises
        ------
        BadCatalogue
            The file is empty, is not UTF-8, or lacks a column.
        """
        self.location = location
        self._head = _utf8_head(location)
        headers = {delimiter: _header(self._head, delimiter) for delimiter in _DELIMITERS}
        # No guess from the looks of the rows: the delimiter is the one that makes our columns of the header.
        self.delimiter = next((d for d, names in headers.items() if _has_ours(names)), ",")
        names = headers[self.delimiter]
        self.columns = used_columns(names)
        self.width = len(names)
        used = set(self.columns.values())
        self.ignored_columns = [name for at, name in enumerate(names) if at not in used]

    def estimate(self) -> int:
        """Count the lines below the header: the rows, or more where a quoted field breaks its line.

        On S3 the lines are not read for this, but estimated from the size and the first ones.
        """
        if not self.location.is_local:
            lines = self._head.count("\n")
            return max(1, storage.info(self.location).size_bytes * lines // len(self._head.encode()) - 1)
        lines, last = 0, b"\n"
        with storage.open_random(self.location) as file:
            while block := file.read(1 << 20):
                lines += block.count(b"\n")
                last = block
        return max(0, lines - last.endswith(b"\n"))

    def __iter__(self) -> Iterator[Row | BadRow]:
        with _opened_text(self.location) as file:
            # Strict: else a quote left open would swallow the rest of the file without a word.
            lines = _Lines(file)
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            next(reader)
            while True:
                first = lines.count + 1
                try:
                    values = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:  # the reader forgets what it has and goes on with the next line
                    reason = f"{error}; is a quote wrong? Lines {first} to {lines.count} are left out"
                    yield BadRow(lines.count, reason)
                    continue
                if len(values) == self.width:
                    yield lines.count, {name: values[at] for name, at in self.columns.items()}
                elif values:  # else a blank line
                    reason = f"{len(values)} fields, but the header has {self.width}; quote fields that hold"
                    yield BadRow(lines.count, f"{reason} {self.delimiter!r}")


class _Lines:
    """The lines of a file, each of bounded length; goes on after an error, as a generator could not."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE_CHARS)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) < MAX_LINE_CHARS or line.endswith("\n"):
            return line
        while (rest := self._file.readline(MAX_LINE_CHARS)) and not rest.endswith("\n"):
            pass
        raise csv.Error(f"a line of more than {MAX_LINE_CHARS:,} characters")


def _header(head: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _has_ours(names: Sequence[str]) -> bool:
    return {"image_id", "file"} <= {name.strip().lower() for name in names}


def _opened_text(location: Location) -> TextIO:
    blocks = pa.BufferedInputStream(storage.open_random(location), _READ_BYTES)
    return io.TextIOWrapper(blocks, encoding="utf-8-sig", errors="surrogateescape", newline="")


def is_parquet(location: Location) -> bool:
    """Tell by the first bytes, whatever the file is called."""
    with storage.open_random(location) as file:
        return bool(file.read(4) == b"PAR1")


def _utf8_head(location: Location) -> str:
    path = location.shown
    with storage.open_random(location) as file:
        head: bytes = file.read(_HEAD_BYTES)
    if not head.strip():
        raise BadCatalogue(f"{path} is empty; it needs a header with image_id and file, and rows")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head.partition(b"\n")[0]:
        raise BadCatalogue(f"{path} is not UTF-8 (UTF-16, or no text at all); save it as CSV UTF-8")
    try:
        return head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) == _HEAD_BYTES and error.start > _HEAD_BYTES - 4:  # cut inside a character
            return head[: error.start].decode("utf-8-sig")
        line = head.count(b"\n", 0, error.start) + 1
        raise BadCatalogue(
            f"{path} is not UTF-8: byte 0x{head[error.start]:02x} in line {line}; save it as CSV UTF-8"
        ) from None


class ParquetTable:
    """A Parquet file, of any compression; every column that is used holds text, numbers or times."""

    def __init__(self, location: Location) -> None:
        """Read the schema.

        Raises
        ------
        BadCatalogue
            The file is damaged, lacks a column, or has a nested one.
        """
        self.location = location
        try:
            with storage.open_random(location) as file, pq.ParquetFile(file) as parquet:
                schema, self._rows = parquet.schema_arrow, parquet.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise BadCatalogue(f"{location.shown} is not a Parquet file that we can read: {error}") from error
        self._names = [schema.names[at] for at in used_columns(schema.names).values()]
        self.columns = used_columns(self._names)
        self.ignored_columns = [name for name in schema.names if name not in self._names]
        for name in self._names:
            kind = schema.field(name).type
            if pa.types.is_nested(kind):
                raise BadCatalogue(f"the column {name} holds {kind}; it must hold text, numbers or times")

    def estimate(self) -> int:
        """Count the rows."""
        return int(self._rows)

    def __iter__(self) -> Iterator[Row | BadRow]:
        row = 0
        try:
            with storage.open_random(self.location) as file, pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(_BATCH_ROWS, columns=self._names):
                    texts = [_texts(batch.column(name)) for name in self._names]
                    for values in zip(*texts, strict=True):
                        row += 1
                        yield row, dict(zip(self.columns, values, strict=True))
        except (pa.ArrowException, OSError) as error:  # behind a damaged page nothing can be found again
            raise BadCatalogue(f"{self.location.shown} is damaged behind row {row:,}: {error}") from error


def _texts(column: Any) -> list[str]:
    """Write a column's values as a CSV would hold them."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
        kind = column.type
    if pa.types.is_timestamp(kind):  # Arrow counts from 1970 in UTC, whatever the zone it shows
        return [_moment(count, kind.unit) for count in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = column.cast(pa.large_binary())  # as text, one bad byte would spoil the whole batch
    return [_text(value) for value in column.to_pylist()]


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # numbers with gaps become floats on their way; 12.0 was 12
    return str(value)


def _moment(count: int | None, unit: str) -> str:
    if count is None:
        return ""
    try:
        return (_EPOCH + timedelta(microseconds=count * _NANOS[unit] // 1_000)).isoformat()
    except OverflowError:
        return f"{count} {unit} after 1970"  # no year of the calendar: noted as unreadable
