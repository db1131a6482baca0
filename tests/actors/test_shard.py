"""A shard beside a store that changes, breaks and comes back: it shows what is stored, and never an older row again."""

from __future__ import annotations

import gc
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from ray.actor import ActorHandle
from ray.exceptions import RayError
from support.ray_cluster import kill, ray_cluster, until
from support.rows import shown_by
from support.s3 import Fault, Faults
from support.stores import new_collection, rows_of, titles
from support.unreachable import unreachable

from lookalike.actors import shard as shard_module
from lookalike.actors.index.follower import FollowerTooFarBehind
from lookalike.actors.query import wire
from lookalike.actors.query.deadline import DeadlineExceeded
from lookalike.actors.query.filters import Filters
from lookalike.actors.query.merge import NotHeld, PastDeadline, ShardHits, merge
from lookalike.actors.query.message import WireError
from lookalike.actors.query.query import Query, SearchOptions
from lookalike.actors.shard import Shard, ShardActor, ShardStatus
from lookalike.errors import StorageUnavailable, StoreUnavailable
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import Source, tombstones_table
from lookalike.storage import Location

BUCKETS = 3
IDS = [f"image/{n}" for n in range(12)]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shard try again at every refresh what failed at the last."""
    monkeypatch.setattr(shard_module, "FIRST_BACKOFF_S", 0.0)


def shard_of(collection: Collection, buckets: Sequence[int] = range(BUCKETS)) -> Shard:
    return Shard(collection.root, collection.name, collection.version, buckets)


def titles_of(shard: Shard) -> dict[str, str]:
    with shard._rows.reading() as snapshot:
        return {shown["image_id"]: shown["title"] for shown in shown_by(snapshot).values()}


def everything(shard: Shard) -> dict[int, dict[str, object]]:
    with shard._rows.reading() as snapshot:
        return shown_by(snapshot)


def newest_segment(bucket: Bucket) -> Path:
    return bucket.segment_location(bucket.head().segments[-1].name).path


# --- any commits, any faults


class Histories:
    """What was ever committed of each image, in order; "" where it was deleted. A shard may only go forward in it."""

    def __init__(self) -> None:
        self._states = {image_id: [""] for image_id in IDS}
        self._shown = dict.fromkeys(IDS, 0)

    def commit(self, collection: Collection) -> None:
        """Note what the store holds now."""
        stored = collection.find(IDS, ["title"])
        for image_id, states in self._states.items():
            title = str(stored[image_id]["title"]) if image_id in stored else ""
            if title != states[-1]:
                states.append(title)

    def check(self, shard: Shard) -> None:
        shown = titles_of(shard)
        for image_id, states in self._states.items():
            at = self._shown[image_id]
            assert shown.get(image_id, "") in states[at:], f"{image_id} fell back: {states}, {at}"
            self._shown[image_id] = states.index(shown.get(image_id, ""), at)


some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=6, unique=True)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), some_ids),
        st.tuples(st.just("take_in"), some_ids),
        st.tuples(st.just("delete"), some_ids),
        st.tuples(st.just("compact"), st.just([])),
        st.tuples(st.just("refresh"), st.just([])),
        st.tuples(st.just("refresh while segments are out of reach"), some_ids),
        st.tuples(st.just("refresh while heads are out of reach"), some_ids),
    ),
    max_size=30,
)


def do(collection: Collection, step: str, ids: list[str], number: int) -> None:
    title = f"{step.replace('_', '')}x{number}"  # one word: a shard holds no other order
    if step == "put":
        collection.put(rows_of(ids, title, number))
    elif step == "take_in":
        rows = rows_of(ids, title, number, source=Source.CATALOGUE, fingerprints=[number] * len(ids))
        collection.take_in(rows)
    elif step == "delete":
        collection.delete(ids)
    elif step == "compact":
        collection.compact()


def refresh_with_faults(shard: Shard, step: str, collection: Collection, chosen: list[int]) -> None:
    with ExitStack() as faults:
        for bucket in collection.buckets:
            segments = bucket.head().segments
            paths = [bucket.segment_location(info.name).path for info in segments]
            if "heads" in step:
                paths = [bucket.head_location.path]
            for path in {paths[n % len(paths)] for n in chosen if paths}:
                faults.enter_context(unreachable(path))
        shard.refresh(look=True)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_shard_shows_what_a_new_shard_shows_after_any_commits_and_faults(done: list[tuple[str, list[str]]]) -> None:
    gc.collect()  # each shard reserves terabytes of address space, and collections are in cycles
    with tempfile.TemporaryDirectory() as folder:
        writer = new_collection(Path(folder), BUCKETS)
        shard = shard_of(writer)
        histories = Histories()
        for number, (step, ids) in enumerate(done):
            do(writer, step, ids, number)
            histories.commit(writer)
            if step.startswith("refresh while"):
                refresh_with_faults(shard, step, writer, [IDS.index(image_id) for image_id in ids])
                histories.check(shard)
            elif step == "refresh":
                shard.refresh()
                histories.check(shard)
        shard.refresh(look=True)
        histories.check(shard)
        assert everything(shard) == everything(shard_of(writer))
        assert titles_of(shard) == titles(writer)
        status = shard.status()
        assert (status.last_error, status.last_error_age_s, status.damaged_segments) == ("", None, 0)


@pytest.mark.parametrize("created_at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_shard_goes_on_after_the_extremes_of_every_attribute(tmp_path: Path, created_at: datetime) -> None:
    collection = new_collection(tmp_path, 1)
    shard = shard_of(collection, [0])
    extreme = Attributes(
        created_at=created_at, price=1e15, lat=-90.0, lon=180.0, title="t" * 1000, brand="\U0010ffff", colour=""
    )
    collection.put(rows_of(["extreme"], attributes=extreme))
    shard.refresh()
    collection.put(rows_of(["later"], "later"))
    shard.refresh()
    assert set(titles_of(shard)) == {"extreme", "later"}
    assert shard.status().last_error == ""
    assert set(titles_of(shard_of(collection, [0]))) == {"extreme", "later"}


# --- what cannot be read


def overwrite_middle(path: Path) -> None:
    content = path.read_bytes()
    third = len(content) // 3
    path.write_bytes(content[:third] + bytes(third) + content[2 * third :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: list[Callable[[Path], None]] = [overwrite_middle, cut, Path.unlink]


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Twelve images in three buckets, all of the first commit."""
    collection = new_collection(tmp_path, BUCKETS)
    collection.put(rows_of(IDS, "first"))
    return collection


