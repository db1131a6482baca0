"""Take over what version 0.1 wrote: each model version of a collection, once, without losing anything.

    <collection>/<version>/             as 0.1 wrote it, until the new one is whole
                 upgrading/<version>/   the new one, while it is made
                 v1/<version>/          the old one afterwards, as it was; nobody reads it, it may be deleted

The new version is made beside the old one, compared with it, and put in its place by two renames. A run that was
killed before the first rename left the old version as it was, and the next run starts over; one that was killed
between the two is ended by the next run. The alias stays. Uploads are copied to the collection's own folder.

What becomes of attributes, photos, stamps and fingerprints is said in ``version_one.conversion``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from lookalike import storage
from lookalike.errors import StoreUnavailable
from lookalike.ingest.store.alias import alias
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.compaction import Merge, merge_segments
from lookalike.ingest.store.head import Head, SegmentInfo
from lookalike.ingest.store.manifest import check_name
from lookalike.ingest.store.new_version import make_version
from lookalike.ingest.store.segment import Segment, split
from lookalike.ingest.store.version_one.catalogue_folders import CatalogueFolders
from lookalike.ingest.store.version_one.conversion import Conversion, Problem, is_upload
from lookalike.ingest.store.version_one.reader import OldBucket, OldVersion, read_manifest
from lookalike.storage import Location, local

NEW: Final = "upgrading"
KEPT: Final = "v1"
REPORT: Final = "upgrade.jsonl"
_SUMMARY: Final = "upgrade.json"
SHOWN_PROBLEMS = 10
# Rows are sorted this much at a time, and at most so many sorted runs are merged at once. Of a bucket of 1.2 million
# rows, 780 bytes each, the process takes 620 MB, of which 290 are Lance's reader.
RUN_BYTES = 32 << 20
MAX_RUNS = 32
# Rows of each bucket that are compared at the end.
SAMPLE_ROWS = 256


class Progress(Protocol):
    """Shows how far a step has come: entered with its label, its total and its unit, called with what was done."""

    def __call__(self, label: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]: ...


@dataclass
class Report:
    """What was taken over of a model version: ``rows == taken + left_out``.

    Attributes
    ----------
    kept : str
        Where the old version is.
    report : str
        A file with every problem, a line of JSON each.
    attributes_unknown : int
        Attributes of rows taken that broke a rule.
    uploads, photos_missing : int
        Uploaded photos copied; photos of rows taken that could not be found.
    folders_missing : list of str
        Folders of catalogues that are not there: ``sources.json`` can name the right ones.
    problems : list of Problem
        The first ones.
    """

    collection: str
    version: str
    kept: str
    report: str
    rows: int = 0
    taken: int = 0
    left_out: int = 0
    attributes_unknown: int = 0
    uploads: int = 0
    photos_missing: int = 0
    folders_missing: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether everything could be taken over."""
        return not (self.left_out or self.attributes_unknown or self.photos_missing)

    def note(self, problem: Problem) -> None:
        """Count a problem."""
        self.left_out += problem.kind == "row"
        self.attributes_unknown += problem.kind == "attribute"
        self.photos_missing += problem.kind == "photo"
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(problem)


def upgrade(root: Location, name: str, progress: Progress) -> list[Report]:
    """Take over every model version of a collection that 0.1 wrote. An empty answer: there was nothing to do.

    Raises
    ------
    ValueError
        The store is not local: 0.1 knew no other.
    StoreUnavailable, StorageUnavailable, StoreMismatch, BadModel
        A version could not be taken over: it is as it was. Those before it are done.
    LookalikeError
        Lance is not installed.
    """
    check_name(name)
    if not root.is_local:
        raise ValueError(f"version 0.1 kept its stores in local folders; {root.shown} is none")
    alias(root, name)  # there is such a collection
    folder = (root / name).path
    if not _interrupted(folder) and not _old_versions(folder):
        return []
    local.make_folder(folder / KEPT)
    with local.locked(folder / KEPT / "lock"):  # another run waits, and finds nothing to do
        reports = []
        for version in _interrupted(folder):
            _put_in_place(folder, version)
            reports.append(_read_summary(folder / version))
        reports += [_TakeOver(root, name, version, progress).run() for version in _old_versions(folder)]
        with contextlib.suppress(OSError):  # it is not there, or somebody put something into it
            (folder / NEW).rmdir()
    return reports


def _old_versions(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if read_manifest(path) is not None)


