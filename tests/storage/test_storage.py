"""The laws of storage, on a disk and on S3."""

from __future__ import annotations

import io
import multiprocessing
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.counter import ROUNDS, WRITERS, count_up
from support.s3 import S3Server

from lookalike import storage
from lookalike.errors import Conflict, NotFound, StorageUnavailable, TooLarge
from lookalike.storage import Location


def test_storage_reads_what_was_written(root: Location) -> None:
    at = root / "a/b c/é?#%.bin"
    for content in (b"", b"one", bytes(range(256)) * 500):
        version = storage.write(at, content)
        assert storage.read(at) == content
        assert storage.read_versioned(at) == (content, version)
        assert storage.info(at).size_bytes == len(content)


def test_storage_reads_large_content_in_pieces(root: Location) -> None:
    content = random.Random(0).randbytes(20_000_001)
    storage.write(root / "large", content)
    assert storage.read(root / "large") == content
    assert storage.read_versioned(root / "large")[0] == content


def test_storage_says_not_found_for_what_is_not_there(root: Location) -> None:
    storage.write(root / "folder/file", b"1")
    for name in ("other", "folder", "folder/file/below", "x" * 300):
        for read in (storage.read, storage.read_versioned, storage.info, storage.open_random):
            with pytest.raises(NotFound, match="is not"):
                read(root / name)
        with pytest.raises(NotFound):
            storage.read_if_changed(root / name, None)
        with pytest.raises(NotFound):
            storage.move(root / name, root / "target")
        assert not storage.exists(root / name)
    assert storage.exists(root / "folder/file")
    assert storage.list_tree(root) == ["folder/file"]


def test_storage_read_refuses_more_than_the_limit(root: Location) -> None:
    storage.write(root / "a", b"12345")
    assert storage.read(root / "a", max_bytes=5) == b"12345"
    for limit in (4, 0):
        with pytest.raises(TooLarge, match=f"more than {limit}"):
            storage.read(root / "a", max_bytes=limit)


def test_storage_read_if_changed_gives_none_for_the_same_version(root: Location) -> None:
    first = storage.write(root / "a", b"1")
    assert storage.read_if_changed(root / "a", first) is None
    assert storage.read_if_changed(root / "a", None) == (b"1", first)
    second = storage.write(root / "a", b"2")
    assert storage.read_if_changed(root / "a", first) == (b"2", second)


def test_storage_create_never_overwrites(root: Location) -> None:
    version = storage.create(root / "a/b", b"1")
    for content in (b"1", b"2"):
        with pytest.raises(Conflict, match="is there already"):
            storage.create(root / "a/b", content)
    assert storage.read_versioned(root / "a/b") == (b"1", version)


def test_storage_replace_needs_the_present_version(root: Location) -> None:
    for name in ("a", "no/folder"):
        with pytest.raises(Conflict):
            storage.replace(root / name, b"1", "some version")
    first = storage.create(root / "a", b"1")
    second = storage.replace(root / "a", b"2", first)
    with pytest.raises(Conflict, match="read it again"):
        storage.replace(root / "a", b"3", first)
    assert storage.read_versioned(root / "a") == (b"2", second)
    storage.remove(root / "a")
    with pytest.raises(Conflict):
        storage.replace(root / "a", b"3", second)
    assert storage.list_tree(root) == []


def test_storage_lists_one_level_sorted(root: Location) -> None:
    assert storage.list_names(root) == []
    for name in ("b", "a/x", "a/y/z", "c.d", ".hidden", "B"):
        storage.write(root / name, b"")
    assert storage.list_names(root) == [".hidden", "B", "a", "b", "c.d"]
    assert storage.list_names(root / "a") == ["x", "y"]
    assert storage.list_names(root / "b") == []
    assert storage.list_tree(root) == [".hidden", "B", "a/x", "a/y/z", "b", "c.d"]
    assert storage.list_tree(root / "a") == ["x", "y/z"]
    for name in ("a/x", "a/y/z"):
        storage.remove(root / name)
    assert storage.list_names(root) == [".hidden", "B", "b", "c.d"]


def test_storage_remove_of_a_missing_file_is_no_error(root: Location) -> None:
    storage.remove(root / "a/b")
    storage.write(root / "a/b", b"1")
    storage.remove(root / "a/b")
    storage.remove(root / "a/b")
    assert not storage.exists(root / "a/b")


def test_storage_move_takes_the_content_along_and_replaces(root: Location) -> None:
    storage.write(root / "a", b"1")
    storage.write(root / "b/c", b"2")
    storage.move(root / "a", root / "b/c")
    assert storage.list_tree(root) == ["b/c"]
    storage.move(root / "b/c", root / "b/c")
    assert storage.read(root / "b/c") == b"1"


