"""The writer: what it acknowledges is stored, seen at once, and belongs to the version that is served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from support.ray_cluster import kill, pid_of, ray_cluster, until
from support.stores import new_collection, titles, write_spec
from support.unreachable import unreachable

from lookalike import storage
from lookalike.actors.placement import Plan, cut
from lookalike.actors.shard import Shard
from lookalike.actors.supervisor import NAMESPACE, _place
from lookalike.actors.writer import CollectionMovedError, NewImage, Writer, find_writer
from lookalike.errors import StorageUnavailable
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.photos import UPLOADS
from lookalike.storage import Location


def image(image_id: str, title: str = "") -> NewImage:
    codes = np.frombuffer(title.ljust(24).encode()[:24], np.uint64)
    return NewImage(image_id, Attributes(title=title), f"photo {title}".encode(), ".jpg", codes[:1], codes[1:])


def other_version(collection: Collection, folder: Path) -> Collection:
    model = Location.parse(write_spec(folder, arrays="1" * 64))
    return Collection.create(collection.root, collection.name, model, 2)


# --- the writer itself


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return new_collection(tmp_path / "store", 2)


@pytest.fixture
def writer(collection: Collection) -> Writer:
    return Writer(collection.root, collection.name, collection.version)


def test_writer_stores_rows_with_their_photos(collection: Collection, writer: Writer) -> None:
    writer.put([image("a", "one"), image("b", "two")])
    assert titles(collection) == {"a": "one", "b": "two"}
    photo = str(collection.find(["a"])["a"]["photo"])
    assert storage.read(collection.folder / photo) == b"photo one"
    assert writer.delete(["a", "none", "a"]) == [True, False, True]
    assert titles(collection) == {"b": "two"}


def test_writer_keeps_the_later_of_two_images_with_one_id(collection: Collection, writer: Writer) -> None:
    writer.put([image("a", "first"), image("b"), image("a", "last")])
    assert titles(collection) == {"a": "last", "b": ""}
    assert len(storage.list_tree(collection.folder / UPLOADS)) == 2, "the first one's photo is not kept"


def test_writer_refuses_what_comes_after_the_alias_moved(
    collection: Collection, writer: Writer, tmp_path: Path
) -> None:
    writer.put([image("a", "before")])
    other_version(collection, tmp_path / "other").publish()
    with pytest.raises(CollectionMovedError, match=r"moved to the model version tiny-1-.*start it again"):
        writer.put([image("a", "after")])
    with pytest.raises(CollectionMovedError, match="moved"):
        writer.delete(["a"])
    assert titles(collection) == {"a": "before"}


def test_writer_does_not_acknowledge_what_it_committed_after_the_alias_moved(
    collection: Collection, tmp_path: Path
) -> None:
    """However long the commit takes: whoever moved the alias has then copied what there was."""
    other = other_version(collection, tmp_path / "other")

    class Slow(Collection):
        def put(self, rows):  # type: ignore[no-untyped-def]
            other.publish()
            return super().put(rows)

    writer = Writer(collection.root, collection.name, collection.version)
    writer._collection = Slow(collection.root, collection.name, collection.version)
    with pytest.raises(CollectionMovedError, match="moved"):
        writer.put([image("a", "between")])


def test_writer_whose_alias_cannot_be_read_acknowledges_nothing(collection: Collection, writer: Writer) -> None:
    with unreachable((collection.folder / "alias").path), pytest.raises(StorageUnavailable, match="alias"):
        writer.put([image("a")])


# --- the actor


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray whose shards look at the store by themselves once an hour."""
    module = "lookalike.actors.shard"
    with ray_cluster({f"{module}.LOCAL_POLL_S": 3600.0, f"{module}.LOCAL_FULL_LOOK_S": 3600.0}):
        yield


