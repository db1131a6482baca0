"""From one model version of a collection to another: everything comes along, whatever happens meanwhile."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from support.encoders import HashEncoder
from support.stores import new_collection, rows_of, titles, write_spec

from lookalike import storage
from lookalike.errors import StoreUnavailable
from lookalike.ingest import reencode as module
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.reencode import Pass, VersionsDiffer, check_same_images, delete_forgotten, reencode
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import SCHEMA, Source, tombstones_table
from lookalike.model.descriptor import Descriptors
from lookalike.storage import Location

SIDE_PX = 32
BUCKETS = 2


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Versions:
    """A collection with two model versions; images of the first are uploads, ``from catalogue`` excepted."""

    def __init__(self, folder: Path, buckets: int = BUCKETS) -> None:
        self.source = new_collection(folder / "store", buckets)
        model = Location.parse(write_spec(folder / "other", arrays="1" * 64))
        self.target = Collection.create(self.source.root, self.source.name, model, BUCKETS + 1)
        self.encoder = HashEncoder(seed=1)

    def put(self, image_id: str, title: str, seed: int = 0) -> None:
        photo = self.source.add_photo(image_id, png(seed), ".png")
        self.source.put(rows_of([image_id], title, photos=[photo]))

    def one_pass(self, encoder: HashEncoder | None = None, after: dict[int, int] | None = None) -> Pass:
        return reencode(self.source, self.target, encoder or self.encoder, SIDE_PX, after=after)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


def everything_but_codes(collection: Collection) -> list[dict[str, object]]:
    rows = collection.find([f"{n}" for n in range(40)])
    return [
        {name: row[name] for name in SCHEMA.names if name not in ("short", "long", "sequence")} for row in rows.values()
    ]


def test_reencode_takes_every_row_over_with_the_other_models_codes(versions: Versions, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/7.png").write_bytes(png(7))
    prefix = versions.source.sources.add(Location.parse(tmp_path / "shop"))
    stamp = datetime.now(UTC) - timedelta(days=1)
    row = rows_of(
        ["7"], "of the shop", source=Source.CATALOGUE, stamp=stamp, fingerprints=[77], photos=[f"{prefix}7.png"]
    )
    versions.source.take_in(row)
    versions.put("1", "uploaded", seed=1)
    versions.put("2", "deleted")
    versions.source.delete(["2"])
    outcome = versions.one_pass()
    assert (outcome.encoded, outcome.deleted, outcome.problems) == (2, 1, [])
    assert everything_but_codes(versions.target) == everything_but_codes(versions.source)
    for image_id, row in versions.target.find(["1", "7"]).items():
        codes = HashEncoder(seed=1).encode(decode(png(int(image_id)), SIDE_PX)[None])
        assert (row["short"], row["long"]) == (codes.short.tobytes(), codes.long.tobytes())
    again = versions.one_pass()
    assert (again.encoded, again.deleted) == (0, 0)
    check_same_images(versions.source, versions.target, again.seen)


ids = st.sampled_from(["1", "2", "3", "4", "5"])
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "put", "delete"]), ids),
        st.tuples(st.sampled_from(["pass", "pass from where the last ended", "merge"]), st.just("")),
    ),
    max_size=25,
)


@settings(max_examples=20, deadline=None)
@given(steps)
def test_reencode_after_any_writes_and_passes_gives_the_same_images(done: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        versions = Versions(Path(folder))
        seen: dict[int, int] = {}
        for number, (step, image_id) in enumerate(done):
            if step == "put":
                versions.put(image_id, f"{number}", number)
            elif step == "delete":
                versions.source.delete([image_id])
            elif step == "merge":
                versions.source.compact()
            else:
                seen = versions.one_pass(after=seen if "where" in step else None).seen
                check_same_images(versions.source, versions.target, seen)
                assert titles(versions.target) == titles(versions.source)
        before = versions.encoder.encoded
        outcome = versions.one_pass(after=seen)
        assert titles(versions.target) == titles(versions.source)
        assert versions.encoder.encoded - before == outcome.encoded
        assert versions.one_pass().encoded == 0, "a pass from where the last ended passed something over"


def test_reencode_back_brings_changes_and_deletions_made_meanwhile(versions: Versions) -> None:
    for image_id in ("1", "2", "3"):
        versions.put(image_id, "first")
    versions.one_pass()
    versions.source, versions.target = versions.target, versions.source
    versions.put("2", "second", seed=5)
    versions.put("4", "new")
    versions.source.delete(["3"])
    versions.encoder = HashEncoder(seed=0)
    outcome = versions.one_pass()
    assert (outcome.encoded, outcome.deleted) == (2, 1)
    assert titles(versions.target) == {"1": "first", "2": "second", "4": "new"}


class Interrupted(HashEncoder):
    """Does something, or ends the pass as a kill would, before a batch of photos is encoded."""

    def __init__(self, at: int, do: Callable[[], None]) -> None:
        super().__init__(seed=1)
        self._at = at
        self._do = do

    def encode(self, pixels: NDArray[np.uint8]) -> Descriptors:
        if self._at == 0:
            self._do()
        self._at -= 1
        return super().encode(pixels)


def kill() -> None:
    raise KeyboardInterrupt


def fill(versions: Versions, count: int) -> None:
    names = [f"{n}" for n in range(count)]
    photos = [versions.source.add_photo(name, png(int(name)), ".png") for name in names]
    versions.source.put(rows_of(names, "first", photos=photos))


def test_reencode_that_was_stopped_goes_on(versions: Versions) -> None:
    fill(versions, 40)
    with pytest.raises(KeyboardInterrupt):
        versions.one_pass(Interrupted(1, kill))
    done = versions.target.count()
    assert 0 < done < 40
    outcome = versions.one_pass()
    assert outcome.encoded == versions.encoder.encoded == 40 - done
    assert everything_but_codes(versions.target) == everything_but_codes(versions.source)


def test_reencode_goes_on_when_merges_take_away_what_it_reads(versions: Versions) -> None:
    """A pass takes hours; what a merge replaced is put away after minutes."""
    for number in range(20):
        versions.put(f"{number}", "first", number)

    def merge() -> None:
        before = [{info.name for info in bucket.head().segments} for bucket in versions.source.buckets]
        versions.source.compact()
        for bucket, names in zip(versions.source.buckets, before, strict=True):
            for name in names - {info.name for info in bucket.head().segments}:
                bucket.segment_location(name).path.unlink()

    outcome = versions.one_pass(Interrupted(0, merge))
    assert outcome.encoded == 20
    assert everything_but_codes(versions.target) == everything_but_codes(versions.source)


def test_reencode_of_what_is_written_meanwhile_is_for_the_next_pass(versions: Versions) -> None:
    fill(versions, 10)
    outcome = versions.one_pass(Interrupted(0, lambda: versions.put("99", "meanwhile")))
    check_same_images(versions.source, versions.target, outcome.seen)
    again = versions.one_pass(after=outcome.seen)
    assert outcome.encoded + again.encoded == 11
    assert titles(versions.target) == titles(versions.source)


def test_reencode_names_photos_that_cannot_be_read_and_takes_them_later(versions: Versions) -> None:
    fill(versions, 4)
    photo = versions.source.folder / str(versions.source.find(["2"])["2"]["photo"])
    content = storage.read(photo)
    storage.remove(photo)
    outcome = versions.one_pass()
    (problem,) = outcome.problems
    assert (outcome.encoded, problem.image_id, problem.reason) == (3, "2", "no such file")
    with pytest.raises(VersionsDiffer, match=r"holds 4 images, but tiny-1-\w+ 3|1 of \d+ images looked at differ"):
        check_same_images(versions.source, versions.target, outcome.seen)
    storage.write(photo, content)
    assert versions.one_pass().encoded == 1
    check_same_images(versions.source, versions.target, outcome.seen)


def test_reencode_refuses_a_source_that_is_damaged(versions: Versions) -> None:
    fill(versions, 10)
    bucket = versions.source.buckets[1]
    bucket.segment_location(bucket.head().segments[0].name).path.unlink()
    with pytest.raises(StoreUnavailable, match="cannot be encoded anew without it"):
        versions.one_pass()


def test_reencode_does_not_write_what_merges_drop_again_and_again(versions: Versions) -> None:
    """A tombstone so old that any merge drops it, of an image that the target never had."""
    old = datetime.now(UTC) - timedelta(days=30)
    versions.source.copy_in(tombstones_table(["1"], source=Source.HTTP, stamp=old))
    assert versions.one_pass().deleted == 0


# --- deletions that are forgotten, and the comparison


def test_delete_forgotten_deletes_what_the_source_has_no_row_of(tmp_path: Path) -> None:
    """The other version was served, an image was deleted, and a week later a merge dropped its tombstone."""
    versions = Versions(tmp_path, buckets=1)
    now = datetime.now(UTC)
    photos = {name: versions.source.add_photo(name, png(int(name)), ".png") for name in ("1", "2")}
    versions.source.copy_in(rows_of(["1", "2"], "old", stamp=now - timedelta(days=30), photos=list(photos.values())))
    versions.one_pass()
    versions.source.copy_in(tombstones_table(["1"], source=Source.HTTP, stamp=now - timedelta(days=20)))
    number = 10
    while not versions.source.buckets[0].head().tombstones_dropped_to:
        versions.put(f"{number}", "filler")
        versions.source.compact()
        number += 1
    seen = versions.one_pass().seen
    assert "1" in titles(versions.target), "no pass can see this deletion"
    with pytest.raises(VersionsDiffer, match="holds"):
        check_same_images(versions.source, versions.target, seen)
    assert delete_forgotten(versions.source, versions.target) == 1
    check_same_images(versions.source, versions.target, seen)
    assert titles(versions.target) == titles(versions.source)
    assert delete_forgotten(versions.source, versions.target) == 0


def test_delete_forgotten_leaves_alone_what_the_source_has(versions: Versions) -> None:
    fill(versions, 10)
    versions.one_pass()
    assert delete_forgotten(versions.source, versions.target) == 0
    assert versions.target.count() == 10


def test_check_same_images_sees_an_image_that_differs(versions: Versions) -> None:
    fill(versions, 10)
    seen = versions.one_pass().seen
    check_same_images(versions.source, versions.target, seen)
    versions.put("3", "newer")
    check_same_images(versions.source, versions.target, seen)  # it came after what was taken over
    everything_seen = {number: bucket.head().sequence for number, bucket in enumerate(versions.source.buckets)}
    with pytest.raises(VersionsDiffer, match=r"1 of \d+ images looked at differ"):
        check_same_images(versions.source, versions.target, everything_seen)


@pytest.mark.parametrize("changed", ["source", "target"])
def test_check_same_images_counts_those_that_the_sample_does_not_see(
    versions: Versions, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE", 1)
    fill(versions, 20)
    seen = versions.one_pass().seen
    more = versions.target if changed == "target" else versions.source
    fewer = versions.source if changed == "target" else versions.target
    keys = np.sort(more.live_keys(0))
    last = pa.array([keys[-1]])
    names = [name for name, row in more.find([f"{n}" for n in range(20)]).items() if row["key"] == last[0].as_py()]
    fewer.delete(names)
    everything_seen = {number: bucket.head().sequence for number, bucket in enumerate(versions.source.buckets)}
    assert names
    assert seen is not None
    with pytest.raises(VersionsDiffer, match="images"):
        check_same_images(versions.source, versions.target, everything_seen)
