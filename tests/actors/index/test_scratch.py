"""Files without a name: what was written is read, nothing is left, and a full disk is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lookalike.actors.index.scratch import ScratchFile


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("reserve", ["posix_fallocate", "writes"])
@pytest.mark.parametrize(("size", "kept"), [(1, 1), (10_000, 5000), (3 << 20, 1)])
def test_scratch_file_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserve: str, size: int, kept: int
) -> None:
    if reserve == "writes":
        monkeypatch.delattr(os, "posix_fallocate")
    before = open_files()
    file = ScratchFile(tmp_path, size)
    file.data[:] = 7
    data = file.finish(kept)
    assert len(data) == kept
    assert (data == 7).all()
    assert not data.flags.writeable
    assert list(tmp_path.iterdir()) == []
    del data, file
    assert open_files() == before


def test_scratch_file_is_refused_where_there_is_no_room(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(OSError, match=r"large|space"):
        ScratchFile(tmp_path, 1 << 60)
    assert open_files() == before
