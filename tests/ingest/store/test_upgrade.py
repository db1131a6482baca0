"""Whatever version 0.1 held, the upgrade takes over or reports; killed at any moment, it loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import rows_of, write_spec
from support.version_one import StoreOfVersionOne, codes_of, files_below

from lookalike import storage
from lookalike.errors import StoreMismatch, StoreUnavailable
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store import upgrade as module
from lookalike.ingest.store.alias import versions
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import Source
from lookalike.ingest.store.upgrade import Report, upgrade, write_sorted
from lookalike.storage import Location, local

YEAR_10000_US = 253_402_300_800_000_000
WORST_US = [0, -62_135_596_800_000_000, YEAR_10000_US - 1, YEAR_10000_US, -(2**63) + 1, 2**63 - 1]


@contextlib.contextmanager
def no_progress(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Check that a step says all that it does."""
    done: list[int] = []
    yield done.append
    assert sum(done) == total


def fail(error: Exception) -> None:
    raise error


def upgraded(root: Path, name: str = "default") -> tuple[Collection, Report]:
    """Upgrade a collection of one version and open it."""
    (report,) = upgrade(Location.parse(root), name, no_progress)
    return Collection.open(Location.parse(root), name), report


def rows_in(collection: Collection) -> dict[str, dict[str, Any]]:
    """Every row, by id; each must be there once."""
    found: dict[str, dict[str, Any]] = {}
    for bucket in collection.buckets:
        for batch in bucket.changes(bucket.head(), 0, ("image_id",), fail):
            for image_id in batch["image_id"].to_pylist():
                assert image_id not in found
                found[image_id] = {}
    return collection.find(list(found))


def photo_in(collection: Collection, photo: str) -> bytes:
    folder, name = collection.sources.resolve(photo)
    return storage.read(folder / name)


def row(old: StoreOfVersionOne, image_id: str, seed: int = 0, **values: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "photo": f"/photos/{image_id}",
        "fingerprint": 7,
        **codes_of(old.spec, seed),
        **values,
    }


# --- rows

attributes = st.fixed_dictionaries(
    {},
    optional={
        "listing_id": st.sampled_from(["", "l/1", "l" * 513, "a\nb"]),
        "group": st.sampled_from(["", "Apparel/Shirts", " a // b ", "g" * 1025]),
        "title": st.sampled_from(["", "rote Jacke", "t" * 4097]),
        "description": st.sampled_from(["d" * 65_536, "d" * 65_537]),
        "price": st.one_of(st.none(), st.sampled_from([0.0, 9.5, 1e15, 2e15, -1.0, float("nan"), float("inf")])),
        "lat": st.sampled_from([None, 0.0, 48.2, 90.0, 90.1, float("nan")]),
        "lon": st.sampled_from([None, 0.0, 16.4, -180.0, 181.0]),
        "created_at": st.one_of(st.none(), st.sampled_from(WORST_US)),
        "colour": st.sampled_from(["red", "c" * 257]),
        "brand": st.sampled_from([None, "nike"]),
        "fingerprint": st.sampled_from([0, None, 1, 2**64 - 1]),
    },
)
GOOD_IDS = [*"abcdef", "shoes/12.jpg", "größe", "i" * 512]
BAD_IDS = ["a/photo", "a/../b", "."]
changes = st.one_of(
    st.tuples(st.just("upsert"), st.dictionaries(st.sampled_from(GOOD_IDS + BAD_IDS), attributes, min_size=1)),
    st.tuples(st.just("delete"), st.dictionaries(st.sampled_from(GOOD_IDS + BAD_IDS), st.just({}), min_size=1)),
)


def is_valid(name: str, value: object) -> bool:
    try:
        Attributes.model_validate({name: value, **({"lon": 0.0} if name == "lat" else {})})
    except ValueError:
        return False
    return True


