"""Stores as version 0.1 wrote them: its layout, its columns, its ways to write, taken from its code."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.ingest.store.manifest import Manifest, version_of
from lookalike.model.spec import ModelSpec

_TEXT, _NUMBER = pa.string(), pa.float64()


def schema_of(spec: ModelSpec) -> pa.Schema:
    return pa.schema(
        [
            pa.field("image_id", _TEXT, nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}),
            pa.field("key", pa.uint64(), nullable=False),
            pa.field("listing_id", _TEXT),
            pa.field("group", _TEXT),
            pa.field("title", _TEXT),
            pa.field("description", _TEXT),
            pa.field("price", _NUMBER),
            pa.field("lat", _NUMBER),
            pa.field("lon", _NUMBER),
            pa.field("created_at", pa.timestamp("us", tz="UTC")),
            pa.field("colour", _TEXT),
            pa.field("brand", _TEXT),
            pa.field("photo", _TEXT),
            pa.field("fingerprint", pa.uint64()),
            pa.field("short", pa.list_(pa.uint64(), spec.short_words), nullable=False),
            pa.field("long", pa.list_(pa.uint64(), spec.long_words), nullable=False),
        ]
    )


def key_of(image_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "little")


class StoreOfVersionOne:
    """One model version of a collection; the alias names it if it is the first."""

    def __init__(self, root: Path, model: Path, name: str = "default", buckets: int = 2) -> None:
        self.spec = ModelSpec.load(model)
        self.version = version_of(self.spec)
        self.folder = root / name / self.version
        self.buckets = buckets
        (self.folder / "buckets").mkdir(parents=True)
        shutil.copytree(model, self.folder / "model")
        for number in range(buckets):
            lance.write_dataset(schema_of(self.spec).empty_table(), str(self.bucket(number)), mode="create")
            self.bucket(number).with_suffix(".lock").touch()
        manifest = Manifest(
            format=1,
            model=self.version,
            model_digest=self.spec.digest(),
            buckets=buckets,
            short_words=self.spec.short_words,
            long_words=self.spec.long_words,
        )
        self._bump_head()
        (self.folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")
        if not (alias := root / name / "alias").exists():
            alias.write_text(self.version)

    def bucket(self, number: int) -> Path:
        return self.folder / "buckets" / f"{number:02d}.lance"

    def upsert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace rows, of which each gives what it likes of the columns."""
        for number, table in self._by_bucket(rows):
            merge = lance.dataset(str(self.bucket(number))).merge_insert("image_id")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(table)
        self._bump_head()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows beside those of the same id, as two writers at once could."""
        for number, table in self._by_bucket(rows):
            lance.write_dataset(table, str(self.bucket(number)), mode="append")

    def delete(self, image_ids: Sequence[str]) -> None:
        for number in range(self.buckets):
            lance.dataset(str(self.bucket(number))).delete(pc.field("image_id").isin(list(image_ids)))
        self._bump_head()

    def add_photo(self, image_id: str, content: bytes, suffix: str = ".jpg") -> str:
        name = f"{key_of(image_id):016x}-{uuid.uuid4().hex}{suffix}"
        path = self.folder / "photos" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path.resolve())

    def _by_bucket(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, pa.Table]]:
        schema = schema_of(self.spec)
        whole = [{"listing_id": row["image_id"], **row, "key": key_of(row["image_id"])} for row in rows]
        numbers = [(row["key"] >> 32) * self.buckets >> 32 for row in whole]
        chosen = [[row for row, at in zip(whole, numbers, strict=True) if at == n] for n in range(self.buckets)]
        return [
            (number, pa.table([_column(field, rows) for field in schema], schema=schema))
            for number, rows in enumerate(chosen)
            if rows
        ]

    def _bump_head(self) -> None:
        (self.folder / "head").write_text(f"{time.time_ns()} {uuid.uuid4().hex}")


def codes_of(spec: ModelSpec, seed: int) -> dict[str, list[int]]:
    """The two codes of a row."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, spec.short_words + spec.long_words, dtype=np.uint64).tolist()
    return {"short": words[: spec.short_words], "long": words[spec.short_words :]}


def files_below(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but for locks."""
    found = (Path(top, name) for top, _, names in os.walk(folder) for name in names)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.suffix != ".lock"}


def _column(field: pa.Field, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    if pa.types.is_timestamp(field.type):  # microseconds: Python's own type ends with the year 9999
        return pa.array(values, pa.int64()).cast(field.type)
    return pa.array(values, field.type)
