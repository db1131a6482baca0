"""The files of a model, read with bounded memory: whatever is wrong with one is a ``BadModel`` that names it.

A file is never larger in memory than what the model's spec says it holds, whatever sizes it claims itself.
"""

from __future__ import annotations

import contextlib
import io
import math
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import BadModel

# NumPy stores; somebody may have compressed an archive to send it. The other methods can claim memory in their headers.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Of a member beside its values: two zip headers with its name and extra fields, and NumPy's header of 128 bytes.
_MEMBER_OVERHEAD_BYTES = 1024


class ArrayType(NamedTuple):
    """What an array must be."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file to read it.

    Yields
    ------
    file : BinaryIO
    size_bytes : int

    Raises
    ------
    BadModel
        It is missing, no regular file (opening a pipe would wait for ever), or an error comes up while it is read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadModel(f"{path} is no regular file")
        with path.open("rb") as file:
            yield file, path.stat().st_size
    except OSError as error:
        raise BadModel(f"{path} cannot be read: {error.strerror or error}") from error


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a whole file.

    Raises
    ------
    BadModel
        It cannot be read or is larger than ``max_bytes``.
    """
    with opened(path) as (file, size_bytes):
        if size_bytes > max_bytes:
            raise BadModel(f"{path} is larger than the {max_bytes:,} bytes that this file can have")
        return file.read(size_bytes)


def max_archive_bytes(expected: Mapping[str, ArrayType]) -> int:
    """Bound the size of an ``.npz`` of these arrays from above."""
    return _MEMBER_OVERHEAD_BYTES + sum(kind.size_bytes + _MEMBER_OVERHEAD_BYTES for kind in expected.values())


def parse_arrays(path: Path, content: bytes, expected: Mapping[str, ArrayType]) -> dict[str, NDArray[Any]]:
    """Take the arrays out of an ``.npz``, without ever unpickling.

    Parameters
    ----------
    path : Path
        Only for the message.
    content : bytes
        Of the file.
    expected : mapping of str to ArrayType
        What the file must hold: these arrays and no others.

    Raises
    ------
    BadModel
        The content is damaged, or holds other arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_names([name.removesuffix(".npy") for name in archive.namelist()], expected)
            return {name: _parse_array(archive, name, kind) for name, kind in expected.items()}
    except Exception as error:
        # zipfile says nowhere what it raises on damaged bytes. Seen: BadZipFile, ValueError, EOFError, zlib.error,
        # struct.error, OverflowError, NotImplementedError, and a RuntimeError where a flipped bit means "encrypted".
        raise BadModel(f"{path} is damaged or of another model: {error or type(error).__name__}") from error


def _check_names(found: list[str], expected: Mapping[str, ArrayType]) -> None:
    if missing := sorted(expected.keys() - set(found)):
        raise ValueError(f"it lacks the array {missing[0]} (and {len(missing) - 1} more)")
    if len(found) > len(expected):
        other = next((name for name in found if name not in expected), "one array twice")
        raise ValueError(f"it should not have {other:.80} (and {len(found) - len(expected) - 1} more)")


def _parse_array(archive: zipfile.ZipFile, name: str, kind: ArrayType) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} is compressed by method {info.compress_type}")
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is an array of a newer NumPy format")
        header = member.read(int.from_bytes(member.read(2), "little")).decode("latin-1").strip()
        # Compared, not parsed: numpy's parser evaluates the header, and may fail on a damaged one in many ways.
        headers = {
            f"{{'descr': {kind.dtype.str!r}, 'fortran_order': {order == 'F'}, 'shape': {kind.shape!r}, }}": order
            for order in ("C", "F")
        }
        if header not in headers:
            raise ValueError(f"{name} is {header[:120]!r}, expected {kind.dtype} of shape {kind.shape}")
        values = member.read(kind.size_bytes + 1)  # reads to the end, where zipfile compares its checksum
    if len(values) != kind.size_bytes:
        raise ValueError(f"{name} has not the {kind.size_bytes} bytes of {kind.dtype} of shape {kind.shape}")
    order: Any = headers[header]
    return np.frombuffer(values, kind.dtype).reshape(kind.shape, order=order).copy()
