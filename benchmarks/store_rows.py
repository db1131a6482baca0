"""Rows of a store, with every column, out of synthetic ones."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.ingest.store.keys import keys_of
from lookalike.ingest.store.rows import SCHEMA, Source


class Rows(Protocol):
    """Makes rows by their numbers."""

    def batch(self, numbers: NDArray[np.int64]) -> pa.RecordBatch: ...


def rows_of(rows: Rows, numbers: NDArray[np.int64]) -> pa.Table:
    """Synthetic rows with every column of the store."""
    batch = rows.batch(numbers)
    count = len(batch)
    values = {name: batch[name] for name in batch.schema.names}
    values["key"] = pa.array(keys_of(batch["image_id"].to_pylist()))
    values["sequence"] = pa.array(np.zeros(count, np.uint64))
    values["stamp"] = pa.array(np.full(count, time.time_ns() // 1000)).cast(SCHEMA.field("stamp").type)
    values["source"] = pa.array(np.full(count, Source.HTTP, np.uint8))
    arrays = [values[f.name].cast(f.type) if f.name in values else pa.nulls(count, f.type) for f in SCHEMA]
    return pa.table(arrays, schema=SCHEMA)
