"""The job: photos of a catalogue -> encoder -> store. It can be killed at any moment and started again.

A window of rows is looked up in the store, and what is there unchanged is passed over. The others are decoded some way
ahead of the encoder, and a piece is committed while the next one is encoded. So a run that was killed loses at most the
pieces in flight, a second run of a finished job only looks at each photo, and the memory that a job needs does not grow
with its catalogue.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike import storage
from lookalike.errors import UndecodableImage
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.catalogue.entries import Entry, Problem
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import PhotoReader, SourceState
from lookalike.ingest.photos.location import is_url
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.housekeeping import Housekeeping
from lookalike.ingest.store.keys import keys_of
from lookalike.ingest.store.resolve import Stored
from lookalike.ingest.store.rows import SCHEMA, Source, rows_table, tombstones_table
from lookalike.ingest.threads import in_threads, threads
from lookalike.model.descriptor import Descriptors

# A commit to 16 buckets takes about 0.3 s beside the encoder: every 1,024 photos (3 s on two cores) it costs little,
# and a killed job loses seconds.
PIECE = 1024
# Decoding is 1 ms a photo and runs without the GIL; two threads keep a model on two cores fed.
DECODERS = 2
# An object takes 20 ms and more to come, nearly all of it waiting.
REMOTE_READERS = 8
# Rows looked up in the store at once, and photos decoded ahead of the encoder.
WINDOW = 256
BATCH = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_PROBLEMS = 100_000
"""Problems that a report keeps; of more it keeps the count."""


class Encodes(Protocol):
    """What the job asks of an encoder: pixels uint8 (n, side, side, 3) to n descriptors."""

    def encode(self, pixels: NDArray[np.uint8]) -> Descriptors: ...


@dataclass
class Report:
    """What a run did: counts, the photos that were left out, and the fields that could not be read.

    Attributes
    ----------
    kept : int
        Changed rows that were not written, since a client changed or deleted the image later.
    """

    encoded: int = 0
    unchanged: int = 0
    kept: int = 0
    left_out: int = 0
    unread: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def leave_out(self, problem: Problem) -> None:
        """Note a photo that is left out."""
        self.left_out += 1
        if self.left_out <= MAX_PROBLEMS:
            self.problems.append(problem)

    def note(self, entry: Entry) -> None:
        """Note the fields of an entry that could not be read."""
        for text in entry.notes:
            self.unread += 1
            if self.unread <= MAX_PROBLEMS:
                self.notes.append(Problem(text, entry.image_id, entry.photo))


@dataclass(frozen=True)
class _Candidate:
    """An entry that may have changed, and the state of its photo."""

    entry: Entry
    fingerprint: int
    stamp: datetime


@dataclass(frozen=True)
class _Photo:
    """An entry whose photo could be read: pixels uint8 (side, side, 3)."""

    candidate: _Candidate
    pixels: NDArray[np.uint8]


class EncodeJob:
    """Bring a collection up to date with a catalogue: rows are added or replaced, none is removed.

    Parameters
    ----------
    side_px : int
        The side of the square that the model sees.
    progress : callable
        Called with the number of catalogue rows dealt with since the last call.
    piece : int
        Photos in a commit.
    left_out : sequence of Problem
        What was left out before the job began; the report has it too, each image once.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        collection: Collection,
        encoder: Encodes,
        side_px: int,
        progress: Callable[[int], None] = lambda _: None,
        piece: int = PIECE,
        left_out: Sequence[Problem] = (),
    ) -> None:
        self._catalogue = catalogue
        self._collection = collection
        self._encoder = encoder
        self._side_px = side_px
        self._progress = progress
        self._piece = piece
        self._reader = PhotoReader(catalogue.location)
        self._prefix = collection.sources.add(catalogue.location)
        self._report = Report()
        self._left_out_before = {problem.image_id for problem in left_out}
        for problem in left_out:
            self._report.leave_out(problem)

    def run(self) -> Report:
        """Do it. The report is also written to ``report.jsonl`` in the store, a line per photo left out or field."""
        started = time.monotonic()
        readers = DECODERS if self._catalogue.location.is_local else REMOTE_READERS
        with (
            Housekeeping(self._collection) as housekeeping,
            threads(1, "commit") as committer,
            threads(readers, "decode") as decoders,
        ):
            commit: Future[None] | None = None
            for rows in self._pieces(self._photos(decoders)):
                if commit is not None:
                    commit.result()
                    housekeeping.poke()
                commit = committer.submit(self._commit, rows)
            if commit is not None:
                commit.result()
        if self._report.encoded or self._report.kept:
            self._collection.compact()
        self._report.seconds = time.monotonic() - started
        storage.write(self._collection.report_location, _encoded(self._report))
        return self._report

    def _commit(self, rows: pa.Table) -> None:
        written = self._collection.take_in(rows).rows
        self._report.encoded += written
        self._report.kept += len(rows) - written

    def _photos(self, decoders: ThreadPoolExecutor) -> Iterator[_Photo]:
        """Decode a window of photos before the caller, in order; what need not be encoded is counted."""
        for outcome in in_threads(decoders, self._decode, self._changed(decoders), WINDOW):
            if isinstance(outcome, Problem):
                self._leave_out(outcome)
            else:
                self._report.note(outcome.candidate.entry)
                yield outcome

    def _leave_out(self, problem: Problem) -> None:
        if not problem.image_id or problem.image_id not in self._left_out_before:
            self._report.leave_out(problem)
        self._progress(1)

    def _changed(self, decoders: ThreadPoolExecutor) -> Iterator[_Candidate]:
        """The entries that the store does not hold as they are now, a window of the catalogue at a time."""
        rows = iter(self._catalogue)
        while window := list(itertools.islice(rows, WINDOW)):
            candidates = []
            for outcome in decoders.map(self._looked_at, window):
                if isinstance(outcome, Problem):
                    self._leave_out(outcome)
                else:
                    candidates.append(outcome)
            if candidates:
                yield from self._without_known(candidates)

    def _without_known(self, candidates: list[_Candidate]) -> Iterator[_Candidate]:
        """Pass over what is unchanged, and what a client changed after the catalogue did."""
        stored = self._collection.stored(keys_of([candidate.entry.image_id for candidate in candidates]))
        fingerprints = np.array([candidate.fingerprint for candidate in candidates], np.uint64)
        stamps = np.array([_microseconds(candidate.stamp) for candidate in candidates], np.int64)
        same = stored.found & stored.has_fingerprint & (stored.fingerprint == fingerprints)
        by_client = stored.found & (stored.source != Source.CATALOGUE)
        kept = ~same & by_client & (stamps <= stored.stamp) & ~stored.unreadable
        self._report.unchanged += int(same.sum())
        if kept.any():
            self._keep([candidates[at] for at in np.flatnonzero(kept)], stored, np.flatnonzero(kept))
        if (same | kept).any():
            self._progress(int((same | kept).sum()))
        yield from (candidates[at] for at in np.flatnonzero(~(same | kept)))

    def _keep(self, candidates: list[_Candidate], stored: Stored, at: NDArray[np.int64]) -> None:
        """Let rows of clients stay, with the catalogue's fingerprint: what it says now is no news at its next run.

        Without it a table that is only exported again, and so has a later time, would replace them. Each row is
        written a microsecond newer than it was looked up: if a client changes it meanwhile, the client's is written.
        """
        live = self._collection.find([candidate.entry.image_id for candidate in candidates])
        tables = [SCHEMA.empty_table()]
        for candidate, stamp in zip(candidates, stored.stamp[at].tolist(), strict=True):
            image_id = candidate.entry.image_id
            newer = _EPOCH + timedelta(microseconds=stamp + 1)
            if image_id in live:
                row = live[image_id] | {"stamp": newer}
            else:
                (row,) = tombstones_table([image_id], source=Source.HTTP, stamp=newer).to_pylist()
            tables.append(pa.Table.from_pylist([row | {"fingerprint": candidate.fingerprint}], SCHEMA))
        self._collection.copy_in(pa.concat_tables(tables))
        self._report.kept += len(candidates)

    def _looked_at(self, row: Entry | Problem) -> _Candidate | Problem:
        if isinstance(row, Problem):
            return row
        try:
            state = self._reader.state(row.photo)
        except UndecodableImage as error:
            return Problem(str(error), row.image_id, row.photo)
        return _Candidate(row, _fingerprint(row, state), self._stamp(state))

    def _stamp(self, state: SourceState) -> datetime:
        """When the source of a row changed: at the latest when its photo or its table did."""
        now = datetime.now(UTC)
        times = [state.modified, self._catalogue.modified]
        return min(now, max((time for time in times if time is not None), default=now))

    def _decode(self, candidate: _Candidate) -> _Photo | Problem:
        entry = candidate.entry
        try:
            return _Photo(candidate, decode(self._reader.read(entry.photo), self._side_px))
        except UndecodableImage as error:
            return Problem(str(error), entry.image_id, entry.photo)

    def _pieces(self, photos: Iterator[_Photo]) -> Iterator[pa.Table]:
        """Encode batch after batch, and give the rows of a piece at a time."""
        tables: list[pa.Table] = []
        while batch := list(itertools.islice(photos, min(BATCH, self._piece - sum(map(len, tables))))):
            codes = self._encoder.encode(np.stack([photo.pixels for photo in batch]))
            tables.append(self._rows([photo.candidate for photo in batch], codes))
            self._progress(len(batch))
            if sum(map(len, tables)) == self._piece:
                yield pa.concat_tables(tables)
                tables = []
        if tables:
            yield pa.concat_tables(tables)

    def _rows(self, candidates: list[_Candidate], codes: Descriptors) -> pa.Table:
        entries = [candidate.entry for candidate in candidates]
        return rows_table(
            [entry.image_id for entry in entries],
            [entry.attributes for entry in entries],
            [entry.photo if is_url(entry.photo) else self._prefix + entry.photo for entry in entries],
            codes,
            source=Source.CATALOGUE,
            stamps=[candidate.stamp for candidate in candidates],
            fingerprints=[candidate.fingerprint for candidate in candidates],
        )


def _fingerprint(entry: Entry, state: SourceState) -> int:
    """Hash all that decides a row: its fields, and what tells one version of its photo from another."""
    content = f"{entry.image_id}\0{entry.photo}\0{entry.attributes.model_dump_json()}\0{state.identity}"
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _encoded(report: Report) -> bytes:
    left_out = [{"left_out": True, **asdict(problem)} for problem in report.problems]
    not_read = [{"left_out": False, **asdict(note)} for note in report.notes]
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in [*left_out, *not_read]]
    return "".join(lines).encode()