def expected_attributes(image_id: str, values: dict[str, Any]) -> dict[str, Any]:
    """The oracle: one attribute after the other."""
    given = {name: value for name, value in values.items() if value not in (None, "") and name != "fingerprint"}
    result: dict[str, Any] = dict.fromkeys(("price", "lat", "lon", "created_at")) | dict.fromkeys(
        ("group", "title", "description", "colour", "brand"), ""
    )
    result["listing_id"] = image_id
    if (us := given.pop("created_at", None)) is not None and -62_135_596_800_000_000 <= us < YEAR_10000_US:
        result["created_at"] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    lat, lon = given.pop("lat", None), given.pop("lon", None)
    if lat is not None and lon is not None and -90 <= lat <= 90 and -180 <= lon <= 180:
        result |= {"lat": lat, "lon": lon}
    result |= {name: value for name, value in given.items() if is_valid(name, value)}
    result["group"] = "/".join(part.strip() for part in result["group"].split("/") if part.strip())
    return result


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, max_size=5))
def test_upgrade_takes_over_what_a_dictionary_of_all_changes_holds(steps: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        old = StoreOfVersionOne(Path(scratch, "store"), write_spec(Path(scratch, "model")))
        held: dict[str, dict[str, Any]] = {}
        for number, (step, given) in enumerate(steps):
            if step == "upsert":
                old.upsert([row(old, image_id, number, **values) for image_id, values in given.items()])
                held |= {image_id: {"seed": number, "fingerprint": 7, **values} for image_id, values in given.items()}
            else:
                old.delete(list(given))
                held = {image_id: values for image_id, values in held.items() if image_id not in given}
        collection, report = upgraded(Path(scratch, "store"))
        good = {image_id: values for image_id, values in held.items() if image_id in GOOD_IDS}
        assert (report.rows, report.taken, report.left_out) == (len(held), len(good), len(held) - len(good))
        assert collection.count() == len(good)
        found = rows_in(collection)
        assert found.keys() == good.keys()
        unknown = 0
        for image_id, values in good.items():
            seed, fingerprint = values.pop("seed"), values.pop("fingerprint")
            expected = expected_attributes(image_id, values)
            there = found[image_id]
            assert {name: there[name] for name in expected} == expected
            codes = codes_of(old.spec, seed)
            for name in ("short", "long"):
                assert there[name] == np.array(codes[name], "<u8").tobytes()
            assert there["fingerprint"] == (fingerprint or None)
            assert there["source"] == (Source.CATALOGUE if fingerprint else Source.HTTP)
            told = {name: value for name, value in values.items() if value not in (None, "")}
            unknown += sum(expected[name] in (None, "") for name in told)
            unknown += told.get("listing_id", image_id) != expected["listing_id"]
        noted = [json.loads(line) for line in Path(report.report).read_text().splitlines()]
        assert len(noted) == report.left_out + report.attributes_unknown + report.photos_missing
        assert report.photos_missing == 0
        assert bool(report.attributes_unknown) == bool(unknown)
        assert report.is_whole == (not noted)


def test_upgrade_takes_the_newer_of_two_rows_with_one_id(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    old.upsert([row(old, "a", title="first"), row(old, "b")])
    old.append([row(old, "a", 1, title="last")])
    collection, report = upgraded(tmp_path / "store")
    assert (report.rows, report.taken, report.left_out) == (3, 2, 1)
    assert rows_in(collection)["a"]["title"] == "last"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([f"id {n}" for n in range(20)]), max_size=6), max_size=12),
    st.sampled_from([1, 3000, 1 << 20]),
    st.integers(2, 4),
)
def test_write_sorted_keeps_the_last_row_of_each_key(tables: list[list[str]], run_bytes: int, max_runs: int) -> None:
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RUN_BYTES", run_bytes)
        patch.setattr(module, "MAX_RUNS", max_runs)
        bucket = Bucket(Location.parse(scratch) / "0000")
        bucket.create()
        expected: dict[str, str] = {}
        replaced: list[str] = []
        for number, ids in enumerate(tables):
            expected |= dict.fromkeys(ids, str(number))
        written = write_sorted(
            bucket,
            (rows_of(ids, str(number)) for number, ids in enumerate(tables)),
            lambda rows: replaced.extend(rows["image_id"].to_pylist()),
        )
        batches = list(bucket.changes(bucket.head(), 0, ("image_id", "title", "key"), fail))
        found = [row for batch in batches for row in batch.to_pylist()]
        assert {row["image_id"]: row["title"] for row in found} == expected
        assert [row["key"] for row in found] == sorted(row["key"] for row in found)
        assert written == len(expected)
        every_id = [image_id for ids in tables for image_id in ids]
        assert sorted([*expected, *replaced]) == sorted(every_id)
        assert len(list(Path(scratch, "0000/segments").glob("*"))) == bool(expected)  # no run is left


