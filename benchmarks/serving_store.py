"""A store of synthetic rows, written as one segment a bucket, on all cores: a million rows in half a minute.

    FOLDER/photos-400, model-400 a drawn catalogue, and the model that is fitted to it
    FOLDER/rows-1000000-model-400/store    the store
                                  made     the photos of the rows that have one; written last

What is there is used again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from serving_requests import noise_photo
from serving_rows import Numbers, SyntheticRows
from store_rows import rows_of

from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.ingest.store.photos import upload
from lookalike.ingest.store.segment import split
from lookalike.model.spec import ModelSpec
from lookalike.storage import Location

BUCKETS = 16
COLLECTION = "default"
_CHUNK = 1 << 16
# So many rows have a photo, of about 7 MB: what slow readers are sent.
ROWS_WITH_PHOTO = 8
_PHOTO_PX = 2600


@dataclass(frozen=True)
class BenchStore:
    """A written store.

    Attributes
    ----------
    model : Path
        A model's folder; its encoder makes codes that are compared with the rows'.
    photos : list of bytes
        JPEGs of 224 to 300 pixels a side.
    """

    root: Path
    count: int
    rows: SyntheticRows
    spec: ModelSpec
    model: Path
    photos: list[bytes]


def bench_store(folder: Path, count: int, drawn: int = 400) -> BenchStore:
    """Find the store of so many rows in a folder, or write it."""
    model = _model(folder, drawn)
    spec = ModelSpec.load(model)
    home = folder / f"rows-{count}-model-{drawn}"
    root = home / "store"
    if not (home / "made").exists():
        shutil.rmtree(home, ignore_errors=True)
        (home / "made").write_text(json.dumps(_write(root, count, spec, model)))
    photos = {int(number): photo for number, photo in json.loads((home / "made").read_text()).items()}
    rows = SyntheticRows(spec.short_words, spec.long_words, photos)
    found = sorted((folder / f"photos-{drawn}" / "images").glob("*.jpg"))
    return BenchStore(root, count, rows, spec, model, [path.read_bytes() for path in found])


def _model(folder: Path, drawn: int) -> Path:
    """Fit the model that `lookalike demo` would."""
    sample, model = folder / f"photos-{drawn}", folder / f"model-{drawn}"
    if not model.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _lookalike("sample", str(sample), "--images", str(drawn))
        _lookalike("model", "fit", str(sample), str(model), "--photos", str(drawn))
    return model


def _lookalike(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "lookalike.cluster.cli.main", *arguments], check=True)


def _rows(root: Path, spec: ModelSpec) -> SyntheticRows:
    """The rows, of which the first have photos."""
    plain = SyntheticRows(spec.short_words, spec.long_words)
    collection = Location.parse(root) / COLLECTION
    ids = plain.image_ids(np.arange(ROWS_WITH_PHOTO))
    content = noise_photo(_PHOTO_PX, 0)
    paths = {number: upload(collection, image_id, content, ".jpg") for number, image_id in enumerate(ids)}
    return SyntheticRows(spec.short_words, spec.long_words, paths)


def _write(root: Path, count: int, spec: ModelSpec, model: Path) -> dict[int, str]:
    """Write a store; gives the photos of its rows."""
    Collection.create(Location.parse(root), COLLECTION, Location.parse(model), BUCKETS)
    rows = _rows(root, spec)
    chunks = [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        keys = np.concatenate(pool.map(partial(_keys, rows), chunks))
        bucket = bucket_of(keys, BUCKETS)
        members = [np.flatnonzero(bucket == number) for number in range(BUCKETS)]
        work = [(number, here[np.argsort(keys[here])]) for number, here in enumerate(members) if len(here)]
        pool.starmap(partial(_write_bucket, root, rows), work, chunksize=1)
    return dict(rows.photos)


def _keys(rows: SyntheticRows, numbers: Numbers) -> np.ndarray:
    return keys_of(rows.image_ids(numbers))


def _write_bucket(root: Path, rows: SyntheticRows, number: int, members: Numbers) -> None:
    """Write the rows of a bucket, in the order of their keys, as its only segment."""
    pa.set_cpu_count(1)
    bucket = Collection.open(Location.parse(root), COLLECTION).buckets[number]
    info = bucket.write(_batches(rows, members), 1, 1)
    assert info is not None
    bucket.exchange(lambda head: head.with_segment(info.name, info.rows, info.deleted, info.size_bytes))


def _batches(rows: SyntheticRows, members: Numbers) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(members), _CHUNK):
        yield from split(rows_of(rows, members[start : start + _CHUNK]))
