"""S3 when the network fails: nothing is lost, nothing is done twice, and what is not transient is reported at once."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.counter import ROUNDS, append_ids
from support.s3 import BUCKET, Fault, Faults, S3Server

from lookalike import storage
from lookalike.errors import Conflict, NotFound, StorageUnavailable, TooLarge
from lookalike.storage import Location, s3, s3_reader, s3_retry, s3_upload

PASSING = [Fault.UNAVAILABLE, Fault.BROKEN, Fault.DROPPED_BEFORE, Fault.DROPPED_AFTER, Fault.TRUNCATED]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, s3_server: S3Server) -> Iterator[None]:
    """A deadline and a timeout that a test can wait for."""
    monkeypatch.setattr(s3_retry, "DEADLINE_S", 3.0)
    monkeypatch.setattr(s3, "READ_TIMEOUT_S", 0.5)
    s3.forget_client()
    s3.client()
    yield
    s3.forget_client()


@pytest.mark.parametrize("fault", PASSING)
def test_s3_operations_survive_transient_faults(s3_root: Location, faults: Faults, fault: Fault) -> None:
    def with_faults(times: int = 2) -> None:
        faults.clear()
        faults.add(fault, times)

    with_faults()
    first = storage.create(s3_root / "a", b"1")
    with_faults()
    assert storage.read_versioned(s3_root / "a") == (b"1", first)
    with_faults()
    second = storage.replace(s3_root / "a", b"2", first)
    with_faults()
    assert storage.read_if_changed(s3_root / "a", second) is None
    with_faults()
    assert storage.read_if_changed(s3_root / "a", first) == (b"2", second)
    with_faults()
    storage.write(s3_root / "b/c", b"3")
    with_faults()
    assert storage.list_names(s3_root) == ["a", "b"]
    with_faults()
    storage.move(s3_root / "a", s3_root / "d")
    with_faults()
    assert storage.list_tree(s3_root) == ["b/c", "d"]
    with_faults()
    with storage.open_random(s3_root / "d") as file:
        assert file.read() == b"2"
    with_faults()
    storage.remove(s3_root / "d")
    with_faults()
    assert not storage.exists(s3_root / "d")


@pytest.mark.parametrize("fault", [Fault.DROPPED_AFTER, Fault.BROKEN])
def test_s3_conditional_put_whose_answer_was_lost_has_succeeded(
    s3_root: Location, faults: Faults, fault: Fault
) -> None:
    faults.add(fault, methods={"PUT"})
    version = storage.create(s3_root / "a", b"1")
    assert storage.read_versioned(s3_root / "a") == (b"1", version)
    faults.add(fault, 2, methods={"PUT"})
    version = storage.replace(s3_root / "a", b"2", version)
    assert storage.read_versioned(s3_root / "a") == (b"2", version)


def test_s3_conditional_put_conflicts_although_an_answer_was_lost(s3_root: Location, faults: Faults) -> None:
    version = storage.create(s3_root / "a", b"other")
    faults.add(Fault.DROPPED_AFTER, methods={"PUT"})
    with pytest.raises(Conflict):
        storage.create(s3_root / "a", b"other")  # equal content of another writer is not ours
    faults.add(Fault.DROPPED_AFTER, methods={"PUT"})
    with pytest.raises(Conflict):
        storage.replace(s3_root / "a", b"mine", '"00000000000000000000000000000000"')
    assert storage.read_versioned(s3_root / "a") == (b"other", version)
    storage.remove(s3_root / "a")
    faults.add(Fault.DROPPED_AFTER, methods={"PUT"})
    with pytest.raises(Conflict):
        storage.replace(s3_root / "a", b"mine", version)
    assert storage.list_tree(s3_root) == []


def test_s3_put_is_tried_again_beside_another_conditional_put(s3_root: Location, faults: Faults) -> None:
    faults.add(Fault.BUSY, 2, methods={"PUT"})
    version = storage.create(s3_root / "a", b"1")
    faults.add(Fault.BUSY, 2, methods={"PUT"})
    storage.replace(s3_root / "a", b"2", version)
    assert storage.read(s3_root / "a") == b"2"


@pytest.mark.usefixtures("impatient")
def test_s3_put_survives_an_answer_after_the_timeout(s3_root: Location, faults: Faults) -> None:
    faults.add(Fault.SLOW, methods={"PUT"}, delay_s=1.0)
    version = storage.create(s3_root / "a", b"1")
    faults.add(Fault.SLOW, methods={"GET"}, delay_s=1.0)
    assert storage.read_versioned(s3_root / "a") == (b"1", version)


def test_s3_replace_applies_each_change_once_among_racing_processes_with_lost_answers(
    s3_root: Location, faults: Faults
) -> None:
    log = s3_root / "log"
    storage.create(log, b"")
    faults.add(Fault.DROPPED_AFTER, None, probability=0.2, methods={"PUT"})
    faults.add(Fault.UNAVAILABLE, None, probability=0.1)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=append_ids, args=(log, barrier, writer)) for writer in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    faults.clear()
    ids = storage.read(log).decode().split()
    assert sorted(ids) == sorted(f"{writer}/{number}" for writer in range(3) for number in range(ROUNDS))


def test_s3_operations_take_one_request(s3_root: Location, faults: Faults) -> None:
    def cost(operation: Callable[[], object]) -> dict[str, int]:
        with faults.counting() as requests:
            operation()
        return dict(requests)

    at = s3_root / "a"
    version = storage.create(at, b"1")
    assert cost(lambda: storage.create(s3_root / "b", b"1")) == {"PUT": 1}
    assert cost(lambda: storage.write(s3_root / "c", b"1")) == {"PUT": 1}
    assert cost(lambda: storage.read_if_changed(at, version)) == {"GET": 1}
    assert cost(lambda: storage.read_versioned(at)) == {"GET": 1}
    assert cost(lambda: storage.replace(at, b"2", version)) == {"PUT": 1}
    assert cost(lambda: storage.list_names(s3_root)) == {"GET": 1}
    assert cost(lambda: storage.info(at)) == {"HEAD": 1}
    assert cost(lambda: storage.remove(at)) == {"DELETE": 1}

    def conflict() -> None:
        with pytest.raises(Conflict):
            storage.create(s3_root / "b", b"2")

    assert cost(conflict) == {"PUT": 1}

    def stream() -> None:
        with storage.create_file(s3_root / "d") as file:
            file.write(bytes(1000))

    assert cost(stream) == {"PUT": 1}
    assert cost(lambda: storage.open_random(s3_root / "d").read()) == {"GET": 1}


def test_s3_open_random_reads_ahead_and_keeps_blocks(s3_root: Location, faults: Faults) -> None:
    content = random.Random(0).randbytes(20 << 20)
    storage.write(s3_root / "a", content)
    with storage.open_random(s3_root / "a") as file:
        with faults.counting() as requests:
            found = b"".join(iter(lambda: file.read(100_000), b""))
        assert found == content
        assert requests["GET"] <= 2 + 20 // 8
        with faults.counting() as requests:
            file.seek(len(content) - 1_000_000)
            assert file.read() == content[-1_000_000:]
        assert requests["GET"] == 0
        file.seek(5)
        assert file.read(10) == content[5:15]
        with faults.counting() as requests:
            file.seek(100)
            file.read(1000)
        assert requests["GET"] == 0


def test_s3_open_random_keeps_little_in_memory(s3_root: Location) -> None:
    content = random.Random(0).randbytes(48 << 20)
    storage.write(s3_root / "a", content)
    with storage.open_random(s3_root / "a") as file:
        reader = s3_reader.RangeReader(
            s3_root / "a", file.size(), storage.info(s3_root / "a").version, b"", keep_blocks=True
        )
    assert reader.read() == content
    assert len(reader._blocks) <= s3_reader.CACHE_BLOCKS


def test_s3_open_random_without_kept_blocks_keeps_what_it_read_ahead(s3_root: Location, faults: Faults) -> None:
    content = random.Random(1).randbytes(20 << 20)
    storage.write(s3_root / "a", content)
    reader = s3_reader.RangeReader(
        s3_root / "a", len(content), storage.info(s3_root / "a").version, b"", keep_blocks=False
    )
    with faults.counting() as requests:
        found = []
        while piece := reader.read(900_000):
            found.append(piece)
            assert len(reader._blocks) <= s3_reader.AHEAD_BLOCKS + 4
    assert b"".join(found) == content
    assert requests["GET"] <= 2 + 20 // 8
    for start in (3_000_000, 17_000_000, 200_000):
        reader.seek(start)
        assert reader.read(10_000) == content[start : start + 10_000]
    assert len(reader._blocks) <= 2


def test_s3_open_random_never_mixes_two_versions(s3_root: Location) -> None:
    storage.write(s3_root / "a", b"1" * 3_000_000)
    with storage.open_random(s3_root / "a") as file:
        assert file.read(10) == b"1" * 10
        storage.write(s3_root / "a", b"2" * 3_000_000)
        file.seek(1_000_000)
        with pytest.raises(Conflict, match="open it again"):
            file.read(10)
        storage.remove(s3_root / "a")
        with pytest.raises(NotFound):
            file.read(10)


def test_s3_read_of_a_large_object_begins_again_when_it_was_replaced(
    s3_root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(s3_root / "a", b"1" * 20_000_000)
    original = s3.read_range
    replaced: list[str] = []

    def replace_once(*arguments: object) -> bytes:
        if not replaced:
            replaced.append(storage.write(s3_root / "a", b"2" * 17_000_000))
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(s3, "read_range", replace_once)
    assert storage.read(s3_root / "a") == b"2" * 17_000_000


@pytest.mark.parametrize("fault", PASSING)
def test_s3_upload_in_parts_survives_faults(s3_root: Location, faults: Faults, fault: Fault) -> None:
    content = random.Random(0).randbytes(40_000_000)
    faults.add(fault, 1, methods={"POST"})
    faults.add(fault, 1, methods={"PUT"})
    faults.add(fault, 1, methods={"POST"}, key="uploadId")
    with storage.create_file(s3_root / "a") as file:
        file.write(content)
    faults.clear()
    assert storage.read(s3_root / "a") == content


@pytest.mark.usefixtures("impatient")
def test_s3_upload_that_failed_leaves_nothing(s3_root: Location, faults: Faults) -> None:
    faults.add(Fault.UNAVAILABLE, None, methods={"PUT"})

    def write() -> None:
        with storage.create_file(s3_root / "a") as file:
            file.write(bytes(20_000_000))

    with pytest.raises(StorageUnavailable, match="SlowDown"):
        write()
    assert storage.list_tree(s3_root) == []
    assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=BUCKET, Prefix=s3_root.key)


def test_s3_upload_whose_parts_were_removed_says_so_unless_it_was_complete(s3_root: Location, faults: Faults) -> None:
    def write(name: str) -> None:
        with storage.create_file(s3_root / name) as file:
            file.write(bytes(20_000_000))

    faults.add(Fault.GONE, methods={"POST"}, key="uploadId")
    with pytest.raises(StorageUnavailable, match="write it again"):
        write("a")
    assert storage.list_tree(s3_root) == []
    faults.add(Fault.DROPPED_AFTER, methods={"POST"}, key="uploadId")
    faults.add(Fault.GONE, methods={"POST"}, key="uploadId")
    write("a")
    assert storage.list_tree(s3_root) == ["a"]


def test_s3_move_of_a_large_object_copies_in_parts(s3_root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_upload, "COPY_BYTES", 5 << 20)
    content = random.Random(0).randbytes(12_000_000)
    storage.write(s3_root / "a", content)
    storage.write(s3_root / "b", b"old")
    storage.move(s3_root / "a", s3_root / "b")
    assert storage.list_tree(s3_root) == ["b"]
    assert storage.read(s3_root / "b") == content


def test_s3_listings_go_on_after_a_page(s3_root: Location, monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    monkeypatch.setattr(s3, "PAGE_NAMES", 3)
    names = [f"{n}" for n in range(10)] + ["a/1", "a/2", "b/1"]
    for name in names:
        storage.write(s3_root / name, b"")
    s3.client().put_object(Bucket=BUCKET, Key=f"{s3_root.key}/")  # as some tools mark a folder
    s3.client().put_object(Bucket=BUCKET, Key=f"{s3_root.key}/empty/")
    faults.add(Fault.UNAVAILABLE, None, probability=0.3)
    assert storage.list_tree(s3_root) == sorted(names)
    assert storage.list_names(s3_root) == sorted([*(f"{n}" for n in range(10)), "a", "b", "empty"])


@pytest.mark.parametrize(
    "operation",
    [
        storage.read,
        storage.info,
        storage.list_names,
        storage.list_tree,
        storage.open_random,
        storage.remove,
        lambda at: storage.write(at, b""),
        lambda at: storage.create(at, b""),
        lambda at: storage.replace(at, b"", '"0"'),
    ],
)
@pytest.mark.usefixtures("s3_server")
def test_s3_missing_bucket_is_reported_at_once(faults: Faults, operation: Callable[[Location], object]) -> None:
    with faults.counting() as requests, pytest.raises(StorageUnavailable, match="there is no bucket 'no-such-bucket'"):
        operation(Location.parse("s3://no-such-bucket/a"))
    assert requests.total() <= 2


def test_s3_denied_access_is_reported_at_once(s3_root: Location, faults: Faults) -> None:
    for operation in (storage.read, storage.exists, storage.list_names, storage.open_random):
        faults.add(Fault.DENIED)
        with faults.counting() as requests, pytest.raises(StorageUnavailable, match=r"denied.*s3:GetObject"):
            operation(s3_root / "a")
        assert requests.total() == 1


@pytest.mark.usefixtures("impatient")
def test_s3_without_credentials_says_what_to_set(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    at = Location.parse(f"s3://{BUCKET}/a")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    s3.forget_client()
    with faults.counting() as requests:
        for operation in (storage.read, lambda at: storage.presigned_url(at, 60)):
            with pytest.raises(StorageUnavailable, match=r"no credentials.*AWS_PROFILE"):
                operation(at)
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        s3.forget_client()
        with pytest.raises(StorageUnavailable, match="nobody"):
            storage.read(at)
    assert requests.total() == 0


@pytest.mark.usefixtures("impatient")
def test_s3_gives_up_at_the_deadline_and_names_no_secret(
    monkeypatch: pytest.MonkeyPatch, s3_root: Location, faults: Faults
) -> None:
    faults.add(Fault.UNAVAILABLE, None)
    with faults.counting() as requests, pytest.raises(StorageUnavailable, match=r"SlowDown.*tried \d+ times"):
        storage.read(s3_root / "a")
    assert requests["GET"] > 2
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:hidden@127.0.0.1:9")
    s3.forget_client()
    with pytest.raises(StorageUnavailable, match="see whether the server is up") as caught:
        storage.read(s3_root / "a")
    assert "hidden" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    s3.forget_client()
    with pytest.raises(StorageUnavailable, match="AWS_ENDPOINT_URL_S3"):
        storage.read(s3_root / "a")


def test_s3_read_beyond_the_limit_does_not_fetch_it(s3_root: Location, faults: Faults) -> None:
    storage.write(s3_root / "a", bytes(20_000_000))
    with faults.counting() as requests, pytest.raises(TooLarge, match="20,000,000 bytes, more than 1,000"):
        storage.read(s3_root / "a", max_bytes=1000)
    assert requests.total() == 1


def test_s3_presigned_url_gives_the_content_to_anybody(s3_root: Location, tmp_path: Path) -> None:
    storage.write(s3_root / "a b", b"photo")
    url = storage.presigned_url(s3_root / "a b", 60)
    assert url is not None
    assert "Signature" in url
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"photo"
    assert storage.presigned_url(Location.parse(tmp_path), 60) is None


def test_s3_client_is_made_anew_after_a_fork(s3_server: S3Server, s3_root: Location) -> None:
    code = (
        "import os, sys\n"
        "from lookalike import storage\n"
        "from lookalike.storage import s3\n"
        "root = storage.Location.parse(sys.argv[1])\n"
        "storage.write(root / 'parent', b'1')\n"
        "mine = s3.client()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    storage.write(root / 'child', b'2')\n"
        "    os._exit(int(s3.client() is mine))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert storage.list_names(root) == ['child', 'parent']\n"
    )
    subprocess.run([sys.executable, "-c", code, str(s3_root)], check=True, env=os.environ)
