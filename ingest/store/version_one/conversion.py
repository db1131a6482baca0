"""The rows of version 0.1 as rows of this one: attributes checked, codes as they are, photos under names that can move.

Stamps
    Version 0.1 did not note when a row's source changed. Each row gets the time of its bucket's newest commit: no row
    is newer than that, and whatever happens to a catalogue or comes by HTTP later is. The time of the upgrade would
    hide changes that a catalogue saw since 0.1 wrote last; the times of files would not survive a copy of the store.

Sources and fingerprints
    A row with a fingerprint came by a catalogue. It keeps the fingerprint: fingerprints of 0.1 equal none of this
    version, so the next ``encode`` of the catalogue encodes its photos once more and writes them; but the store must
    know that a catalogue lists the image, or it would forget one day that the image was deleted.
    A row without one came by HTTP. It stays as it is when the next ``encode`` meets its id in a catalogue that did not
    change since 0.1 wrote last; a newer entry wins.
    What was deleted left no trace in 0.1: a catalogue that still lists such an image brings it back, as it did in 0.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from lookalike import storage
from lookalike.errors import NotFound, StorageUnavailable
from lookalike.ingest.attributes import Attributes, FilterKind, bad_id, names_filtered
from lookalike.ingest.store import photos
from lookalike.ingest.store.keys import key_of
from lookalike.ingest.store.rows import SCHEMA, Source, rows_table
from lookalike.ingest.store.version_one.catalogue_folders import is_below
from lookalike.ingest.store.version_one.reader import ATTRIBUTES
from lookalike.model.descriptor import Descriptors
from lookalike.storage import Location

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UPLOAD = re.compile(r"(?:.*/)?(photos/([0-9a-f]{2})/(\2[0-9a-f]{14})-[0-9a-f]{32}(\.[a-z]+))", re.DOTALL)
_PLACE = names_filtered(FilterKind.PLACE)
# Each copied upload waits for its own fsyncs.
_COPIERS = 8


@dataclass(frozen=True)
class Problem:
    """What could not be taken over: a whole row, an attribute (which becomes unknown), or a row's photo."""

    kind: Literal["row", "attribute", "photo"]
    image_id: str
    reason: str


