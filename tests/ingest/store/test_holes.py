"""Sequences of events that lose or hide what was acknowledged."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from support.encoders import HashEncoder
from support.stores import new_collection, rows_of, write_spec

from lookalike import storage
from lookalike.cluster.deploy.encode import switch_version
from lookalike.errors import LookalikeError
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def silent(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def put(c: Collection, image_id: str, seed: int = 0) -> str:
    photo = c.add_photo(image_id, png(seed), ".png")
    c.put(rows_of([image_id], str(seed), photos=[photo]))
    return photo


def other_of(c: Collection, folder: Path, digit: str = "1") -> Collection:
    return Collection.create(c.root, c.name, Location.parse(write_spec(folder, arrays=digit * 64)), 2)


def test_collection_whose_manifest_is_lost_is_not_made_anew_with_another_bucket_count(tmp_path: Path) -> None:
    c = new_collection(tmp_path / "store", 4)
    ids = [str(n) for n in range(40)]
    c.put(rows_of(ids))
    model = c.model_location
    (c.location / "manifest.json").path.unlink()
    with contextlib.suppress(LookalikeError):
        c = Collection.create(c.root, c.name, model, 16)
        assert sorted(c.find(ids)) == sorted(ids)


def test_photo_of_an_acknowledged_row_is_kept_while_the_last_pass_encodes_it(tmp_path: Path) -> None:
    old = new_collection(tmp_path / "store", 1)
    put(old, "x", 0)
    for n in range(5):
        put(old, f"other-{n}", n)  # six segments; eight are merged
    new = other_of(old, tmp_path / "other")
    acknowledged: list[str] = []

    class Late(HashEncoder):
        """While the last pass encodes: a PUT that is refused with 503, and merges of the server that still runs."""

        def encode(self, pixels):  # type: ignore[no-untyped-def]
            if acknowledged and len(acknowledged) == 1:
                acknowledged.append("done")
                put(old, "x", 20)
                assert old.compact()
            return super().encode(pixels)

    encoder = Late(1)
    real = Collection.publish

    def publish(self: Collection) -> None:
        if not acknowledged:
            acknowledged.append(put(old, "x", 7))  # committed before the alias moves, so it is acknowledged
        real(self)

    Collection.publish = publish  # type: ignore[method-assign]
    try:
        switch_version(old, new, encoder, False, silent)
    finally:
        Collection.publish = real  # type: ignore[method-assign]
    row = new.find(["x"])["x"]
    assert storage.exists(new.folder / str(row["photo"])), (row["title"], row["photo"])