# --- photos


def test_upgrade_copies_uploads_of_a_moved_store(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "before", write_spec(tmp_path / "model"))
    contents = {f"up/{n}": b"photo %d" % n for n in range(20)}
    old.upsert([row(old, i, fingerprint=0, photo=old.add_photo(i, c, ".png")) for i, c in contents.items()])
    old.upsert([row(old, "gone", fingerprint=0, photo=(gone := old.add_photo("gone", b"x")))])
    Path(gone).unlink()
    shutil.move(tmp_path / "before", tmp_path / "after")
    collection, report = upgraded(tmp_path / "after")
    assert (report.taken, report.uploads, report.photos_missing) == (21, 20, 1)
    found = rows_in(collection)
    for image_id, content in contents.items():
        assert found[image_id]["photo"].endswith(".png")
        assert photo_in(collection, found[image_id]["photo"]) == content
    assert found["gone"]["photo"] == ""
    shutil.rmtree(report.kept)
    shutil.move(tmp_path / "after", tmp_path / "again")
    moved = Collection.open(Location.parse(tmp_path / "again"), "default")
    assert photo_in(moved, found["up/3"]["photo"]) == contents["up/3"]


def test_upgrade_finds_uploads_where_they_were_if_only_the_rest_was_copied(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "before", write_spec(tmp_path / "model"))
    old.upsert([row(old, "a", fingerprint=0, photo=old.add_photo("a", b"there"))])
    shutil.copytree(tmp_path / "before", tmp_path / "after", ignore=shutil.ignore_patterns("photos"))
    collection, report = upgraded(tmp_path / "after")
    assert report.is_whole
    assert photo_in(collection, rows_in(collection)["a"]["photo"]) == b"there"


