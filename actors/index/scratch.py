"""Files without a name: their space goes back when the last reader lets go of them, or the process ends."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20


class ScratchFile:
    """Is reserved, written through a mapping, and finished: an array of its bytes, which are no memory of the process.

    Parameters
    ----------
    folder : Path, optional
        The system's temporary one unless given.
    size : int
        At least 1.

    Raises
    ------
    OSError
        The disk has no room for so many bytes, or fails.
    """

    def __init__(self, folder: Path | None, size: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives until it is finished
        try:
            _reserve(self._file.fileno(), size)
            mapping = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_WRITE)
        except BaseException:  # raised again: nobody else would close the file
            self._file.close()
            raise
        self.data: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)

    def finish(self, size: int) -> NDArray[np.uint8]:
        """Keep the first ``size`` bytes, and read them in place; nobody may read or write ``data`` from now on."""
        del self.data
        with self._file:
            os.ftruncate(self._file.fileno(), size)
            return np.frombuffer(mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ), np.uint8)


def _reserve(descriptor: int, size: int) -> None:
    """Take the space now: a write through a mapping that finds no room would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    for start in range(0, size, _BLOCK):
        block = memoryview(bytes(min(_BLOCK, size - start)))
        at = start
        while block:
            written = os.pwrite(descriptor, block, at)
            block, at = block[written:], at + written
