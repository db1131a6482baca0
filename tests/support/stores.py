"""Small stores for tests. Their model folder is all spec: a store never runs its model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import Source, rows_table
from lookalike.model.descriptor import Descriptors
from lookalike.model.spec import ComponentSpec, ModelSpec
from lookalike.storage import Location


def write_spec(folder: Path, name: str = "tiny", arrays: str = "0" * 64) -> Path:
    """Write a spec of 64 + 128 bits and return its folder."""
    spec = ModelSpec(
        name=name,
        version="1",
        backbone="darknet19",
        width=0.5,
        input_px=32,
        short_bits=64,
        components=(
            ComponentSpec(name="conv1", source="conv1", bits=64, weight=10),
            ComponentSpec(name="colour", source="colour", bits=64, weight=20),
        ),
        arrays_sha256=arrays,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(spec.model_dump_json())
    return folder


def new_collection(folder: Location | Path, buckets: int = 4, name: str = "default") -> Collection:
    """Make an empty collection of the tiny model below ``folder``; the model's folder lies beside it."""
    folder = folder if isinstance(folder, Location) else Location.parse(folder)
    with tempfile.TemporaryDirectory() as scratch:
        return Collection.create(folder, name, Location.parse(write_spec(Path(scratch) / "model")), buckets)


def collection_in(root: Path | str, name: str = "default") -> Collection:
    """Open the version of a collection that its alias names."""
    return Collection.open(Location.parse(root), name)


def rows_of(
    ids: Sequence[str],
    tag: str = "",
    seed: int = 0,
    *,
    source: Source = Source.HTTP,
    stamp: datetime | None = None,
    fingerprints: Sequence[int | None] | None = None,
    photos: Sequence[str] | None = None,
    attributes: Attributes | None = None,
) -> pa.Table:
    """Rows of the tiny model's shape; ``tag`` is their title, so that one can tell who wrote a row."""
    rng = np.random.default_rng(seed)
    count = len(ids)
    return rows_table(
        ids,
        [attributes or Attributes(title=tag)] * count,
        photos or [""] * count,
        Descriptors(
            rng.integers(0, 2**64, (count, 1), dtype=np.uint64), rng.integers(0, 2**64, (count, 2), dtype=np.uint64)
        ),
        source=source,
        stamps=[stamp or datetime.now(UTC)] * count,
        fingerprints=fingerprints or [None] * count,
    )


def titles(collection: Collection) -> dict[str, str]:
    """What the collection holds: the title of every image, by applying all commits in order."""
    found: dict[str, str] = {}
    for bucket in collection.buckets:
        for batch in bucket.changes(bucket.head(), 0, ("image_id", "deleted", "title"), _fail):
            for row in batch.to_pylist():
                if row["deleted"]:
                    found.pop(row["image_id"], None)
                else:
                    found[row["image_id"]] = row["title"]
    return found


def _fail(error: Exception) -> None:
    raise error
