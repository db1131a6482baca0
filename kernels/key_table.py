"""Find the row of a 64-bit key, for about 5 to 6 bytes per key.

A shard of 20 million rows must find the row of an image id (its hash) for each write. A dict needs about 100 bytes per
key; here the keys stay in the rows and the table holds only row numbers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels import _reference_key_table
from lookalike.kernels.values import check_array

try:
    from lookalike.kernels import _key_table
except ImportError:  # installed without a compiler
    _NATIVE: tuple[str, ...] = ()
else:
    _NATIVE = ("native",)

VARIANTS: Final[tuple[str, ...]] = (*_NATIVE, "python")

MAX_SLOT: Final = (1 << 32) - 2  # 2**32 - 1 marks an empty position


class KeyTable:
    """Which slot (row of a ``GrowableRows``) holds a 64-bit key.

    Open addressing over uint32 slots, linear probing at a load of at most 0.8, growth by a quarter. The keys stay in
    the caller's array, which each call reads in place.

    Parameters
    ----------
    variant : str
        One of ``VARIANTS``, the fastest unless given: native, or a dict where the extension was not built.

    Notes
    -----
    Every call takes ``keys``, uint64 of shape (n,): the key of every slot, at least as long as the highest slot ever
    put demands. The key of a slot in the table must not change: remove it, then write the row, then put it.

    Callers serialise ``put`` and ``remove`` with all other calls; ``find`` may run in many threads at once. A call
    that meets a write of another thread, or a write that meets any call, raises RuntimeError and changes nothing.

    Measured with ``benchmarks/kernels_key_table.py`` at 5 million keys, 4,096 per call, on Zen 4 (shared): 5.1 to 6.25
    bytes per key, and both tables while it grows; find 70 to 130 ns per key (load 0.64 to 0.8), put 170 to 220 from
    an empty table, growth included, remove 90 to 130, a call with one key 2.5 us. A dict: about 100 bytes, find 400
    to 990, put 540.
    """

    def __init__(self, *, variant: str = VARIANTS[0]) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r} is unknown here; this machine can run {', '.join(VARIANTS)}")
        self._table = _key_table.Table() if variant == "native" else _reference_key_table.Table()
        self._min_keys = 0  # slots of the table lie below

    def __len__(self) -> int:
        return len(self._table)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory held by the table, without the keys."""
        return self._table.held_bytes

    def find(self, keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Find the slot of each key.

        Parameters
        ----------
        keys : ndarray of uint64, shape (n,)
            The key of every slot.
        wanted : ndarray of uint64, shape (m,)

        Returns
        -------
        ndarray of int64, shape (m,)
            The slot, or -1 where the key is not in the table.

        Raises
        ------
        TypeError, ValueError
            An array is not C-contiguous uint64 of one dimension, or ``keys`` ends before a slot of the table.
        """
        self._check_keys(keys)
        check_array("wanted", wanted, np.uint64, 1)
        found = np.empty(len(wanted), np.int64)
        self._table.find(keys, wanted, found)
        return found

    def put(self, keys: NDArray[np.uint64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map ``keys[slots[i]]`` to ``slots[i]``, in order.

        Parameters
        ----------
        keys : ndarray of uint64, shape (n,)
            The key of every slot, old and new.
        slots : ndarray of int64, shape (m,)
            Each from 0 to n - 1 and at most ``MAX_SLOT``.

        Returns
        -------
        ndarray of int64, shape (m,)
            The slot that held the key before, or -1. When a key comes twice in one call, the later slot replaces the
            earlier, which is returned for it.

        Raises
        ------
        TypeError, ValueError
            An array is of another kind, ``keys`` ends before a slot of the table, or a slot is out of range.
        MemoryError
            There is no memory for a larger table. The table is intact and holds the first of the keys; putting the
            same slots again is right.
        """
        self._check_keys(keys)
        check_array("slots", slots, np.int64, 1)
        previous = np.empty(len(slots), np.int64)
        if len(slots):
            lowest, highest = int(slots.min()), int(slots.max())
            if lowest < 0 or highest >= len(keys) or highest > MAX_SLOT:
                raise ValueError(f"slots are {lowest} to {highest}, but must be 0 to {min(len(keys) - 1, MAX_SLOT)}")
            self._min_keys = max(self._min_keys, highest + 1)
        self._table.put(keys, slots, previous)
        return previous

    def remove(self, keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Take keys out of the table.

        Parameters, errors : as for ``find``. A key twice in one call is found once.

        Returns
        -------
        ndarray of int64, shape (m,)
            The slot that held the key, or -1 where it was not in the table.
        """
        self._check_keys(keys)
        check_array("wanted", wanted, np.uint64, 1)
        found = np.empty(len(wanted), np.int64)
        self._table.remove(keys, wanted, found)
        return found

    def _check_keys(self, keys: NDArray[np.uint64]) -> None:
        check_array("keys", keys, np.uint64, 1)
        if len(keys) < self._min_keys:
            raise ValueError(f"keys holds {len(keys)} keys, but the table has had slots up to {self._min_keys - 1}")
