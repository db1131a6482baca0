"""The job: photos of a catalogue -> encoder -> store. It can be killed at any moment and started again.

Photos are decoded some way ahead of the encoder, and a piece is committed while the next one is encoded. Only whole
pieces are committed, and a photo that the store already holds unchanged is passed over, so a run
that was killed loses at most the pieces in flight, and a second run of a finished job only looks at each photo.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import UndecodableImage
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.catalogue.entries import Entry, Problem
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.store.collection import Store, codes_column
from lookalike.ingest.store.keys import keys_of
from lookalike.model.descriptor import Descriptors
from lookalike.storage.local import write_atomically

# A commit to 16 buckets takes about 0.3 s beside the encoder: every 1,024 photos (3 s on two cores) it costs little,
# and a killed job loses seconds.
PIECE = 1024
# Decoding is 1 ms a photo and runs without the GIL; two threads keep a model on two cores fed.
DECODERS = 2
AHEAD = 256
BATCH = 64


class Encodes(Protocol):
    """What the job asks of an encoder: pixels uint8 (n, side, side, 3) to n descriptors."""

    def encode(self, pixels: NDArray[np.uint8]) -> Descriptors: ...


@dataclass
class Report:
    """What a run did: counts, every photo that was left out, and every field that could not be read."""

    encoded: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Photo:
    """A catalogue entry whose photo could be read: pixels uint8 (side, side, 3)."""

    entry: Entry
    location: str
    fingerprint: int
    pixels: NDArray[np.uint8]


def encode_catalogue(
    catalogue: Catalogue,
    store: Store,
    encoder: Encodes,
    side_px: int,
    progress: Callable[[int], None] = lambda _: None,
    piece: int = PIECE,
) -> Report:
    """Bring the store up to date with the catalogue: rows are added or replaced, none is removed.

    Parameters
    ----------
    side_px : int
        The side of the square that the model sees.
    progress : callable
        Called with the number of catalogue rows dealt with since the last call.

    Returns
    -------
    Report
        Also written to ``report.jsonl`` in the store, a line per photo left out or field not read.
    """
    report = Report()
    started = time.monotonic()
    known = _Fingerprints(store)
    with ThreadPoolExecutor(DECODERS) as decoders, ThreadPoolExecutor(1) as committer:
        photos = _photos(catalogue, known, side_px, decoders, report, progress)
        commit: Future[object] | None = None
        for rows in _pieces(photos, store, encoder, piece, progress):
            if commit is not None:
                commit.result()
            commit = committer.submit(store.upsert, rows)
            report.encoded += len(rows)
        if commit is not None:
            commit.result()
    if report.encoded:
        store.compact()
    report.seconds = time.monotonic() - started
    _write_report(store.folder / "report.jsonl", report)
    return report


def _photos(
    catalogue: Catalogue,
    known: _Fingerprints,
    side_px: int,
    decoders: ThreadPoolExecutor,
    report: Report,
    progress: Callable[[int], None],
) -> Iterator[Photo]:
    """Decode ``AHEAD`` photos before the caller, in order; what need not be encoded is noted and passed over."""
    waiting: deque[Future[Photo | Problem | None]] = deque()

    def first() -> Iterator[Photo]:
        outcome = waiting.popleft().result()
        if isinstance(outcome, Photo):
            entry = outcome.entry
            report.notes.extend(Problem(note, entry.image_id, entry.photo) for note in entry.notes)
            yield outcome
            return
        progress(1)
        if outcome is None:
            report.unchanged += 1
        else:
            report.problems.append(outcome)

    for row in catalogue:
        waiting.append(decoders.submit(_load, row, catalogue.root, side_px, known))
        if len(waiting) == AHEAD:
            yield from first()
    while waiting:
        yield from first()


def _pieces(
    photos: Iterator[Photo], store: Store, encoder: Encodes, piece: int, progress: Callable[[int], None]
) -> Iterator[pa.Table]:
    """Encode batch after batch, and give the rows of ``piece`` photos at a time."""
    tables: list[pa.Table] = []
    while batch := list(itertools.islice(photos, min(BATCH, piece - sum(map(len, tables))))):
        codes = encoder.encode(np.stack([photo.pixels for photo in batch]))
        entries = [photo.entry for photo in batch]
        locations = [photo.location for photo in batch]
        tables.append(rows_table(store, entries, locations, [photo.fingerprint for photo in batch], codes))
        progress(len(batch))
        if sum(map(len, tables)) == piece:
            yield pa.concat_tables(tables)
            tables = []
    if tables:
        yield pa.concat_tables(tables)


def _load(row: Entry | Problem, root: Path, side_px: int, known: _Fingerprints) -> Photo | Problem | None:
    """Read and decode one photo. None: the store holds it unchanged."""
    if isinstance(row, Problem):
        return row
    try:
        path = (root / row.photo).resolve()
        fingerprint = _fingerprint(row, path)
        if known.holds(row.image_id, fingerprint):
            return None
        pixels = decode(read_photo(row.photo, root), side_px)
    except FileNotFoundError:
        return Problem("no such file", row.image_id, row.photo)
    except (UndecodableImage, OSError) as error:
        return Problem(str(error), row.image_id, row.photo)
    return Photo(row, str(path), fingerprint, pixels)


def _fingerprint(entry: Entry, path: Path) -> int:
    """Hash all that decides a row: its fields, and its file's place, size and time of change."""
    stat = path.stat()
    told = json.dumps([repr(entry), str(path), stat.st_size, stat.st_mtime_ns])
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8).digest(), "little")


def rows_table(
    store: Store, entries: list[Entry], locations: list[str], fingerprints: list[int], codes: Descriptors
) -> pa.Table:
    """Put entries and their descriptors together as rows of the store."""
    columns: dict[str, object] = {
        name: [getattr(entry.attributes, name) for entry in entries] for name in Attributes.model_fields
    }
    columns["image_id"] = [entry.image_id for entry in entries]
    columns["key"] = keys_of([entry.image_id for entry in entries])
    columns["photo"] = locations
    columns["fingerprint"] = np.array(fingerprints, np.uint64)
    columns["short"] = codes_column(codes.short)
    columns["long"] = codes_column(codes.long)
    return pa.table([columns[name] for name in store.schema.names], schema=store.schema)


def _write_report(path: Path, report: Report) -> None:
    left_out = [{"left_out": True, **asdict(problem)} for problem in report.problems]
    not_read = [{"left_out": False, **asdict(note)} for note in report.notes]
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in [*left_out, *not_read]]
    write_atomically(path, "".join(lines).encode())


class _Fingerprints:
    """What the store holds, 16 bytes an image: keys and fingerprints as two sorted arrays."""

    def __init__(self, store: Store) -> None:
        keys, prints = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        for bucket in store.buckets:
            for batch in bucket.column_batches(["key", "fingerprint"]):
                keys.append(batch["key"].to_numpy())
                prints.append(batch["fingerprint"].fill_null(0).to_numpy())
        together = np.concatenate(keys)
        order = np.argsort(together)
        self._keys = together[order]
        self._prints = np.concatenate(prints)[order]

    def holds(self, image_id: str, fingerprint: int) -> bool:
        key = keys_of([image_id])[0]
        place = int(np.searchsorted(self._keys, key))
        return place < len(self._keys) and self._keys[place] == key and int(self._prints[place]) == fingerprint