def _interrupted(folder: Path) -> list[str]:
    """The versions of which the old one was put away and the new one is not in its place."""
    whole = [path.parent.name for path in (folder / NEW).glob(f"*/{_SUMMARY}")]
    return sorted(version for version in whole if not (folder / version).exists())


def _put_away(folder: Path, version: str) -> None:
    local.disk.rename(folder / version, folder / KEPT / version)
    local.sync(folder / KEPT)
    local.sync(folder)


def _put_in_place(folder: Path, version: str) -> None:
    local.disk.rename(folder / NEW / version, folder / version)
    local.sync(folder)
    local.sync(folder / NEW)


def _read_summary(folder: Path) -> Report:
    values: dict[str, Any] = json.loads(storage.read(Location.parse(folder / _SUMMARY)))
    values["problems"] = [Problem(**problem) for problem in values["problems"]]
    return Report(**values)


class _TakeOver:
    """Takes over one model version."""

    def __init__(self, root: Location, name: str, version: str, progress: Progress) -> None:
        self._root = root
        self._folder = (root / name).path
        self._old = OldVersion(self._folder / version)
        self._progress = progress
        self._duplicates: set[str] = set()
        kept, report = self._folder / KEPT / version, self._folder / version / REPORT
        self._report = Report(name, version, str(kept), str(report))

    def run(self) -> Report:
        name, version = self._report.collection, self._report.version
        new = self._folder / NEW / version
        if Path(self._report.kept).exists():
            raise StoreUnavailable(f"{self._report.kept} is there already; move it away, then run this again")
        if new.exists():
            shutil.rmtree(new)
        with self._old.writers_locked_out():
            buckets = self._old.buckets()
            make_version(Location.parse(new), self._old.spec, self._old.model, len(buckets))
            collection = Collection(self._root, name, f"{NEW}/{version}")
            prefixes = self._note_catalogues(collection, buckets)
            with _noting(collection.location / REPORT, self._report) as note:
                self._fill(collection, buckets, prefixes, note)
            self._compare(collection, buckets, prefixes)
            summary = json.dumps(dataclasses.asdict(self._report), indent=2).encode()
            storage.write(collection.location / _SUMMARY, summary)
            _put_away(self._folder, version)
            _put_in_place(self._folder, version)
        return self._report

    def _note_catalogues(self, collection: Collection, buckets: list[OldBucket]) -> dict[str, str]:
        """Note the folders of the catalogues. Returns, by folder, what the names of its photos begin with."""
        folders = CatalogueFolders()
        with self._progress("looking for catalogues", sum(bucket.rows for bucket in buckets), "row") as advance:
            for batch in (batch for bucket in buckets for batch in bucket.batches(("image_id", "photo"))):
                for image_id, photo in zip(batch["image_id"].to_pylist(), batch["photo"].to_pylist(), strict=True):
                    if photo and photo.startswith("/") and not is_upload(photo, image_id):
                        folders.add(photo, image_id)
                advance(len(batch))
        roots = folders.roots()
        self._report.folders_missing = [root for root in roots if not Path(root).is_dir()]
        return {root: collection.sources.add(Location.parse(root)) for root in roots}

    def _fill(
        self,
        collection: Collection,
        buckets: list[OldBucket],
        prefixes: dict[str, str],
        note: Callable[[Problem], None],
    ) -> None:
        report = self._report

        def replaced(rows: pa.Table) -> None:
            for image_id in rows["image_id"].to_pylist():
                self._duplicates.add(image_id)
                note(Problem("row", image_id, "its id, or another one of the same key, came again: the last was taken"))

        conversion = Conversion(Location.parse(self._old.folder), collection.folder, prefixes, note)
        with closing(conversion), self._bar("upgrading", buckets) as advance:

            def converted(bucket: OldBucket) -> Iterator[pa.Table]:
                for batch in bucket.batches():
                    report.rows += len(batch)
                    yield conversion.rows(batch, bucket.written)
                    advance(len(batch))

            for bucket, target in zip(buckets, collection.buckets, strict=True):
                report.taken += write_sorted(target, converted(bucket), replaced)
        report.uploads = conversion.uploads

    def _compare(self, collection: Collection, buckets: list[OldBucket], prefixes: dict[str, str]) -> None:
        """Compare the new version with the old one: the counts, and a sample of each bucket row by row."""
        report, there = self._report, sum(bucket.rows for bucket in buckets)
        counted = collection.count()
        if report.rows != there or report.taken + report.left_out != there or report.taken != counted:
            raise StoreUnavailable(
                f"of {there:,} rows in {self._old.folder}, {report.rows:,} were read, {report.taken:,} written and "
                f"{report.left_out:,} left out, and {counted:,} are in the new version: it was not put in place"
            )
        conversion = Conversion(Location.parse(self._old.folder), collection.folder, prefixes, lambda _: None)
        with closing(conversion), self._bar("comparing", buckets) as advance:
            for bucket in buckets:
                sample = bucket.sample(SAMPLE_ROWS)
                if sample is not None:
                    self._compare_rows(collection, conversion.rows(sample, bucket.written))
                advance(bucket.rows)

    def _compare_rows(self, collection: Collection, expected: pa.Table) -> None:
        found = collection.find(expected["image_id"].to_pylist())
        for row in expected.to_pylist():
            image_id = row["image_id"]
            if image_id in self._duplicates:
                continue
            there = found.get(image_id)
            differing = [name for name in row if name != "sequence" and there is not None and row[name] != there[name]]
            if there is None or differing:
                raise StoreUnavailable(
                    f"{image_id!r} of {self._old.folder} differs in the new version, which was not put in place: "
                    f"{', '.join(differing) or 'it is missing'}"
                )

    def _bar(self, label: str, buckets: list[OldBucket]) -> AbstractContextManager[Callable[[int], None]]:
        total = sum(bucket.rows for bucket in buckets)
        return self._progress(f"{label} {self._report.collection}", total, "row")


