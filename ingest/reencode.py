"""The job: the rows of one model version of a collection -> another model's encoder -> another version.

It starts from the rows, not from a catalogue, so uploads come along and so does what a catalogue no longer lists. A row
is encoded where the other version does not have it as new: killed and started again it goes on, and a second pass
takes up what was written meanwhile. Deletions come along. The other way round it brings the old version up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import LookalikeError, StoreUnavailable, UndecodableImage
from lookalike.ingest.catalogue.entries import Problem
from lookalike.ingest.encode import BATCH, DECODERS, Encodes
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.photos.location import is_url
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import SCHEMA, codes_column
from lookalike.ingest.store.segment import SegmentDamaged

SAMPLE = 1000
"""Images of which both versions are compared before the alias moves."""


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
        Images whose photo could not be read: the other version does not have them.
    """

    encoded: int = 0
    deleted: int = 0
    problems: list[Problem] = field(default_factory=list)


def reencode(
    source: Collection,
    target: Collection,
    encoder: Encodes,
    side_px: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Pass:
    """Bring ``target`` up to date with ``source``; one pass over the rows.

    Parameters
    ----------
    encoder : Encodes
        Of the target's model.
    progress : callable
        Called with the number of rows dealt with since the last call.
    """
    outcome = Pass()
    with ThreadPoolExecutor(DECODERS, "decode") as decoders:
        for rows in _newest_rows(source, progress):
            stored = target.stored(rows["key"].to_numpy())
            newer = ~stored.found | (rows["stamp"].cast(pa.int64()).to_numpy() > stored.stamp)
            due = pa.Table.from_batches([rows.filter(pa.array(newer))])
            if not len(due):
                continue
            deleted = due.filter(due["deleted"])
            live = due.filter(pa.array(~due["deleted"].to_numpy(zero_copy_only=False)))
            outcome.deleted += target.copy_in(deleted).rows if len(deleted) else 0
            for part in _encoded(live, source, encoder, side_px, decoders, outcome.problems):
                outcome.encoded += target.copy_in(part).rows
    target.compact()
    return outcome


def _newest_rows(source: Collection, progress: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    """Every key's newest row, tombstones included."""

    def refuse(error: SegmentDamaged) -> None:
        raise StoreUnavailable(f"{error}; the rest is served, but cannot be encoded anew without it") from error

    for bucket in source.buckets:
        for batch in bucket.changes(bucket.head(), 0, SCHEMA.names, refuse):
            stamps = source.stored(batch["key"].to_numpy()).stamp
            newest = batch["stamp"].cast(pa.int64()).to_numpy() == stamps
            yield batch.filter(pa.array(newest))
            progress(len(batch))


def _encoded(
    rows: pa.Table,
    source: Collection,
    encoder: Encodes,
    side_px: int,
    decoders: ThreadPoolExecutor,
    problems: list[Problem],
) -> Iterator[pa.Table]:
    """The rows with the codes of another model, less those whose photo cannot be read."""

    def pixels_of(row: dict[str, str]) -> NDArray[np.uint8] | Problem:
        photo = row["photo"]
        try:
            root, name = source.sources.resolve(photo)
            return decode(read_photo(photo if is_url(photo) else name, root), side_px)
        except (UndecodableImage, StoreUnavailable) as error:
            return Problem(str(error), row["image_id"], photo)

    starts = range(0, len(rows), BATCH)
    for part in (rows.slice(start, BATCH) for start in starts):
        outcomes = list(decoders.map(pixels_of, part.select(["image_id", "photo"]).to_pylist()))
        problems += [outcome for outcome in outcomes if isinstance(outcome, Problem)]
        readable = [not isinstance(outcome, Problem) for outcome in outcomes]
        if not any(readable):
            continue
        codes = encoder.encode(np.stack([outcome for outcome in outcomes if not isinstance(outcome, Problem)]))
        kept = part.filter(pa.array(readable))
        for name, values in (("short", codes.short), ("long", codes.long)):
            at = SCHEMA.get_field_index(name)
            kept = kept.set_column(at, SCHEMA.field(at), codes_column(values))
        yield kept


def check_same_images(source: Collection, target: Collection) -> None:
    """Compare two versions before the alias moves: how many images they hold, and a sample of them field by field.

    Raises
    ------
    VersionsDiffer
        They differ.
    """
    counts = source.count(), target.count()
    if counts[0] != counts[1]:
        raise VersionsDiffer(
            f"{source.version} holds {counts[0]:,} images, but {target.version} {counts[1]:,}; the alias stays where "
            f"it is. Make the missing photos readable and run this again, or give --force"
        )
    for bucket in range(source.manifest.buckets):
        keys = source.live_keys(bucket)
        step = max(1, len(keys) * source.manifest.buckets // SAMPLE)
        sample = keys[::step]
        theirs, ours = source.stored(sample), target.stored(sample)
        if not (ours.live.all() and np.array_equal(theirs.stamp, ours.stamp)):
            missing = int((~ours.live | (theirs.stamp != ours.stamp)).sum())
            raise VersionsDiffer(
                f"{missing} of {len(sample)} images looked at differ between {source.version} and {target.version}; "
                f"the alias stays where it is. Run this again, or give --force"
            )