@pytest.mark.parametrize("damage", DAMAGES)
def test_shard_serves_the_rest_of_a_damaged_segment_and_says_so(
    collection: Collection, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The segment is set aside for as long as the shard lives, also once its file is whole again."""
    shard = shard_of(collection)
    collection.put(rows_of(IDS, "second"))
    path = newest_segment(collection.buckets[1])
    shutil.copy(path, tmp_path / "copy")
    lost = collection.buckets[1].head().segments[-1].rows
    damage(path)
    readers = shard, shard_of(collection)
    for reader in readers:
        reader.refresh()
        status = reader.status()
        assert (status.damaged_segments, status.damaged_rows) == (1, lost)
        assert path.name in status.last_error
        assert status.last_error_age_s is not None
        assert sorted(titles_of(reader).values()) == ["first"] * lost + ["second"] * (len(IDS) - lost)
    collection.put(rows_of(["new"], "third"))
    for reader in readers:
        before = titles_of(reader)
        reader.refresh()
        assert titles_of(reader) == before | {"new": "third"}
        assert reader.status().damaged_segments == 1
    shutil.copy(tmp_path / "copy", path)
    age = shard.status().last_error_age_s
    shard.refresh(look=True)
    status = shard.status()
    assert status.damaged_segments == 1
    assert status.last_error_age_s is not None
    assert age is not None
    assert status.last_error_age_s >= age
    again = shard_of(collection)
    assert set(titles_of(again).values()) == {"second", "third"}
    assert again.status().last_error == ""


def overwrite(path: Path) -> None:
    path.write_bytes(b"{}x")


@pytest.mark.parametrize("damage", [overwrite, Path.unlink])
def test_shard_without_the_head_of_a_bucket_serves_the_others_until_it_is_back(
    collection: Collection, damage: Callable[[Path], None]
) -> None:
    shard = shard_of(collection)
    head = collection.buckets[0].head_location.path
    whole = head.read_bytes()
    damage(head)
    collection.buckets[1].commit(_of_bucket(collection, 1, "second"), lambda rows, _: rows)
    shard.refresh(look=True)
    assert sorted(set(titles_of(shard).values())) == ["first", "second"]
    loaded = shard_of(collection)
    assert 0 < len(titles_of(loaded)) < len(IDS)
    for reader in (shard, loaded):
        assert head.name in reader.status().last_error
        assert reader.status().lag_s > 0
    head.write_bytes(whole)
    for reader in (shard, loaded):
        reader.refresh()
        assert (reader.status().last_error, len(titles_of(reader))) == ("", len(IDS))


def _of_bucket(collection: Collection, number: int, title: str):  # type: ignore[no-untyped-def]
    batches = collection.buckets[number].changes(
        collection.buckets[number].head(), 0, ("image_id",), lambda error: pytest.fail(str(error))
    )
    return rows_of([row["image_id"] for batch in batches for row in batch.to_pylist()], title)


def test_shard_tells_since_when_a_bucket_is_out_of_reach_and_counts_its_lag(collection: Collection) -> None:
    shard = shard_of(collection)
    with unreachable(collection.buckets[2].head_location.path):
        ages = []
        for _ in range(3):
            shard.refresh(look=True)
            age = shard.status().last_error_age_s
            assert age is not None
            ages.append(age)
        assert ages == sorted(set(ages))
        assert shard.status().lag_s >= ages[-1]
        assert len(titles_of(shard)) == len(IDS)
    shard.refresh()
    assert shard.status().last_error == ""
    assert shard.status().lag_s < ages[-1] + 5


def test_shard_that_can_read_nothing_is_not_built(collection: Collection) -> None:
    with ExitStack() as faults:
        for bucket in collection.buckets:
            faults.enter_context(unreachable(bucket.head_location.path))
        with pytest.raises(StorageUnavailable, match="head"):
            shard_of(collection)
    assert len(titles_of(shard_of(collection))) == len(IDS)


def test_shard_follows_without_the_token(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token only says that there is something to look at: a shard that cannot read it looks at the heads."""
    shard = shard_of(collection)
    collection.token_location.path.unlink()
    collection.buckets[0].commit(_of_bucket(collection, 0, "second"), lambda rows, _: rows)
    shard.refresh()
    shard.refresh()
    assert "second" in titles_of(shard).values()
    assert "token" in shard.status().last_error
    collection.put(rows_of(IDS, "third"))
    shard.refresh()
    assert set(titles_of(shard).values()) == {"third"}
    assert shard.status().last_error == ""


def test_shard_looks_at_the_heads_after_a_commit_whose_writer_died_before_the_token(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_of(collection)
    collection.buckets[0].commit(_of_bucket(collection, 0, "second"), lambda rows, _: rows)
    shard.refresh()
    assert set(titles_of(shard).values()) == {"first"}
    shard.refresh(look=True)
    assert set(titles_of(shard).values()) == {"first", "second"}
    collection.buckets[1].commit(_of_bucket(collection, 1, "third"), lambda rows, _: rows)
    shard._full_look_s = 0.0
    shard.refresh()
    assert set(titles_of(shard).values()) == {"first", "second", "third"}


def test_shard_whose_rows_are_refused_goes_on_with_the_other_buckets(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours in one bucket must not stop the others, and must be seen."""
    shard = shard_of(collection)
    apply = shard._rows.apply

    def refuse(batch) -> None:  # type: ignore[no-untyped-def]
        if "poison" in batch["image_id"].to_pylist():
            raise OverflowError("date value out of range")
        apply(batch)

    monkeypatch.setattr(shard._rows, "apply", refuse)
    collection.put(rows_of(["poison"]))
    collection.put(rows_of([*IDS, "other"], "second"))
    shard.refresh()
    assert "OverflowError: date value out of range" in shard.status().last_error
    assert "second" in titles_of(shard).values()
    monkeypatch.setattr(shard._rows, "apply", apply)
    shard.refresh()
    assert set(titles_of(shard)) == {*IDS, "other", "poison"}
    assert shard.status().last_error == ""


# --- merges


@pytest.fixture
def on_s3(s3_root: Location, faults: Faults) -> Collection:
    collection = new_collection(s3_root, BUCKETS)
    collection.put(rows_of(IDS, "first"))
    return collection


def test_shard_reads_nothing_of_what_a_merge_made(on_s3: Collection, faults: Faults) -> None:
    shard = shard_of(on_s3)
    for number in range(20):
        on_s3.put(rows_of(IDS, str(number)))
    shard.refresh()
    before = everything(shard)
    assert on_s3.compact() > 0
    with faults.counting() as requests:
        assert not shard.refresh(look=True)
    assert requests == {"GET": 1 + BUCKETS}, "the token and the heads"
    assert everything(shard) == before
    assert everything(shard_of(on_s3)) == before


def test_shard_on_s3_follows_again_after_faults(on_s3: Collection, faults: Faults) -> None:
    shard = shard_of(on_s3)
    on_s3.put(rows_of(IDS, "second"))
    faults.add(Fault.DENIED, times=None, methods={"GET"}, key=".seg")
    shard.refresh()
    assert "access denied" in shard.status().last_error
    assert set(titles_of(shard).values()) == {"first"}
    faults.clear()
    faults.add(Fault.TRUNCATED, times=2, methods={"GET"})
    faults.add(Fault.UNAVAILABLE, times=2, methods={"GET"})
    shard.refresh()
    shard.refresh(look=True)
    assert set(titles_of(shard).values()) == {"second"}
    assert shard.status().last_error == ""


def test_shard_at_rest_on_s3_asks_for_the_token_alone(on_s3: Collection, faults: Faults) -> None:
    shard = shard_of(on_s3)
    with faults.counting() as requests:
        for _ in range(5):
            shard.refresh()
    assert requests == {"GET": 5}


# --- what only a new shard can show


def test_shard_that_missed_dropped_deletions_must_load_anew(tmp_path: Path) -> None:
    collection = new_collection(tmp_path, 1)
    now = datetime.now(UTC)
    collection.copy_in(rows_of(["kept", "deleted"], "old", stamp=now - timedelta(days=30)))
    behind, ahead = shard_of(collection, [0]), shard_of(collection, [0])
    collection.copy_in(tombstones_table(["deleted"], source=Source.HTTP, stamp=now - timedelta(days=20)))
    ahead.refresh()
    for number in range(20):
        collection.put(rows_of([f"filler {number}"]))
    while collection.compact():
        pass
    assert collection.buckets[0].head().tombstones_dropped_to == 2
    ahead.refresh()
    with pytest.raises(FollowerTooFarBehind, match="has not seen"):
        behind.refresh()
    assert everything(ahead) == everything(shard_of(collection, [0]))
    assert "deleted" not in titles_of(ahead)


def test_shard_of_a_store_that_went_back_must_load_anew(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "store", 1)
    collection.put(rows_of(["a"], "first"))
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    collection.put(rows_of(["a"], "second"))
    shard = shard_of(collection, [0])
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "copy").rename(tmp_path / "store")
    with pytest.raises(FollowerTooFarBehind, match="commit 1"):
        shard.refresh()


# --- answers


def query(image_id: str) -> Query:
    options = SearchOptions(count=3).plain()
    return Query(options=options, weights=(100, 100), candidates=None, target=image_id)


def test_shard_finds_every_image_by_its_id_and_no_other(collection: Collection) -> None:
    shard = shard_of(collection)
    collection.delete(["image/3"])
    shard.refresh()
    replies = shard.search([query(image_id) for image_id in [*IDS, "no such image"]])
    found = [isinstance(reply, ShardHits) for reply in replies]
    assert found == [image_id != "image/3" for image_id in IDS] + [False]
    codes = shard.codes_of([*IDS, "no such image"])
    assert [one is not None for one in codes] == found


def test_shard_answers_messages_as_it_does_values(collection: Collection) -> None:
    shard = shard_of(collection)
    queries = [query(IDS[0]), query("no such image"), replace(query(IDS[1]), deadline=time.monotonic() - 1)]
    kinds = [type(reply) for reply in wire.decode_replies(shard.answer(wire.encode_queries(queries, time.monotonic())))]
    assert kinds == [ShardHits, NotHeld, PastDeadline]
    first, unknown = wire.decode_codes(shard.answer(wire.encode_lookup([IDS[0], "no such image"])))
    assert first is not None
    assert unknown is None
    by_codes = replace(query(IDS[0]), codes=first)
    one, other = wire.decode_replies(shard.answer(wire.encode_queries([query(IDS[0]), by_codes], 0)))
    assert isinstance(one, ShardHits)
    assert isinstance(other, ShardHits)
    assert merge([one], by_codes) == merge([other], by_codes)
    assert merge([one], by_codes)[0].image_id == IDS[0]
    with pytest.raises(WireError):
        shard.answer(b"\x00")


def test_shard_counts_what_it_keeps_of_filters_and_answers_on_after_a_deadline(collection: Collection) -> None:
    shard = shard_of(collection)
    filters = TypeAdapter(Filters).validate_python([{"not": {"field": "title", "matches": "no such word"}}])
    filtered = replace(query("image/1"), options=SearchOptions().model_copy(update={"filters": filters}))
    before = shard.status().held_bytes
    assert isinstance(shard.search([replace(filtered, deadline=time.monotonic())])[0], PastDeadline)
    assert shard.status().held_bytes == before
    assert isinstance(shard.search([replace(filtered, deadline=time.monotonic() + 60)])[0], ShardHits)
    assert shard.status().held_bytes > before


def test_deadline_exceeded_comes_out_of_an_actor_as_it_is() -> None:
    error = pickle.loads(pickle.dumps(DeadlineExceeded("too late")))
    assert (type(error), str(error)) == (DeadlineExceeded, "too late")


# --- the actor


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray whose shards look at the store when they are told to."""
    module = shard_module.__name__
    with ray_cluster({f"{module}.LOCAL_POLL_S": 3600.0, f"{module}.LOCAL_FULL_LOOK_S": 3600.0}):
        yield


@pytest.fixture
def start(cluster: None) -> Iterator[Callable[[Collection], ActorHandle]]:
    started: list[ActorHandle] = []

    def start_one(collection: Collection) -> ActorHandle:
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=3)(ShardActor)
        buckets = range(collection.manifest.buckets)
        started.append(actor.remote(collection.root, collection.name, collection.version, buckets))
        ray.get(started[-1].ready.remote())
        return started[-1]

    yield start_one
    for actor in started:
        ray.kill(actor)


def status_of(actor: ActorHandle) -> ShardStatus | None:
    """None while it is started again."""
    try:
        status: ShardStatus = ray.get(actor.status.remote(), timeout=5)
    except (RayError, TimeoutError):
        return None
    return status


def test_shard_actor_that_is_too_far_behind_starts_anew(
    start: Callable[[Collection], ActorHandle], tmp_path: Path
) -> None:
    collection = new_collection(tmp_path, 1)
    now = datetime.now(UTC)
    collection.copy_in(rows_of(["kept", "deleted"], "old", stamp=now - timedelta(days=30)))
    actor = start(collection)
    before = status_of(actor)
    assert before is not None
    collection.copy_in(tombstones_table(["deleted"], source=Source.HTTP, stamp=now - timedelta(days=20)))
    while not collection.buckets[0].head().tombstones_dropped_to:
        collection.put(rows_of(["filler"]))
        collection.compact()
    actor.notify.remote()

    def is_another() -> bool:
        status = status_of(actor)
        return status is not None and status.pid != before.pid

    until(is_another, 60, "it did not start anew")
    after = status_of(actor)
    assert after is not None
    assert (after.rows, after.last_error) == (len({"kept", "filler"}), "")


def test_shard_actor_that_is_started_again_waits_until_its_store_is_back(
    start: Callable[[Collection], ActorHandle], collection: Collection
) -> None:
    actor = start(collection)
    before = status_of(actor)
    assert before is not None
    assert before.rows == len(IDS)
    with unreachable((collection.location / "manifest.json").path):
        kill(before.pid)
        for _ in range(2):
            assert status_of(actor) is None, "it answers, and has nothing"
    until(lambda: status_of(actor) is not None, 60, "it did not come back")
    after = status_of(actor)
    assert after is not None
    assert after.rows == len(IDS)


def test_shard_actor_answers_messages_and_raises_errors_of_their_own_class(
    start: Callable[[Collection], ActorHandle], collection: Collection
) -> None:
    actor = start(collection)
    answer = ray.get(
        actor.answer.remote(wire.encode_queries([query(IDS[0]), query("no such image")], time.monotonic()))
    )
    assert [type(reply) for reply in wire.decode_replies(answer)] == [ShardHits, NotHeld]
    with pytest.raises(WireError, match="version 1 is expected"):
        ray.get(actor.answer.remote(b"{}"))


def test_shard_actor_that_cannot_load_says_why(
    start: Callable[[Collection], ActorHandle], collection: Collection
) -> None:
    (collection.location / "manifest.json").path.write_text("{")
    with pytest.raises(StoreUnavailable, match=r"manifest.json is damaged"):
        start(collection)
