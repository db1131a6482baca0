"""Which model encodes a catalogue, and when which version of a collection is served."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.encoders import HashEncoder
from support.stores import new_collection, rows_of, titles, write_spec

from lookalike import storage
from lookalike.actors.writer import CollectionMovedError, NewImage, Writer
from lookalike.cluster.deploy import encode as module
from lookalike.cluster.deploy.encode import (
    VersionDescription,
    collection_for,
    describe_versions,
    encode,
    end_killed_switch,
    switch,
    switch_version,
)
from lookalike.errors import StoreUnavailable
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.demo.sample import draw
from lookalike.ingest.reencode import Pass, VersionsDiffer
from lookalike.ingest.store.alias import alias
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.compaction import Merge, merge_segments
from lookalike.ingest.store.head import Head, SegmentInfo
from lookalike.ingest.store.rows import Source, tombstones_table
from lookalike.model.descriptor import Descriptors
from lookalike.storage import Location

IMAGES = 6


class Steps:
    """A progress that keeps what it was shown: label, total, done."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    @contextmanager
    def __call__(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        self.seen.append((label, total, sum(done)))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("sample") / "catalogue"
    draw(folder, IMAGES, 0, lambda _: None)
    return Catalogue.open(str(folder))


def test_collection_for_takes_the_model_given_before_the_collections_own(catalogue: Catalogue, tmp_path: Path) -> None:
    steps, root = Steps(), Location.parse(tmp_path / "store")
    one, other = (
        Location.parse(write_spec(tmp_path / name, name=name, arrays=digit * 64))
        for name, digit in (("a", "1"), ("b", "2"))
    )
    made = [collection_for(catalogue, root, "default", model, 2, steps) for model in (one, None, other)]
    versions = [collection.version for collection, _ in made]
    assert versions[0] == versions[1] != versions[2]
    assert [fitted for _, fitted in made] == [False] * 3
    assert alias(root, "default") == versions[0]
    assert steps.seen == []


@pytest.mark.parametrize("with_model", [False, True])
def test_collection_for_refuses_rows_without_an_alias(catalogue: Catalogue, tmp_path: Path, with_model: bool) -> None:
    collection = new_collection(tmp_path / "store", 2)
    model = Location.parse(write_spec(tmp_path / "other", arrays="1" * 64)) if with_model else None
    collection.put(rows_of(["upload"]))
    (collection.folder / "alias").path.unlink()
    with pytest.raises(StoreUnavailable, match=f"alias is missing, though there is {collection.version}"):
        collection_for(catalogue, collection.root, "default", model, 2, Steps())


def test_collection_for_goes_on_with_what_a_job_killed_before_the_alias_was_made_began(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    collection = new_collection(tmp_path / "store", 2)
    (collection.folder / "alias").path.unlink()
    again, _ = collection_for(catalogue, collection.root, "default", collection.model_location, 2, Steps())
    assert again.version == collection.version == alias(collection.root, "default")


def test_collection_for_refuses_a_name_before_it_does_anything(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No Name"):
        collection_for(catalogue, Location.parse(tmp_path / "store"), "No Name", None, 2, Steps())
    assert not (tmp_path / "store").exists()


def test_encode_serves_a_fitted_collection_and_finds_it_unchanged(catalogue: Catalogue, tmp_path: Path) -> None:
    steps, root = Steps(), Location.parse(tmp_path)
    collection, fitted = collection_for(catalogue, root, "default", None, 2, steps)
    assert fitted
    report = encode(catalogue, collection, 4, False, steps)
    assert (report.encoded, report.unchanged, report.problems) == (IMAGES, 0, [])
    assert alias(root, "default") == collection.version
    again, fitted = collection_for(catalogue, root, "default", None, 2, steps)
    assert not fitted
    report = encode(catalogue, again, 4, False, steps)
    assert (report.encoded, report.unchanged) == (0, IMAGES)
    assert [(total, done) for _, total, done in steps.seen] == [(IMAGES, IMAGES)] * 3


# --- from one version to another


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def image(image_id: str, title: str, seed: int = 0) -> NewImage:
    return NewImage(
        image_id, Attributes(title=title), png(seed), ".png", np.zeros(1, np.uint64), np.zeros(2, np.uint64)
    )


class Versions:
    """A collection of uploads with two model versions, of which the first is served."""

    def __init__(self, folder: Path) -> None:
        self.first = new_collection(folder / "store", 2)
        model = Location.parse(write_spec(folder / "other", arrays="1" * 64))
        self.second = Collection.create(self.first.root, self.first.name, model, 3)
        self.writer = Writer(self.first.root, self.first.name, self.first.version)
        self.writer.put([image(str(n), "first", n) for n in range(10)])

    @property
    def served(self) -> str:
        return alias(self.first.root, self.first.name)

    def switch(self, encoder: HashEncoder | None = None, force: bool = False) -> list[Pass]:
        return switch_version(self.first, self.second, encoder or HashEncoder(1), force, Steps())

    def photo_of(self, image_id: str) -> Location:
        return self.first.folder / str(self.first.find([image_id])[image_id]["photo"])


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


class Writing(HashEncoder):
    """While photos are encoded, a client writes."""

    def __init__(self, write: Callable[[int], object]) -> None:
        super().__init__(seed=1)
        self._write = write
        self._batches = 0

    def encode(self, pixels: NDArray[np.uint8]) -> Descriptors:
        self._batches += 1
        self._write(self._batches)
        return super().encode(pixels)


def test_switch_version_takes_uploads_along(versions: Versions) -> None:
    passes = versions.switch()
    assert versions.served == versions.second.version
    assert titles(versions.second) == titles(versions.first) == {str(n): "first" for n in range(10)}
    assert sum(one.encoded for one in passes) == 10
    for row in versions.second.find(["3", "7"]).values():
        assert storage.read(versions.second.folder / str(row["photo"])) == png(int(str(row["image_id"])))


def test_switch_version_takes_what_is_written_during_its_passes(versions: Versions) -> None:
    """Also by a client that never pauses: the version holds what was acknowledged before the alias moved."""

    def write(batch: int) -> None:
        if versions.served == versions.first.version:
            versions.writer.put([image(f"new {batch}", "meanwhile"), image("1", f"changed {batch}")])
            versions.writer.delete([str(batch + 1)])

    versions.switch(Writing(write))
    assert versions.served == versions.second.version
    held = titles(versions.first)
    assert len([title for title in held.values() if title == "meanwhile"]) >= module.MAX_PASSES
    assert titles(versions.second) == held


def test_switch_version_takes_what_was_acknowledged_while_the_alias_moved(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[str] = []
    publish = Collection.publish

    def put(name: str) -> None:
        versions.writer.put([image(name, name)])
        acknowledged.append(name)

    def publish_between_two_writes(collection: Collection) -> None:
        put("just before")
        publish(collection)
        with pytest.raises(CollectionMovedError, match="moved to the model version"):
            put("just after")

    monkeypatch.setattr(Collection, "publish", publish_between_two_writes)
    versions.switch()
    assert acknowledged == ["just before"]
    assert titles(versions.second) == {str(n): "first" for n in range(10)} | {"just before": "just before"}


def test_switch_version_leaves_the_alias_where_photos_are_missing(versions: Versions) -> None:
    location = versions.photo_of("4")
    content = storage.read(location)
    storage.remove(location)
    with pytest.raises(VersionsDiffer, match=r"cannot be read: 1, among them .* of '4' \(no such file\).*--force"):
        versions.switch()
    assert versions.served == versions.first.version
    storage.write(location, content)
    versions.switch()
    assert versions.served == versions.second.version
    assert titles(versions.second) == titles(versions.first)


def test_switch_version_by_force_goes_without_what_is_missing_and_says_so(versions: Versions) -> None:
    storage.remove(versions.photo_of("4"))
    *_, last = versions.switch(force=True)
    assert versions.served == versions.second.version
    assert [problem.image_id for problem in last.problems] == ["4"]
    assert titles(versions.first).keys() - titles(versions.second).keys() == {"4"}


def test_switch_version_encodes_a_photo_that_could_not_be_read_for_a_moment(versions: Versions) -> None:
    location = versions.photo_of("4")
    content = storage.read(location)
    storage.remove(location)
    versions.switch(Writing(lambda _: storage.write(location, content)))
    assert versions.served == versions.second.version
    assert titles(versions.second) == titles(versions.first)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_switch_version_that_was_killed_when_the_alias_moved_is_ended_by_the_next(
    versions: Versions, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Collection.publish

    def killed(collection: Collection) -> None:
        versions.writer.put([image("late", "late")])
        if moment == "after":
            publish(collection)
        raise KeyboardInterrupt

    monkeypatch.setattr(Collection, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        versions.switch()
    monkeypatch.undo()
    assert versions.served == (versions.second if moment == "after" else versions.first).version
    assert "late" not in titles(versions.second)
    monkeypatch.setattr(module, "_encoder_of", lambda _: HashEncoder(1))
    switch(versions.first.root, "default", versions.second.version, False, Steps())
    assert versions.served == versions.second.version
    assert titles(versions.second) == titles(versions.first)
    assert "late" in titles(versions.second)
    assert switch(versions.first.root, "default", versions.second.version, False, Steps()) == []


def test_end_killed_switch_looks_at_late_commits_alone(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server does this when it starts, so it must not take longer where there are more rows."""
    publish = Collection.publish

    def killed(collection: Collection) -> None:
        versions.writer.put([image("late", "late")])
        versions.writer.delete(["3"])
        publish(collection)
        raise KeyboardInterrupt

    monkeypatch.setattr(Collection, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        versions.switch()
    monkeypatch.undo()
    monkeypatch.setattr(module, "_encoder_of", lambda _: HashEncoder(1))
    served = Collection.open(versions.first.root, "default")
    steps = Steps()
    (ended,) = end_killed_switch(served, steps)
    assert (ended.encoded, ended.deleted) == (1, 1)
    assert titles(versions.second) == titles(versions.first)
    assert [done for *_, done in steps.seen] == [2]
    assert end_killed_switch(served, steps) == []


def test_switch_back_after_a_killed_switch_loses_nothing(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Collection.publish

    def killed(collection: Collection) -> None:
        versions.writer.put([image("late", "late")])
        publish(collection)
        raise KeyboardInterrupt

    monkeypatch.setattr(Collection, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        versions.switch()
    monkeypatch.undo()
    Writer(versions.second.root, "default", versions.second.version).put([image("newer", "newer")])
    monkeypatch.setattr(module, "_encoder_of", lambda _: HashEncoder(1))
    switch(versions.first.root, "default", versions.first.version, False, Steps())
    assert versions.served == versions.first.version
    expected = {str(n): "first" for n in range(10)} | {"late": "late", "newer": "newer"}
    assert titles(versions.first) == titles(versions.second) == expected


def test_switch_back_brings_changes_and_deletions(versions: Versions) -> None:
    versions.switch()
    writer = Writer(versions.second.root, "default", versions.second.version)
    writer.put([image("1", "changed", 77), image("new", "new")])
    writer.delete(["2"])
    switch_version(versions.second, versions.first, HashEncoder(0), False, Steps())
    assert versions.served == versions.first.version
    expected = {str(n): "first" for n in range(10) if n != 2} | {"1": "changed", "new": "new"}
    assert titles(versions.first) == expected
    row = versions.first.find(["1"])["1"]
    assert storage.read(versions.first.folder / str(row["photo"])) == png(77)


def drop_tombstone(collection: Collection) -> None:
    """Let an image be deleted eight days ago, and all segments of its bucket be merged."""
    long_ago = datetime.now(UTC) - timedelta(days=8)
    collection.copy_in(rows_of(["gone"], stamp=long_ago))
    collection.copy_in(tombstones_table(["gone"], source=Source.HTTP, stamp=long_ago + timedelta(hours=1)))
    for bucket in collection.buckets:
        if segments := bucket.head().segments:
            merge = Merge(segments, True, datetime.now(UTC), lambda _: None)
            merged = bucket.write(
                merge_segments([bucket.open(info) for info in segments], merge), segments[0].first, segments[-1].last
            )
            bucket.exchange(partial(_with_merge, segments=segments, merged=merged, merge=merge))
    assert any(bucket.head().tombstones_dropped_to for bucket in collection.buckets)


def _with_merge(head: Head, segments: tuple[SegmentInfo, ...], merged: SegmentInfo | None, merge: Merge) -> Head | None:
    return head.with_merged(segments, merged, merge.dropped_to, merge.now)


@pytest.mark.parametrize("through_a_third", [False, True])
def test_switch_back_does_not_delete_what_force_had_left_out(
    versions: Versions, tmp_path: Path, through_a_third: bool
) -> None:
    location = versions.photo_of("4")
    storage.move(location, Location.parse(tmp_path / "away.png"))
    versions.switch(force=True)
    served = versions.second
    if through_a_third:
        model = Location.parse(write_spec(tmp_path / "third", arrays="2" * 64))
        served = Collection.create(versions.first.root, "default", model, 2)
        switch_version(versions.second, served, HashEncoder(2), False, Steps())
    Writer(served.root, "default", served.version).delete(["3"])
    drop_tombstone(served)
    with pytest.raises(VersionsDiffer, match="left out of the other by --force"):
        switch_version(served, versions.first, HashEncoder(0), False, Steps())
    switch_version(served, versions.first, HashEncoder(0), True, Steps())
    assert titles(versions.first) == {str(n): "first" for n in range(10) if n != 3}
    assert not storage.exists(versions.first.location / "left_out")


def test_switch_names_the_versions_there_are(versions: Versions) -> None:
    with pytest.raises(StoreUnavailable, match=f"no model version tiny-2; there: .*{versions.first.version}"):
        switch(versions.first.root, "default", "tiny-2", False, Steps())
    with pytest.raises(StoreUnavailable, match="no collection 'shoes'"):
        switch(versions.first.root, "shoes", "tiny-2", False, Steps())


def test_describe_versions_tells_what_each_holds_or_why_it_cannot_be_read(versions: Versions) -> None:
    versions.second.put(rows_of(["a"]))
    versions.second.delete(["a"])
    described = {one.version: one for one in describe_versions(versions.first.root, "default")}
    assert described == {
        versions.first.version: VersionDescription(versions.first.version, True, 10, ""),
        versions.second.version: VersionDescription(versions.second.version, False, 0, ""),
    }
    (versions.second.location / "manifest.json").path.write_text("{")
    described = {one.version: one for one in describe_versions(versions.first.root, "default")}
    assert "is damaged" in described[versions.second.version].error
    assert described[versions.first.version].error == ""


def test_encode_says_that_the_collection_moved_meanwhile(
    versions: Versions, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job wrote to a version that nobody serves any more must not pass for done."""

    class Moving(HashEncoder):
        spec = versions.first.spec

        def encode(self, pixels: NDArray[np.uint8]) -> Descriptors:
            versions.second.publish()
            return super().encode(pixels)

    monkeypatch.setattr(module, "_encoder_of", lambda _: Moving())
    with pytest.raises(StoreUnavailable, match=f"moved to {versions.second.version}; run this again"):
        encode(catalogue, versions.first, 4, False, Steps())