class Placed:
    """A collection with two shards and a writer."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        buckets = collection.manifest.buckets
        self._placed = _place(collection.root, Plan(collection.name, collection.version, cut(buckets, 2), 1))
        ray.get([actor.ready.remote() for actor in self._placed.actors()])

    @property
    def writer(self) -> ActorHandle:
        return self._placed.writer

    def rows(self) -> int:
        return sum(ray.get(replica.status.remote()).rows for replicas in self._placed.shards for replica in replicas)

    def stop(self) -> None:
        for actor in self._placed.actors():
            ray.kill(actor)


@pytest.fixture
def placed(cluster: None, collection: Collection) -> Iterator[Placed]:
    placed = Placed(collection)
    yield placed
    placed.stop()


def test_writer_actor_tells_the_shards(placed: Placed) -> None:
    for number in range(5):
        started = time.monotonic()
        ray.get(placed.writer.put.remote([image(f"{number}/{n}") for n in range(10)]))
        assert len(titles(placed.collection)) == 10 * (number + 1), "not stored on return"
        until(lambda n=number: placed.rows() == 10 * (n + 1), 10, "the shards were not told")  # type: ignore[misc]
        assert time.monotonic() - started < 10
    assert ray.get(placed.writer.delete.remote(["0/0", "0/1", "none"])) == [True, True, False]
    until(lambda: placed.rows() == 48, 10, "the shards were not told of a deletion")


def test_writer_actor_is_found_by_its_name(placed: Placed) -> None:
    found = find_writer(placed.collection.name, placed.collection.version, NAMESPACE)
    assert pid_of(found) == pid_of(placed.writer)


def test_writer_actor_that_is_killed_goes_on_and_loses_nothing_acknowledged(placed: Placed) -> None:
    """Killed again and again under load, at any moment: between the photo and the commit among others."""
    acknowledged: dict[str, str] = {}
    stop = threading.Event()

    def put_on(client: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            title = f"{client}/{number}"
            image_id = f"{client}/{number % 7}"
            try:
                ray.get(placed.writer.put.remote([image(image_id, title)]))
            except RayActorError:
                acknowledged.pop(image_id, None)  # it may be stored or not
                time.sleep(0.1)
            else:
                acknowledged[image_id] = title

    clients = [threading.Thread(target=put_on, args=(n,)) for n in range(3)]
    for client in clients:
        client.start()
    for _ in range(3):
        time.sleep(1.5)
        kill(pid_of(placed.writer))
        until(lambda: _is_ready(placed.writer), 60, "the writer did not come back")
    time.sleep(1.0)
    stop.set()
    for client in clients:
        client.join()
    stored = placed.collection.find(list(acknowledged))
    assert {image_id: row["title"] for image_id, row in stored.items()} == acknowledged
    assert len(acknowledged) > 5
    for row in stored.values():
        assert storage.read(placed.collection.folder / str(row["photo"])) == f"photo {row['title']}".encode()
    images = len(titles(placed.collection))
    until(lambda: placed.rows() == images, 10, "the shards missed what the killed writer had committed")


def _is_ready(actor: ActorHandle) -> bool:
    try:
        return bool(ray.get(actor.ready.remote(), timeout=5))
    except (RayActorError, TimeoutError):
        return False


def test_writer_actor_says_that_the_collection_has_moved(placed: Placed, tmp_path: Path) -> None:
    other_version(placed.collection, tmp_path / "other").publish()
    with pytest.raises(CollectionMovedError, match="moved to the model version") as refused:
        ray.get(placed.writer.put.remote([image("a")]))
    assert isinstance(refused.value, RayTaskError)


def test_writer_actor_merges_what_it_commits(placed: Placed) -> None:
    for number in range(24):
        ray.get(placed.writer.put.remote([image("a", str(number))]))
    segments = max(len(bucket.head().segments) for bucket in placed.collection.buckets)
    until(
        lambda: max(len(bucket.head().segments) for bucket in placed.collection.buckets) < max(segments, 9),
        30,
        f"{segments} segments, and nobody merges them",
    )
    assert titles(placed.collection) == {"a": "23"}
    assert placed.rows() == 1
    fresh = Shard(placed.collection.root, placed.collection.name, placed.collection.version, range(2))
    assert fresh.status().rows == 1
