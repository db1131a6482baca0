"""Make an empty model version of a collection."""

from __future__ import annotations

import contextlib
import uuid

from lookalike import storage
from lookalike.errors import Conflict, StoreUnavailable
from lookalike.ingest.store import checked
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.manifest import Manifest, version_of
from lookalike.model.spec import ModelSpec
from lookalike.storage import Location


def make_version(location: Location, spec: ModelSpec, model: Location, buckets: int) -> None:
    """Make an empty model version; the manifest is written last.

    Raises
    ------
    StoreUnavailable
        There are rows but no manifest: it was lost, and one made anew could split the keys over other buckets.
    """
    _check_no_rows(location)
    manifest = Manifest(
        model=version_of(spec),
        model_digest=spec.digest(),
        buckets=buckets,
        short_words=spec.short_words,
        long_words=spec.long_words,
    )
    storage.copy_tree(model, location / "model")
    storage.write(location / "token", uuid.uuid4().hex.encode())
    for number in range(buckets):
        with contextlib.suppress(Conflict):  # made by one that was killed, or that makes it at this moment
            Bucket(location / f"buckets/{number:04d}").create()
    with contextlib.suppress(Conflict):
        storage.create(location / "manifest.json", checked.encode(manifest))


def _check_no_rows(location: Location) -> None:
    for name in storage.list_names(location / "buckets"):
        holds_rows = (
            storage.exists(location / "buckets" / name / "head.json")
            and Bucket(location / "buckets" / name).head().sequence
        )
        # A maker that was faster writes its manifest before any row.
        if holds_rows and not storage.exists(location / "manifest.json"):
            raise StoreUnavailable(
                f"{location / 'manifest.json'} is missing, though there are rows; put it back from a copy of the store"
            )
