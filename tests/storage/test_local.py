"""Durability: what a power cut may leave of local files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.power_cut import Recording, record

from lookalike import storage
from lookalike.errors import Conflict
from lookalike.storage import Location, local

OLD, NEW = b"old " * 1000, b"new " * 3000


def at(folder: Path) -> Location:
    return Location.parse(folder)


def write(folder: Path) -> None:
    storage.write(at(folder) / "deep/er/file", NEW)


def create(folder: Path) -> None:
    storage.create(at(folder) / "deep/er/file", NEW)


def replace(folder: Path) -> None:
    present = storage.read_versioned(at(folder) / "deep/er/file")
    storage.replace(at(folder) / "deep/er/file", NEW, present[1])


def create_file(folder: Path) -> None:
    with storage.create_file(at(folder) / "deep/er/file") as file:
        file.write(NEW[:5000])
        file.write(NEW[5000:])


def write_atomically(folder: Path) -> None:
    local.make_folder(folder / "deep/er")
    local.write_atomically(folder / "deep/er/file", NEW)


def move(folder: Path) -> None:
    storage.write(at(folder) / "other/draft", NEW)
    storage.move(at(folder) / "other/draft", at(folder) / "deep/er/file")


def remove(folder: Path) -> None:
    storage.remove(at(folder) / "deep/er/file")


ABSENT = [(operation, None) for operation in (write, create, create_file, write_atomically, move)]
PRESENT = [(operation, OLD) for operation in (write, replace, write_atomically, move, remove)]


@pytest.mark.parametrize(("operation", "present"), [*ABSENT, *PRESENT])
def test_local_files_survive_a_power_cut_whole_and_once_acknowledged_for_ever(
    tmp_path: Path, operation: Callable[[Path], None], present: bytes | None
) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    if present is not None:
        (folder / "deep/er").mkdir(parents=True)
        (folder / "deep/er/file").write_bytes(present)
    with record(folder) as recording:
        operation(folder)
        recording.note("acknowledged")
    after = None if operation is remove else NEW
    seen = set()
    for cut in recording.cuts():
        found = cut.tree.get("deep/er/file")
        seen.add(found)
        assert found in ({after} if cut.notes else {present, after}), cut
    assert seen == {present, after}
    assert storage.list_tree(at(folder)) == ([] if after is None else ["deep/er/file"])
    assert (not after) or (folder / "deep/er/file").read_bytes() == after


def test_local_replace_in_a_row_never_goes_back_behind_an_acknowledged_version(tmp_path: Path) -> None:
    head = at(tmp_path) / "head"
    versions = [storage.create(head, b"0")]
    with record(tmp_path) as recording:
        for number in range(1, 4):
            versions.append(storage.replace(head, b"%d" % number, versions[-1]))
            recording.note(str(number))
            with pytest.raises(Conflict):
                storage.replace(head, b"stale", versions[0])
    for cut in recording.cuts():
        found = cut.tree["head"]
        assert found is not None
        assert len(cut.notes) <= int(found) <= len(cut.notes) + 1, cut


def test_local_new_folder_survives_a_power_cut_whole_or_not_at_all(tmp_path: Path) -> None:
    with record(tmp_path) as recording:
        with local.new_folder(tmp_path / "models/one") as draft:
            (draft / "model.json").write_bytes(NEW)
            (draft / "weights").mkdir()
            (draft / "weights/a.npz").write_bytes(OLD)
        recording.note("acknowledged")
    whole = {"model.json": NEW, "weights": None, "weights/a.npz": OLD}
    for cut in recording.cuts():
        prefix = "models/one/"
        found = {name[len(prefix) :]: content for name, content in cut.tree.items() if name.startswith(prefix)}
        assert found == whole or ("models/one" not in cut.tree and not cut.notes), cut


def careless(folder: Path, *, sync_content: bool, sync_name: bool) -> Recording:
    """Write as many programs do."""
    with record(folder) as recording:
        descriptor = local.disk.create(folder / "draft")
        local.disk.write(descriptor, NEW, 0)
        if sync_content:
            local.disk.fsync(descriptor, folder / "draft")
        local.disk.rename(folder / "draft", folder / "file")
        if sync_name:
            local.sync(folder)
        recording.note("acknowledged")
    return recording


def test_power_cut_shows_what_a_write_without_syncs_can_lose(tmp_path: Path) -> None:
    def left(folder: str, **syncs: bool) -> set[bytes | None]:
        (tmp_path / folder).mkdir()
        cuts = careless(tmp_path / folder, **syncs).cuts()
        return {cut.tree.get("file") for cut in cuts if cut.notes}

    assert left("careful", sync_content=True, sync_name=True) == {NEW}
    assert left("name", sync_content=True, sync_name=False) == {NEW, None}
    assert left("content", sync_content=False, sync_name=True) == {NEW, b"", NEW[: len(NEW) // 2]}


def test_power_cut_restores_a_folder_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with record(tmp_path / "root") as recording:
        storage.write(at(tmp_path / "root") / "a/b", NEW)
    cuts = list(recording.cuts())
    for number, cut in enumerate(cuts):
        cut.restore(tmp_path / str(number))
        names = storage.list_tree(at(tmp_path / str(number)))
        assert names == (["a/b"] if "a/b" in cut.tree else [])
    assert "a/b" in cuts[-1].tree
