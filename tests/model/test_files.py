"""Files that are missing, odd or claim more than they hold."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lookalike.errors import BadModel
from lookalike.model.files import ArrayType, max_archive_bytes, parse_arrays, read_bytes

PATH = Path("arrays.npz")
VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
TYPES = {"a/b": ArrayType(np.dtype(np.float32), (2, 3)), "c": ArrayType(np.dtype(np.int32), (4,))}
ARRAYS: dict[str, NDArray[Any]] = {"a/b": VALUES, "c": np.arange(4, dtype=np.int32)}


def archive(**changes: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **ARRAYS | changes)
    return buffer.getvalue()


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            with warnings.catch_warnings(action="ignore"):  # that a name comes twice
                file.writestr(name, content)
    return buffer.getvalue()


def as_npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


MEMBERS = [(f"{name}.npy", as_npy(array)) for name, array in ARRAYS.items()]


def unreadable_folder(path: Path) -> None:
    path.mkdir()


def unreadable_loop(path: Path) -> None:
    path.symlink_to(path.name)


def unreadable_pipe(path: Path) -> None:
    os.mkfifo(path)


def unreadable_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def missing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    "make", [missing, unreadable_folder, unreadable_loop, unreadable_pipe, unreadable_device], ids=lambda f: f.__name__
)
def test_read_bytes_names_what_is_no_readable_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file.npz")
    with pytest.raises(BadModel, match=r"file\.npz"):
        read_bytes(tmp_path / "file.npz", 10)


def test_read_bytes_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    assert read_bytes(tmp_path / "f", 10) == b"0123456789"
    with pytest.raises(BadModel, match="larger than the 9 bytes"):
        read_bytes(tmp_path / "f", 9)


ARRAY = hnp.arrays(
    st.sampled_from([np.float32, np.int32, np.float64]),
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)


@given(st.dictionaries(st.from_regex(r"[a-z0-9_.]{1,8}(/[a-z]{1,8})?", fullmatch=True), ARRAY, max_size=4))
def test_parse_arrays_reads_what_numpy_wrote_stored_or_compressed(arrays: dict[str, NDArray[Any]]) -> None:
    arrays = {name: array for name, array in arrays.items() if name not in ("file", "allow_pickle")}
    types = {name: ArrayType(array.dtype, array.shape) for name, array in arrays.items()}
    savers: tuple[Callable[..., None], ...] = (np.savez, np.savez_compressed)
    for save in savers:
        buffer = io.BytesIO()
        save(buffer, **arrays)
        assert len(buffer.getvalue()) <= max_archive_bytes(types)
        found = parse_arrays(PATH, buffer.getvalue(), types)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert found[name].tobytes() == array.tobytes()
            assert found[name].flags.writeable


def test_parse_arrays_reads_fortran_order() -> None:
    found = parse_arrays(PATH, archive(**{"a/b": np.asfortranarray(VALUES)}), TYPES)
    np.testing.assert_array_equal(found["a/b"], VALUES)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive(**{"a/b": VALUES.astype(np.float64)}), "'<f8'"),
        (archive(**{"a/b": VALUES.astype(">f4")}), "'>f4'"),
        (archive(**{"a/b": VALUES.T.copy()}), r"\(3, 2\)"),
        (archive(**{"a/b": np.array([[{}] * 3] * 2, dtype=object)}), r"'\|O'"),
        (archive(more=VALUES), "should not have more"),
        (zipped(MEMBERS[:1]), "lacks the array c"),
        (zipped([*MEMBERS, ("a/b.npy", as_npy(VALUES))]), "twice"),
        (zipped([*MEMBERS[:1], ("c.npy", MEMBERS[1][1][:-1])]), "has not the 16 bytes"),
        (zipped([*MEMBERS[:1], ("c.npy", MEMBERS[1][1] + b"\0")]), "has not the 16 bytes"),
        (zipped([*MEMBERS[:1], ("c.npy", b"")]), ""),
        (zipped([*MEMBERS[:1], ("c.npy", b"\x93NUMPY\2\0" + MEMBERS[1][1][8:])]), "newer NumPy format"),
        (zipped(MEMBERS, zipfile.ZIP_LZMA), "compressed by method 14"),
        (zipped(MEMBERS, zipfile.ZIP_BZIP2), "compressed by method 12"),
        (as_npy(VALUES), ""),
        (b"", ""),
    ],
)
def test_parse_arrays_refuses_other_arrays(content: bytes, reason: str) -> None:
    with pytest.raises(BadModel, match=rf"^arrays\.npz is damaged or of another model: .*{reason}"):
        parse_arrays(PATH, content, TYPES)


def test_parse_arrays_never_unpickles(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    np.savez(tmp_path / "a.npz", allow_pickle=True, **ARRAYS | {"c": np.array([Bomb()] * 4, dtype=object)})
    with pytest.raises(BadModel):
        parse_arrays(PATH, (tmp_path / "a.npz").read_bytes(), TYPES)
    assert not (tmp_path / "exploded").exists()
