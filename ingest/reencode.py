"""The job: the rows of one model version of a collection -> another model's encoder -> another version.

It starts from the rows, not from a catalogue, so uploads come along and so does what a catalogue no longer lists. A row
is encoded where the other version does not have it as new: killed and started again it goes on, and a further pass
takes up what was written meanwhile. Deletions come along. The other way round it brings the old version up to date.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.errors import Conflict, LookalikeError, StoreUnavailable, UndecodableImage
from lookalike.ingest.catalogue.entries import Problem
from lookalike.ingest.encode import BATCH, DECODERS, MAX_PROBLEMS, WINDOW, Encodes
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.photos.location import is_url
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.compaction import TOMBSTONES_FOR
from lookalike.ingest.store.housekeeping import Housekeeping
from lookalike.ingest.store.rows import SCHEMA, Source, codes_column, tombstones_table
from lookalike.ingest.store.segment import SegmentDamaged
from lookalike.ingest.threads import in_threads, threads

SAMPLE = 1000
"""Images of which both versions are compared before the alias moves."""

NO_KEYS = np.empty(0, np.uint64)

Commits = Mapping[int, int]
"""By bucket, the last commit that was taken over."""


class VersionsDiffer(LookalikeError):
    """Two model versions of a collection do not hold the same images. Argument: how they differ, and what to do."""


@dataclass
class Pass:
    """What one pass did.

    Attributes
    ----------
    encoded, deleted : int
        Rows written to the other version.
    problems : list of Problem
        Images whose photo could not be read: the other version does not have them as they are now. At most
        ``MAX_PROBLEMS``.
    seen : dict
        ``Commits`` from which a further pass can go on.
    """

    encoded: int = 0
    deleted: int = 0
    problems: list[Problem] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)


def reencode(
    source: Collection,
    target: Collection,
    encoder: Encodes,
    side_px: int,
    progress: Callable[[int], None] = lambda _: None,
    after: Commits | None = None,
) -> Pass:
    """Bring ``target`` up to date with ``source``; one pass over the rows.

    Parameters
    ----------
    encoder : Encodes
        Of the target's model.
    progress : callable
        Called with the number of rows dealt with since the last call.
    after : Commits, optional
        Only look at later commits: those before were taken over by an earlier pass.

    Raises
    ------
    StorageUnavailable
        A part of the source cannot be read, or the target not be written.
    """
    outcome = Pass()
    with (
        Housekeeping(target) as housekeeping,
        threads(1, "commit") as committer,
        threads(DECODERS, "decode") as decoders,
    ):
        commit: Future[None] | None = None
        for rows in _newest_rows(source, after or {}, outcome.seen, progress):
            due = _due(rows, target)
            live = pc.invert(due["deleted"])
            encoded = _encoded(due.filter(live), source, encoder, side_px, decoders, outcome.problems)
            if commit is not None:
                commit.result()
                housekeeping.poke()
            commit = committer.submit(_commit, target, due.filter(due["deleted"]), encoded, outcome)
        if commit is not None:
            commit.result()
    target.compact()
    return outcome


def _commit(target: Collection, deleted: pa.Table, encoded: pa.Table, outcome: Pass) -> None:
    outcome.deleted += target.copy_in(deleted).rows if len(deleted) else 0
    outcome.encoded += target.copy_in(encoded).rows if len(encoded) else 0


def _newest_rows(
    source: Collection, after: Commits, seen: dict[int, int], progress: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """Every key's newest row, tombstones included: rows that are newer than that come with a further pass."""
    for number, bucket in enumerate(source.buckets):
        head = bucket.head()
        seen[number] = head.sequence
        done = after.get(number, 0)
        while done < seen[number]:
            try:
                for info in head.segments:
                    only = head.model_copy(update={"segments": (info,)})
                    for batch in bucket.changes(only, done, SCHEMA.names, _refuse):
                        stamps = source.stored(batch["key"].to_numpy()).stamp
                        yield batch.filter(pa.array(_stamps(batch) == stamps))
                        progress(len(batch))
                    done = max(done, info.last)
                done = seen[number]
            except Conflict:  # the encoder is slow, and merges took away what the head names
                head = bucket.head()


def _refuse(error: SegmentDamaged) -> None:
    raise StoreUnavailable(f"{error}; the rest is served, but cannot be encoded anew without it") from error


def _due(rows: pa.RecordBatch, target: Collection) -> pa.Table:
    """The rows that the target does not have as new."""
    stored = target.stored(rows["key"].to_numpy())
    due = ~stored.found | (_stamps(rows) > stored.stamp)
    # A merge in the target would drop such a tombstone, and the next pass write it again.
    oldest = int((datetime.now(UTC) - TOMBSTONES_FOR).timestamp() * 1e6)
    deleted = rows["deleted"].to_numpy(zero_copy_only=False)
    no_catalogue = rows["fingerprint"].is_null().to_numpy(zero_copy_only=False)
    due &= stored.found | ~(deleted & no_catalogue & (_stamps(rows) < oldest))
    return pa.Table.from_batches([rows.filter(pa.array(due))])