def test_storage_info_changes_with_the_content(root: Location) -> None:
    before = datetime.now(UTC)
    storage.write(root / "a", b"1")
    first = storage.info(root / "a")
    assert storage.info(root / "a") == first
    assert abs(first.modified - before) < timedelta(minutes=1)
    storage.write(root / "a", b"2")
    assert storage.info(root / "a").version != first.version


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_storage_open_random_reads_any_range(root: Location, size: int) -> None:
    content = random.Random(size).randbytes(size)
    storage.write(root / "a", content)
    rng = random.Random(1)
    with storage.open_random(root / "a") as file:
        assert file.size() == size
        for _ in range(40):
            start = rng.randint(0, size)
            length = rng.choice([0, 1, 100, 300_000, size])
            file.seek(start)
            assert file.read(length) == content[start : start + length]
        file.seek(0)
        assert b"".join(iter(lambda: file.read(65_537), b"")) == content
    assert file.closed


def test_storage_open_random_serves_arrow_files(root: Location) -> None:
    table = pa.table({"id": np.arange(300_000), "text": [str(n) for n in range(300_000)]})
    with storage.create_file(root / "t.arrow") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=50_000)
    with storage.open_random(root / "t.arrow") as file:
        reader = pa.ipc.open_file(file)
        assert reader.num_record_batches == 6
        assert reader.get_batch(4).column("id")[0].as_py() == 200_000
        assert reader.read_all().equals(table)


@pytest.mark.parametrize("size", [0, 10, 5_000_000, 17_000_000, 40_000_000])
def test_storage_create_file_appears_when_it_is_whole(root: Location, size: int) -> None:
    content = random.Random(size).randbytes(size)
    with storage.create_file(root / "a/b") as file:
        for start in range(0, size, 3_000_000):
            file.write(content[start : start + 3_000_000])
        assert storage.list_tree(root) == []
        assert file.tell() == size
    assert storage.read(root / "a/b") == content
    with pytest.raises(Conflict, match="is there already"), storage.create_file(root / "a/b") as file:
        file.write(bytes(size))
    assert storage.read(root / "a/b") == content
    assert storage.list_tree(root) == ["a/b"]


def test_storage_create_file_can_seek_and_be_closed_by_the_block(root: Location) -> None:
    arrays: dict[str, Any] = {"a": np.arange(10), "b": np.ones((3, 3))}
    with storage.create_file(root / "a.npz") as file, file:
        np.savez(file, **arrays)
    found = np.load(io.BytesIO(storage.read(root / "a.npz")))
    np.testing.assert_array_equal(found["a"], arrays["a"])
    with storage.create_file(root / "b") as file:
        file.write(b"....end")
        file.seek(0)
        file.write(b"head")
        file.seek(0, io.SEEK_END)
        file.write(b"!")
    assert storage.read(root / "b") == b"headend!"


def test_storage_create_file_leaves_nothing_after_an_exception(root: Location) -> None:
    def fail(size: int) -> None:
        with storage.create_file(root / "a") as file:
            file.write(bytes(size))
            raise KeyError

    for size in (10, 20_000_000):
        with pytest.raises(KeyError):
            fail(size)
    assert storage.list_tree(root) == []
    if root.is_local:
        assert list(root.path.iterdir()) == []


def test_storage_copies_trees_between_disk_and_s3(root: Location, tmp_path: Path, s3_server: S3Server) -> None:
    contents = {"model.json": b"{}", "weights/a": bytes(1000), "weights/b": b""}
    for name, content in contents.items():
        storage.write(root / name, content)
    for target in (Location.parse(tmp_path / "copy"), s3_server.new_root()):
        storage.copy_tree(root, target)
        storage.copy_tree(root, target)
        assert {name: storage.read(target / name) for name in storage.list_tree(target)} == contents
    with storage.local_folder(root) as folder:
        assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == contents
        assert (folder == Path(str(root))) == root.is_local
    assert folder.exists() == root.is_local
    with pytest.raises(NotFound), storage.local_folder(root / "nothing"):
        pass
    with pytest.raises(NotFound):
        storage.copy_tree(root / "nothing", root / "copy")