@contextlib.contextmanager
def _noting(location: Location, report: Report) -> Iterator[Callable[[Problem], None]]:
    """Count problems and write each to a file, which is durable when the block ends."""
    with storage.create_file(location) as file:

        def note(problem: Problem) -> None:
            report.note(problem)
            file.write(json.dumps(dataclasses.asdict(problem), ensure_ascii=False).encode() + b"\n")

        yield note


def write_sorted(bucket: Bucket, tables: Iterable[pa.Table], replaced: Callable[[pa.Table], None]) -> int:
    """Write rows in any order as one segment of a bucket that is empty and that nobody else uses. Returns how many.

    An external merge sort: it holds twice ``RUN_BYTES``, and the keys of the bucket.

    Parameters
    ----------
    bucket : Bucket
    tables : iterable of Table of ``SCHEMA``
    replaced : callable
        Given the rows whose key came again later: they are left out.
    """
    runs: list[SegmentInfo] = []
    for rows in _chunks(tables):
        runs += _written(bucket, split(_sorted(rows, replaced)))
        if len(runs) == MAX_RUNS:
            runs = _merged(bucket, runs, replaced)
    if len(runs) > 1:
        runs = _merged(bucket, runs, replaced)
    if not runs:
        return 0
    (info,) = runs

    def with_rows(head: Head) -> Head:
        return head.with_segment(info.name, info.rows, info.deleted, info.size_bytes)

    bucket.exchange(with_rows)
    return info.rows


def _chunks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    pending: list[pa.Table] = []
    size_bytes = 0
    for table in tables:
        pending.append(table)
        size_bytes += table.nbytes
        if size_bytes >= RUN_BYTES:
            yield pa.concat_tables(pending)
            pending, size_bytes = [], 0
    if pending:
        yield pa.concat_tables(pending)


def _sorted(rows: pa.Table, replaced: Callable[[pa.Table], None]) -> pa.Table:
    keys = rows["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    is_last = np.append(keys[order][1:] != keys[order][:-1], True)[: len(order)]
    if not is_last.all():
        replaced(rows.select(["image_id"]).take(pa.array(order[~is_last])))
    return rows.take(pa.array(order[is_last]))


def _merged(bucket: Bucket, runs: list[SegmentInfo], replaced: Callable[[pa.Table], None]) -> list[SegmentInfo]:
    segments = [Segment(bucket.segment_location(info.name), info.size_bytes, info.rows) for info in runs]
    merge = Merge(tuple(runs), False, datetime.now(UTC), replaced)
    merged = _written(bucket, merge_segments(segments, merge))
    for info in runs:
        storage.remove(bucket.segment_location(info.name))
    return merged


def _written(bucket: Bucket, batches: Iterator[pa.RecordBatch]) -> list[SegmentInfo]:
    info = bucket.write(batches, 1, 1)
    return [info] if info is not None else []