def _encoded(
    rows: pa.Table,
    source: Collection,
    encoder: Encodes,
    side_px: int,
    decoders: ThreadPoolExecutor,
    problems: list[Problem],
) -> pa.Table:
    """The rows with the codes of another model, less those whose photo cannot be read."""

    def pixels_of(row: dict[str, str]) -> NDArray[np.uint8] | Problem:
        photo = row["photo"]
        try:
            root, name = source.sources.resolve(photo)
            return decode(read_photo(photo if is_url(photo) else name, root), side_px)
        except (UndecodableImage, StoreUnavailable) as error:
            return Problem(str(error), row["image_id"], photo)

    outcomes = in_threads(decoders, pixels_of, rows.select(["image_id", "photo"]).to_pylist(), WINDOW)
    parts = [SCHEMA.empty_table()]
    for start in range(0, len(rows), BATCH):
        part = rows.slice(start, BATCH)
        found = list(itertools.islice(outcomes, len(part)))
        problems += [outcome for outcome in found if isinstance(outcome, Problem)][: MAX_PROBLEMS - len(problems)]
        pixels = [outcome for outcome in found if not isinstance(outcome, Problem)]
        if pixels:
            readable = part.filter(pa.array([not isinstance(outcome, Problem) for outcome in found]))
            codes = encoder.encode(np.stack(pixels))
            for name, values in (("short", codes.short), ("long", codes.long)):
                at = SCHEMA.get_field_index(name)
                readable = readable.set_column(at, SCHEMA.field(at), codes_column(values))
            parts.append(readable)
    return pa.concat_tables(parts)


def delete_forgotten(source: Collection, target: Collection, left_out: NDArray[np.uint64] = NO_KEYS) -> int:
    """Delete in the target what the source has no row of: it was deleted, and a merge dropped its tombstone since.

    Only for a target that is not served and takes no writes but ours. Returns how many images were deleted.

    Parameters
    ----------
    left_out : ndarray of uint64
        Keys that the source never had: they were left out by force when it was made, and are not deleted.
    """
    if not any(bucket.head().tombstones_dropped_to for bucket in source.buckets):
        return 0
    deleted = 0
    for number, bucket in enumerate(target.buckets):
        keys = target.live_keys(number)
        stored = source.stored(keys)
        forgotten = np.setdiff1d(keys[~(stored.found | stored.unreadable)], left_out)
        _, rows, _ = bucket.find(bucket.head(), forgotten, ("image_id", "stamp"))
        tombstones = [SCHEMA.empty_table()]
        for row in rows.to_pylist():
            stamp = row["stamp"] + timedelta(microseconds=1)
            tombstones.append(tombstones_table([row["image_id"]], source=Source.HTTP, stamp=stamp))
        deleted += target.copy_in(pa.concat_tables(tombstones)).rows
    return deleted


def missing_keys(source: Collection, target: Collection) -> NDArray[np.uint64]:
    """The keys of the source's images that the target has no row of: uint64 (n,)."""
    missing = [NO_KEYS]
    for number in range(source.manifest.buckets):
        keys = source.live_keys(number)
        missing.append(keys[~target.stored(keys).found])
    return np.concatenate(missing)


def check_same_images(source: Collection, target: Collection, seen: Commits) -> None:
    """Compare two versions before the alias moves: how many images they hold, and a sample of them field by field.

    Parameters
    ----------
    seen : Commits
        The commits of the source that were taken over. What later ones changed is not compared.

    Raises
    ------
    VersionsDiffer
        They differ.
    """
    count, late_there = 0, 0
    for number in range(source.manifest.buckets):
        keys = source.live_keys(number)
        step = max(1, len(keys) * source.manifest.buckets // SAMPLE)
        sample = keys[::step]
        theirs, ours = source.stored(sample), target.stored(sample)
        late = _changed_keys(source, number, seen)  # read last: whatever changed before is among them
        count += len(np.setdiff1d(keys, late))
        late_there += int(target.stored(late).live.sum())
        differ = ~ours.live | (theirs.stamp != ours.stamp)
        different = int(differ[~np.isin(sample, late)].sum())
        if different:
            raise VersionsDiffer(
                f"{different} of {len(sample)} images looked at differ between {source.version} and {target.version}; "
                f"the alias stays where it is. Make missing photos readable and run this again, or give --force"
            )
    there = target.count() - late_there
    if count != there:
        advice = (
            "Make missing photos readable and run this again, or give --force"
            if there < count
            else "It has images that were left out of the other by --force, or written to it by a client that was told "
            "to try again; give --force to serve them too"
        )
        raise VersionsDiffer(
            f"{source.version} holds {count:,} images, but {target.version} {there:,}; the alias stays where it is. "
            f"{advice}"
        )


def _changed_keys(source: Collection, number: int, seen: Commits) -> NDArray[np.uint64]:
    """The keys that a bucket's commits after those seen have written: uint64 (n,), ascending."""
    bucket = source.buckets[number]
    while True:
        head = bucket.head()
        try:
            batches = list(bucket.changes(head, seen.get(number, 0), ("key",), _refuse))
        except Conflict:
            continue
        return np.unique(np.concatenate([np.empty(0, np.uint64), *(batch["key"].to_numpy() for batch in batches)]))


def _stamps(rows: pa.RecordBatch) -> NDArray[np.int64]:
    stamps: NDArray[np.int64] = rows["stamp"].cast(pa.int64()).to_numpy()
    return stamps
