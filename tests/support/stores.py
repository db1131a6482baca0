"""Small stores for tests. Their model folder is all spec: a store never runs its model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from lookalike.ingest.store.collection import Store, codes_column, schema
from lookalike.ingest.store.keys import keys_of
from lookalike.model.spec import ComponentSpec, ModelSpec


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


def rows_of(ids: list[str], tag: str = "", seed: int = 0) -> pa.Table:
    """Rows of the tiny model's shape; ``tag`` is their title, so that one can tell who wrote a row."""
    rng = np.random.default_rng(seed)
    columns = {
        "image_id": ids,
        "key": keys_of(ids),
        "listing_id": ids,
        "title": [tag] * len(ids),
        "short": codes_column(rng.integers(0, 2**64, (len(ids), 1), dtype=np.uint64)),
        "long": codes_column(rng.integers(0, 2**64, (len(ids), 2), dtype=np.uint64)),
    }
    wanted = schema(1, 2)
    return pa.table([columns.get(f.name, pa.nulls(len(ids), f.type)) for f in wanted], schema=wanted)


def titles(store: Store) -> dict[str, str]:
    """What the store holds: the title of every image. An id that is there twice is an error."""
    found: dict[str, str] = {}
    for bucket in store.buckets:
        for row in bucket.open().to_table(columns=["image_id", "title"]).to_pylist():
            assert row["image_id"] not in found, f"{row['image_id']} is there twice"
            found[row["image_id"]] = row["title"]
    return found