def came_by_catalogue(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which rows of 0.1 have a fingerprint: bool (n,)."""
    result: NDArray[np.bool_] = batch["fingerprint"].fill_null(0).to_numpy() != 0
    return result


def is_upload(photo: str | None, image_id: str) -> bool:
    """Whether a photo of 0.1 is one that the store itself keeps, wherever the store was when the row was written."""
    found = _UPLOAD.fullmatch(photo or "")
    return found is not None and found[3] == f"{key_of(image_id):016x}"


class Conversion:
    """Makes rows of this version of those of 0.1.

    Parameters
    ----------
    old_folder : Location
        Of the model version, with the uploads of 0.1.
    folder : Location
        Of the collection, which the uploads are copied to.
    prefixes : mapping
        By folder, what the names of the photos below it begin with: ``catalogue/0/``.
    note : callable
        Told of each problem, in the thread that calls ``rows``.
    """

    def __init__(
        self, old_folder: Location, folder: Location, prefixes: Mapping[str, str], note: Callable[[Problem], None]
    ) -> None:
        self.uploads = 0
        self._old_folder = old_folder
        self._folder = folder
        self._prefixes = prefixes
        self._note = note
        self._pool = ThreadPoolExecutor(_COPIERS, thread_name_prefix="copy")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def rows(self, batch: pa.RecordBatch, written: datetime) -> pa.Table:
        """Convert a batch with ``reader.COLUMNS``; rows with an unusable id are left out.

        Parameters
        ----------
        batch : RecordBatch
        written : datetime
            The stamp of the rows.
        """
        kept = [at for at, image_id in enumerate(batch["image_id"].to_pylist()) if self._has_good_id(image_id)]
        if len(kept) < len(batch):
            batch = batch.take(pa.array(kept, pa.int64()))
        ids = batch["image_id"].to_pylist()
        by_catalogue = came_by_catalogue(batch)
        fingerprints = batch["fingerprint"].to_pylist()
        rows = rows_table(
            ids,
            self._attributes(batch, ids),
            self._photos(ids, batch["photo"].to_pylist()),
            Descriptors(_codes(batch["short"]), _codes(batch["long"])),
            source=Source.CATALOGUE,
            stamps=[written] * len(ids),
            fingerprints=[fingerprint or None for fingerprint in fingerprints],
        )
        sources = np.where(by_catalogue, np.uint8(Source.CATALOGUE), np.uint8(Source.HTTP))
        at = SCHEMA.get_field_index("source")
        return rows.set_column(at, SCHEMA.field(at), pa.array(sources, pa.uint8()))

    def _has_good_id(self, image_id: str) -> bool:
        reason = bad_id(image_id)
        if reason:
            self._note(Problem("row", image_id, f"its id {reason}"))
        return not reason

    def _attributes(self, batch: pa.RecordBatch, ids: list[str]) -> list[Attributes]:
        names = [name for name in ATTRIBUTES if name != "created_at"]
        columns = [batch[name].to_pylist() for name in names]
        # As numbers: of a time that Python cannot hold, the whole column could not be read.
        times = batch["created_at"].cast(pa.int64()).to_pylist()
        result = []
        for image_id, time, *row in zip(ids, times, *columns, strict=True):
            values = {name: value for name, value in zip(names, row, strict=True) if value not in (None, "")}
            if time is not None:
                try:
                    values["created_at"] = _EPOCH + timedelta(microseconds=time)
                except OverflowError:
                    self._note(Problem("attribute", image_id, "created_at lies outside the years 1 to 9999"))
            result.append(self._checked(values, image_id))
        return result

    def _checked(self, values: dict[str, Any], image_id: str) -> Attributes:
        """Check attributes by their own rules; what breaks one becomes unknown, as it does in a catalogue."""
        while True:
            try:
                return Attributes(**values)
            except ValidationError as error:
                for detail in error.errors(include_url=False):
                    names = [str(detail["loc"][0])] if detail["loc"] else list(_PLACE)
                    self._note(Problem("attribute", image_id, f"{' and '.join(names)}: {detail['msg']}"))
                    # A new rule over several attributes must be listed in `names`, or this would never end.
                    if not [values.pop(name) for name in names if name in values]:
                        raise

    def _photos(self, ids: list[str], paths: list[str | None]) -> list[str]:
        found: list[Future[tuple[str, str]] | tuple[str, str]] = []
        for image_id, path in zip(ids, paths, strict=True):
            if is_upload(path, image_id):
                found.append(self._pool.submit(self._copy_upload, image_id, str(path)))
            else:
                found.append(self._catalogue_photo(path or ""))
        result = []
        for image_id, outcome in zip(ids, found, strict=True):
            photo, reason = outcome.result() if isinstance(outcome, Future) else outcome
            self.uploads += photos.is_upload(photo)
            if reason:
                self._note(Problem("photo", image_id, reason))
            result.append(photo)
        return result

    def _catalogue_photo(self, path: str) -> tuple[str, str]:
        for root, prefix in self._prefixes.items():
            if is_below(path, root):
                return prefix + path[len(root.rstrip("/")) + 1 :], ""
        return "", f"{path!r} is no absolute path of a photo"

    def _copy_upload(self, image_id: str, path: str) -> tuple[str, str]:
        """Copy an upload from where the store is now, or else from where it was when the row was written."""
        found = _UPLOAD.fullmatch(path)
        assert found is not None
        reason = ""
        for location in (self._old_folder / found[1], Location.parse(path)):
            try:
                content = storage.read(location)
            except (NotFound, StorageUnavailable) as error:
                reason = reason or str(error)
                continue
            return photos.upload(self._folder, image_id, content, found[4]), ""
        return "", reason


def _codes(column: pa.FixedSizeListArray) -> NDArray[np.uint64]:
    values: NDArray[np.uint64] = column.flatten().to_numpy().reshape(-1, column.type.list_size)
    return values