def test_storage_import_is_cheap() -> None:
    code = (
        "import sys, lookalike.storage as s\n"
        "s.write(s.Location.parse(sys.argv[1]), b'1')\n"
        "print([name for name in ('boto3', 'botocore', 'pyarrow', 'numpy', 'urllib3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "/dev/shm/lookalike-test"], capture_output=True, text=True)
    Path("/dev/shm/lookalike-test").unlink(missing_ok=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("function", [storage.read_versioned, storage.info, storage.list_names, storage.remove])
def test_storage_of_a_web_address_can_only_be_read(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="can only be read"):
        function(Location.parse("https://host/a"))


def test_storage_replace_loses_no_update_of_racing_processes(root: Location) -> None:
    counter = root / "counter"
    storage.create(counter, b"0")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WRITERS)
    processes = [context.Process(target=count_up, args=(counter, barrier)) for _ in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert int(storage.read(counter)) == WRITERS * ROUNDS
    assert storage.list_names(root) == ["counter"]


def test_storage_remove_leftovers_ends_what_a_killed_writer_began(root: Location) -> None:
    storage.write(root / "folder/file", b"1")
    code = (
        "import os, sys\n"
        "from lookalike import storage\n"
        "from lookalike.storage import s3_upload\n"
        "s3_upload._complete = lambda *_: os._exit(9)\n"
        "with storage.create_file(storage.Location.parse(sys.argv[1])) as file:\n"
        "    file.write(bytes(20_000_000))\n"
        "    if not sys.argv[1].startswith('s3:'):\n"
        "        os._exit(9)\n"
    )
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", code, str(root / "folder/large")], check=False)
        assert killed.returncode == 9
    assert storage.list_tree(root) == ["folder/file"]
    if root.is_local:  # the test server says that every upload began in 2010
        assert storage.remove_leftovers(root, older_than_s=3600) == 0
    assert storage.remove_leftovers(root, older_than_s=-1) == 2
    assert storage.remove_leftovers(root, older_than_s=-1) == 0
    assert storage.remove_leftovers(root / "nothing", older_than_s=-1) == 0
    assert storage.list_tree(root) == ["folder/file"]
    if root.is_local:
        assert sorted(path.name for path in root.path.rglob("*")) == ["file", "folder"]


NAMES = st.sampled_from(["a", "b/c", "b/d", "e/f/g", "e/f/h"])
CONTENTS = st.binary(max_size=20)


class StorageAgainstADictionary(RuleBasedStateMachine):
    """Every operation does to a location what it does to a dictionary of contents."""

    root: Location

    @initialize()
    def start(self) -> None:
        self.expected: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        for name in storage.list_tree(self.root):
            storage.remove(self.root / name)

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: bytes) -> None:
        self.versions[name] = storage.write(self.root / name, content)
        self.expected[name] = content

    @rule(name=NAMES, content=CONTENTS, streamed=st.booleans())
    def create(self, name: str, content: bytes, streamed: bool) -> None:
        try:
            if streamed:
                with storage.create_file(self.root / name) as file:
                    file.write(content)
            else:
                storage.create(self.root / name, content)
        except Conflict:
            assert name in self.expected
        else:
            assert name not in self.expected
            self.expected[name] = content
            self.versions[name] = storage.read_versioned(self.root / name)[1]

    @rule(name=NAMES, content=CONTENTS)
    def replace(self, name: str, content: bytes) -> None:
        try:
            version = storage.replace(self.root / name, content, self.versions.get(name, "none"))
        except Conflict:
            assert name not in self.expected
        else:
            assert name in self.expected
            self.expected[name], self.versions[name] = content, version

    @rule(name=NAMES, content=CONTENTS)
    def replace_an_old_version(self, name: str, content: bytes) -> None:
        if name not in self.expected or content == self.expected[name]:
            return
        old = self.versions[name]
        self.write(name, content)
        with pytest.raises(Conflict):
            storage.replace(self.root / name, b"stale", old)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        storage.remove(self.root / name)
        self.expected.pop(name, None)
        self.versions.pop(name, None)

    @rule(source=NAMES, to=NAMES)
    def move(self, source: str, to: str) -> None:
        if source not in self.expected:
            with pytest.raises(NotFound):
                storage.move(self.root / source, self.root / to)
            return
        storage.move(self.root / source, self.root / to)
        self.expected[to] = self.expected.pop(source)
        self.versions.pop(source)
        self.versions[to] = storage.read_versioned(self.root / to)[1]

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        assert storage.exists(self.root / name) == (name in self.expected)
        if name in self.expected:
            assert storage.read(self.root / name) == self.expected[name]
            assert storage.read_if_changed(self.root / name, self.versions[name]) is None
            assert storage.info(self.root / name).size_bytes == len(self.expected[name])

    @invariant()
    def listings_agree(self) -> None:
        names = sorted(self.expected)
        assert storage.list_tree(self.root) == names
        assert storage.list_names(self.root) == sorted({name.split("/")[0] for name in names})
        assert storage.list_names(self.root / "e") == (["f"] if any(name.startswith("e/") for name in names) else [])


def test_storage_agrees_with_a_dictionary(root: Location) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Machine", (StorageAgainstADictionary,), {"root": root})
    examples = 60 if root.is_local else 15
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=20, deadline=None))


def test_storage_messages_say_which_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match=f"cannot write {tmp_path}/file/below: Not a directory"):
        storage.write(Location.parse(tmp_path) / "file/below", b"")
    with pytest.raises(StorageUnavailable, match="Is a directory"):
        storage.write(Location.parse(tmp_path), b"")


def test_storage_write_that_need_not_be_durable_is_seen_at_once(root: Location) -> None:
    for content in (b"old", b"new", b""):
        version = storage.write(root / "token", content, durable=False)
        assert storage.read_versioned(root / "token") == (content, version)