def test_upgrade_names_catalogue_photos_below_their_catalogues(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    shoes, bags = tmp_path / "shoes", tmp_path / "bags"
    for folder in (shoes / "red", shoes / "blue", bags / "img"):
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(str(folder).encode())
    old.upsert([row(old, name, photo=str(shoes / name)) for name in ("red/1.jpg", "blue/1.jpg")])
    old.upsert([row(old, "bag one", photo=str(bags / "img/1.jpg")), row(old, "odd", photo="relative.jpg")])
    collection, report = upgraded(tmp_path / "store")
    found = rows_in(collection)
    names = {image_id: found[image_id]["photo"].split("/", 2) for image_id in found if image_id != "odd"}
    assert {image_id: name[2] for image_id, name in names.items()} == {
        "red/1.jpg": "red/1.jpg",
        "blue/1.jpg": "blue/1.jpg",
        "bag one": "1.jpg",
    }
    assert names["red/1.jpg"][:2] == names["blue/1.jpg"][:2] != names["bag one"][:2]
    for image_id, photo in (("red/1.jpg", shoes / "red/1.jpg"), ("bag one", bags / "img/1.jpg")):
        assert photo_in(collection, found[image_id]["photo"]) == photo.read_bytes()
    assert (report.photos_missing, found["odd"]["photo"], report.folders_missing) == (1, "", [])


def test_upgrade_says_which_catalogue_folders_are_not_there(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    old.upsert([row(old, "a.jpg", photo="/nowhere/shoes/a.jpg")])
    collection, report = upgraded(tmp_path / "store")
    assert report.is_whole
    assert report.folders_missing == ["/nowhere/shoes"]
    assert collection.sources.resolve(rows_in(collection)["a.jpg"]["photo"])[0] == Location.parse("/nowhere/shoes")


# --- what later writes meet


def test_upgraded_put_survives_an_unchanged_catalogue_and_yields_to_a_newer_one(tmp_path: Path) -> None:
    unchanged_since = datetime.now(UTC)
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    old.upsert([row(old, "put", fingerprint=0, photo=old.add_photo("put", b"x"), title="put")])
    old.upsert([row(old, "listed", title="listed"), row(old, "removed", title="removed")])
    collection, _ = upgraded(tmp_path / "store")
    finished = datetime.now(UTC)
    collection.delete(["removed"])

    def take_in(stamp: datetime, tag: str, fingerprint: int) -> dict[str, Any]:
        ids = ["put", "listed", "removed"]
        rows = rows_of(ids, tag, source=Source.CATALOGUE, stamp=stamp, fingerprints=[fingerprint] * 3)
        collection.take_in(rows)
        return {i: found["title"] for i, found in collection.find(ids, ["title"]).items()}

    # The catalogue's own image is encoded once more, since fingerprints of 0.1 are not ours.
    assert take_in(unchanged_since, "same", 1) == {"put": "put", "listed": "same"}
    later = datetime.now(UTC)
    assert later > finished
    assert take_in(later, "new", 2) == {"put": "new", "listed": "new", "removed": "new"}


def test_upgraded_rows_have_the_time_of_the_newest_commit_as_stamp(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"), buckets=1)
    start = datetime.now(UTC)
    old.upsert([row(old, "a")])
    end = datetime.now(UTC)
    shutil.copytree(tmp_path / "store", tmp_path / "copy", copy_function=shutil.copyfile)
    (there,) = rows_in(upgraded(tmp_path / "copy")[0]).values()
    assert start <= there["stamp"] <= end


# --- the act


def test_upgrade_again_does_nothing(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    old.upsert([row(old, "a")])
    before = files_below(old.folder)
    _, report = upgraded(tmp_path / "store")
    assert files_below(Path(report.kept)) == before
    after = files_below(tmp_path / "store")
    assert upgrade(Location.parse(tmp_path / "store"), "default", no_progress) == []
    assert files_below(tmp_path / "store") == after


def test_upgrade_takes_over_every_version_and_the_alias_stays(tmp_path: Path) -> None:
    first = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    second = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "other", arrays="1" * 64))
    first.upsert([row(first, "a", fingerprint=0, photo=first.add_photo("a", b"x"))])
    second.upsert([row(second, "b")])
    root = Location.parse(tmp_path / "store")
    reports = upgrade(root, "default", no_progress)
    assert {report.version for report in reports} == {first.version, second.version} == set(versions(root, "default"))
    served = Collection.open(root, "default")
    assert (served.version, set(rows_in(served))) == (first.version, {"a"})
    assert set(rows_in(Collection.open(root, "default", second.version))) == {"b"}
    served.drop_photo("a", rows_in(served)["a"]["photo"])  # looks at every version


def test_upgrade_leaves_a_damaged_version_as_it_is(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"), buckets=1)
    old.upsert([row(old, f"a{n}") for n in range(100)])
    (data,) = old.bucket(0).glob("data/*")
    os.truncate(data, data.stat().st_size // 2)
    before = files_below(old.folder)
    with pytest.raises(StoreUnavailable, match=r"00\.lance"):
        upgrade(Location.parse(tmp_path / "store"), "default", no_progress)
    assert files_below(old.folder) == before
    assert versions(Location.parse(tmp_path / "store"), "default") == [old.version]


def test_upgrade_refuses_a_model_that_did_not_make_the_codes(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    write_spec(old.folder / "model", arrays="1" * 64)
    with pytest.raises(StoreMismatch, match="its model folder holds"):
        upgrade(Location.parse(tmp_path / "store"), "default", no_progress)


def test_upgrade_does_not_replace_what_an_earlier_one_kept(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    shutil.copytree(old.folder, old.folder.parent / "v1" / old.version)
    with pytest.raises(StoreUnavailable, match="is there already"):
        upgrade(Location.parse(tmp_path / "store"), "default", no_progress)


def test_upgrade_compares_the_new_version_before_it_is_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"), buckets=1)
    old.upsert([row(old, "a", 1), row(old, "b", 2)])
    before = files_below(old.folder)

    def exchanged(bucket: Bucket, tables: Any, replaced: Any) -> int:
        rows = pa.concat_tables(tables)
        at = rows.schema.get_field_index("long")
        return write_sorted(bucket, [rows.set_column(at, rows.schema.field(at), rows["long"].take([1, 0]))], replaced)

    def short(bucket: Bucket, tables: Any, replaced: Any) -> int:
        return write_sorted(bucket, [pa.concat_tables(tables)[:1]], replaced)

    for broken, message in ((exchanged, "differs .* long"), (short, "was not put in place")):
        monkeypatch.setattr(module, "write_sorted", broken)
        with pytest.raises(StoreUnavailable, match=message):
            upgrade(Location.parse(tmp_path / "store"), "default", no_progress)
        assert files_below(old.folder) == before


def test_upgrade_waits_for_a_commit_of_version_one_and_takes_it_over(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"), buckets=1)
    reports: list[Report] = []
    with local.locked(old.bucket(0).with_suffix(".lock")):
        thread = threading.Thread(
            target=lambda: reports.extend(upgrade(Location.parse(tmp_path / "store"), "default", no_progress))
        )
        thread.start()
        thread.join(0.5)
        old.upsert([row(old, "a")])
        assert thread.is_alive()
    thread.join()
    assert reports[0].taken == 1
    with pytest.raises(ValueError, match="not found"):
        lance.dataset(str(old.bucket(0)))


# --- kill -9

KILLER = """
import contextlib, os, signal, sys
from lookalike.ingest.store.upgrade import upgrade
from lookalike.storage import Location, local

class Killer(local.Disk):
    left = int(sys.argv[2])

def step(name):
    def call(self, *arguments):
        Killer.left -= 1
        if Killer.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(local.Disk, name)(self, *arguments)
    return call

for name in ("create", "write", "fsync", "rename", "link", "unlink", "mkdir"):
    setattr(Killer, name, step(name))
local.disk = Killer()
upgrade(Location.parse(sys.argv[1]), "default", lambda *_: contextlib.nullcontext(lambda _: None))
print(int(sys.argv[2]) - Killer.left)
"""


def run_and_kill(root: Path, at: int) -> subprocess.CompletedProcess[str]:
    """Upgrade in a process that is killed before its step number ``at`` that changes the disk."""
    command = [sys.executable, "-c", KILLER, str(root), str(at)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_upgrade_killed_at_any_moment_goes_on_or_starts_over(tmp_path: Path) -> None:
    old = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    old.upsert([row(old, f"a{n}", n, photo=str(tmp_path / "catalogue" / f"{n}.jpg")) for n in range(30)])
    old.upsert([row(old, "up", fingerprint=0, photo=old.add_photo("up", b"uploaded")), row(old, "bad/photo")])
    whole = files_below(old.folder)
    shutil.copytree(tmp_path / "store", tmp_path / "once")
    done = run_and_kill(tmp_path / "once", 1_000_000)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    expected = _content(tmp_path / "once")
    # The renames are among the last steps; of the many before them, some.
    moments: Sequence[int] = [*range(2, steps - 12, steps // 4), *range(steps - 12, steps + 1)]
    for moment in moments:
        root = tmp_path / f"killed {moment}"
        shutil.copytree(tmp_path / "store", root)
        assert run_and_kill(root, moment).returncode == -signal.SIGKILL
        folder = root / "default"
        at = [path for path in (folder / old.version, folder / "v1" / old.version) if (path / "head").exists()]
        assert [files_below(path) for path in at] == [whole]
        assert versions(Location.parse(root), "default") in ([old.version], [])
        reports = upgrade(Location.parse(root), "default", no_progress)
        assert [(r.rows, r.taken, r.left_out, r.uploads) for r in reports] in ([(32, 31, 1, 1)], [])
        assert list((folder / "upgrading").glob("*")) == []
        assert _content(root) == expected
        shutil.rmtree(root)


def _content(root: Path) -> dict[str, Any]:
    collection = Collection.open(Location.parse(root), "default")
    found = rows_in(collection)
    assert photo_in(collection, found["up"]["photo"]) == b"uploaded"
    return {"alias": (root / "default" / "alias").read_text(), **found}
