"""An inverted index of words in immutable runs: which slots have a word that begins with something.

A run is one array of bytes, in memory or mapped from a file. It says which slots it has an entry of, also where the
entry has no word, and for each word, in ascending order of bytes, the slots that have it, ascending. The words with one
beginning are neighbours, so a prefix is one range of postings whatever the number of its words.

    header          uint64[8]: slots, base, bitmap words, terms, bytes of the terms, postings, 0, 0
    cover           the slots: a bitmap (uint64) that begins at slot ``base``, or, where fewer than one in 32 of its
                    slots were set, their numbers (uint32, ascending; the header then has 0 bitmap words)
    term_starts     uint32[terms + 1], where each term begins in ``terms``
    posting_starts  uint32[terms + 1], where those of each term begin in ``postings``
    postings        uint32
    terms           the words end to end, UTF-8

each beginning at a multiple of 8 bytes.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels import _reference_word_index
from lookalike.kernels._reference_word_index import MAX_WORD_BYTES as MAX_WORD_BYTES
from lookalike.kernels.values import check_array

try:
    from lookalike.kernels import _word_index
except ImportError:  # installed without a compiler
    _NATIVE: tuple[str, ...] = ()
else:
    _NATIVE = ("native",)

VARIANTS: Final[tuple[str, ...]] = (*_NATIVE, "python")

# So that an owner fits a byte.
MAX_MERGED: Final = 255
_NO_OWNER: Final = 255
_MAX_POSITION: Final = (1 << 32) - 1
_HEADER_BYTES: Final = 64
_FOLDED_BYTES: Final = 1 << 18  # at a time: a character can become 18, and there are several copies meanwhile
_MOVED_BYTES: Final = 1 << 20
_SPARSE: Final = 32

Bits = NDArray[np.uint64]


def _module(variant: str) -> Any:
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown here; this machine can run {', '.join(VARIANTS)}")
    return _word_index if variant == "native" else _reference_word_index


def _sections(cover_bytes: int, terms: int, term_bytes: int, postings: int) -> tuple[int, ...]:
    """Where the cover, ``term_starts``, ``posting_starts``, ``postings`` and ``terms`` begin, and where a run ends."""
    sizes = (cover_bytes, 4 * (terms + 1), 4 * (terms + 1), 4 * postings, term_bytes)
    return tuple(accumulate((-(-size // 8) * 8 for size in sizes), initial=_HEADER_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run of entries, read in place.

    Attributes
    ----------
    data : ndarray of uint8
        All of it.
    slots : int
        Of how many slots it has an entry.
    base : int
        A multiple of 64, at most the lowest slot.
    cover : ndarray of uint64 or uint32
        The slots: a bitmap from ``base`` on, or their numbers.
    """

    data: NDArray[np.uint8]
    slots: int
    base: int
    cover: NDArray[np.unsignedinteger]
    _term_starts: NDArray[np.uint32]
    _terms: NDArray[np.uint8]
    _posting_starts: NDArray[np.uint32]
    _postings: NDArray[np.uint32]

    @staticmethod
    def of(data: NDArray[np.uint8]) -> Run:
        slots, base, words, terms, term_bytes, postings = data[:48].view(np.uint64).tolist()
        cover_bytes = 8 * words if words or not slots else 4 * slots
        at = _sections(cover_bytes, terms, term_bytes, postings)
        return Run(
            data=data,
            slots=slots,
            base=base,
            cover=data[at[0] : at[0] + cover_bytes].view(np.uint64 if words or not slots else np.uint32),
            _term_starts=data[at[1] : at[1] + 4 * (terms + 1)].view(np.uint32),
            _terms=data[at[4] : at[4] + term_bytes],
            _posting_starts=data[at[2] : at[2] + 4 * (terms + 1)].view(np.uint32),
            _postings=data[at[3] : at[3] + 4 * postings].view(np.uint32),
        )

    @property
    def is_sparse(self) -> bool:
        return self.cover.dtype == np.uint32

    @property
    def end(self) -> int:
        """All its slots are below."""
        if self.is_sparse:
            return int(self.cover[-1]) + 1
        return self.base + 64 * len(self.cover)

    @property
    def sections(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint32]]:
        return self._term_starts, self._terms, self._posting_starts, self._postings

    def find(self, prefix: bytes, *, variant: str = VARIANTS[0]) -> tuple[int, int]:
        """The range of postings of all words that begin with a prefix, which is not empty."""
        first, last = _module(variant).find(self.sections, prefix)
        return first, last

    def select(self, first: int, last: int, *, variant: str = VARIANTS[0]) -> Bits:
        """The slots of a range of postings as a bitmap from ``base`` on; not for a sparse run."""
        bits = np.zeros(len(self.cover), np.uint64)
        _module(variant).select(self._postings[first:last], self.base, bits)
        return bits

    def match(self, ranges: Sequence[tuple[int, int]], bits: Bits, marks: Bits, *, variant: str = VARIANTS[0]) -> None:
        """Let a bitmap over all slots say of those of a sparse run whether they are in each range of postings.

        ``marks`` is another bitmap of that size, all zeros before and after.
        """
        flat = np.array(ranges, np.uint32).reshape(-1)
        _module(variant).match(self._postings, flat, self.cover, bits, marks)


class Collector:
    """Texts by entry, until they become a run.

    Words of ASCII letters and digits are found and folded to lower case here. What lies between other ASCII characters
    and is not ASCII alone is a *piece*: the caller folds each different piece once.

    Parameters
    ----------
    fold : callable
        Makes of pieces, one a line, as many lines of words between spaces; UTF-8 without bytes of 0.
    """

    def __init__(self, fold: Callable[[bytes], bytes], *, variant: str = VARIANTS[0]) -> None:
        self._fold = fold
        self._collector = _module(variant).Collector(secrets.randbits(64))

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._collector)

    @property
    def held_bytes(self) -> int:
        held: int = self._collector.held_bytes
        return held

    def clear(self) -> None:
        self._collector.clear()

    def add(self, data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        """Add texts, text i being ``data[bounds[i]:bounds[i + 1]]``.

        Raises
        ------
        MemoryError
            No entry was added.
        """
        check_array("data", data, np.uint8, 1)
        check_array("bounds", bounds, np.int64, 1)
        if not len(bounds) or bounds[0] < 0 or bounds[-1] > len(data) or (bounds[1:] < bounds[:-1]).any():
            raise ValueError(f"bounds must ascend within the {len(data)} bytes of data")
        self._collector.add(data, bounds)

    def prepare(self, entries: NDArray[np.uint32], slots: NDArray[np.uint32], *, sparse: int = _SPARSE) -> Collected:
        """Prepare a run of some entries, to be written before anything else is done. They stay.

        Parameters
        ----------
        entries : ndarray of uint32, shape (n,)
        slots : ndarray of uint32, shape (n,)
            The slot of each entry, ascending, each once.
        sparse : int
            The run is sparse if it has fewer than one in so many slots.
        """
        check_array("entries", entries, np.uint32, 1)
        check_array("slots", slots, np.uint32, 1)
        if len(entries) != len(slots) or (len(entries) and int(entries.max()) >= len(self)):
            raise ValueError(f"there are {len(entries)} entries for {len(slots)} slots, and {len(self)} entries in all")
        if (slots[1:] <= slots[:-1]).any():
            raise ValueError("slots must ascend")
        self._fold_pieces()
        base, cover = _cover_of(slots, sparse)
        return Collected(self._collector, entries, slots, base, cover)

    def _fold_pieces(self) -> None:
        pieces: list[bytes] = self._collector.unfolded()
        starts = list(accumulate(map(len, pieces), initial=0))
        start = 0
        while start < len(pieces):
            stop = max(bisect_right(starts, starts[start] + _FOLDED_BYTES) - 1, start + 1)
            lines = self._fold(b"\n".join(pieces[start:stop])) + b"\n"
            count = lines.count(b"\n")
            if count != stop - start or b"\0" in lines:
                raise ValueError(f"{stop - start} pieces were folded to {count} lines")
            self._collector.fold(lines)
            start = stop


class Collected:
    """Entries of a collector that are to be a run.

    Attributes
    ----------
    max_bytes : int
        How many bytes it has.
    """

    def __init__(
        self,
        collector: Any,
        entries: NDArray[np.uint32],
        slots: NDArray[np.uint32],
        base: int,
        cover: NDArray[np.unsignedinteger],
    ) -> None:
        self._collector, self._entries, self._slots = collector, entries, slots
        self._base, self._cover = base, cover
        self._counts = collector.count(entries)
        self.max_bytes = _sections(cover.nbytes, *self._counts)[-1]

    def write(self, data: NDArray[np.uint8]) -> int:
        """Write the run to the beginning of ``max_bytes`` bytes, and say how many it has. Once."""
        _check_room(data, self.max_bytes)
        _write_head(data, self._base, self._cover, len(self._slots), *self._counts)
        self._collector.write(self._entries, self._slots, *Run.of(data).sections)
        return self.max_bytes


def _check_room(data: NDArray[np.uint8], size: int) -> None:
    check_array("data", data, np.uint8, 1)
    if len(data) < size:
        raise ValueError(f"data has {len(data)} bytes, but a run of up to {size} is to be written")


def _cover_of(slots: NDArray[np.uint32], sparse: int) -> tuple[int, NDArray[np.unsignedinteger]]:
    if not len(slots):
        return 0, np.empty(0, np.uint64)
    base = int(slots[0]) & ~63
    words = (int(slots[-1]) - base) // 64 + 1
    if sparse * len(slots) < 64 * words:
        return base, slots
    bits = np.zeros(words, np.uint64)
    at = slots - np.uint32(base)
    np.bitwise_or.at(bits, at >> 6, np.left_shift(np.uint64(1), (at & 63).astype(np.uint64)))
    return base, bits


def _write_head(
    data: NDArray[np.uint8],
    base: int,
    cover: NDArray[np.unsignedinteger],
    slots: int,
    terms: int,
    term_bytes: int,
    postings: int,
) -> None:
    bitmap_words = len(cover) if cover.dtype == np.uint64 else 0
    data[:_HEADER_BYTES].view(np.uint64)[:] = [slots, base, bitmap_words, terms, term_bytes, postings, 0, 0]
    data[_HEADER_BYTES : _HEADER_BYTES + cover.nbytes] = cover.view(np.uint8)


def can_merge(runs: Sequence[Run]) -> bool:
    """Whether some runs are not too many or too large for one: positions in a run are uint32."""
    postings = sum(len(run.sections[3]) for run in runs)
    term_bytes = sum(len(run.sections[1]) for run in runs)
    return len(runs) <= MAX_MERGED and max(postings, term_bytes) <= _MAX_POSITION


class Merge:
    """Several runs as one: of each slot the entry of the newest run that has one.

    Parameters
    ----------
    runs : sequence of Run
        The oldest first, at most ``MAX_MERGED``.
    visible : ndarray of uint64, optional
        A bitmap over slots; entries of others are dropped.
    slots : int, optional
        Entries of this slot and later ones are dropped.

    Attributes
    ----------
    max_bytes : int
        How many bytes the run can have.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        visible: Bits | None = None,
        slots: int | None = None,
        *,
        variant: str = VARIANTS[0],
    ) -> None:
        if not runs or not can_merge(runs):
            raise ValueError(f"{len(runs)} runs cannot be merged: they are none, more than {MAX_MERGED}, or too large")
        self._runs = runs
        self._module = _module(variant)
        highest = max(run.end for run in runs)
        self._owners = np.full(highest if slots is None else min(slots, highest), _NO_OWNER, np.uint8)
        for number, run in enumerate(runs):
            self._own(run, number)
        if visible is not None:
            self._module.own(visible, 0, True, _NO_OWNER, self._owners)
            self._owners[64 * len(visible) :] = _NO_OWNER
        self._base, self._cover = self._covered()
        parts = [run.sections for run in runs]
        self._bounds = _sections(
            self._cover.nbytes,
            sum(len(starts) - 1 for starts, _, _, _ in parts),
            sum(len(terms) for _, terms, _, _ in parts),
            sum(len(postings) for _, _, _, postings in parts),
        )
        self.max_bytes = self._bounds[-1]

    def _own(self, run: Run, number: int) -> None:
        if run.is_sparse:
            self._owners[run.cover[run.cover < len(self._owners)]] = number
        else:
            self._module.own(run.cover, run.base, False, number, self._owners)

    def _covered(self) -> tuple[int, NDArray[np.unsignedinteger]]:
        bytes_covered = np.packbits(self._owners != _NO_OWNER, bitorder="little")
        words = np.zeros(-(-len(bytes_covered) // 8) * 8, np.uint8)
        words[: len(bytes_covered)] = bytes_covered
        bits = words.view("<u8").astype(np.uint64, copy=False)
        held = np.flatnonzero(bits)
        self._slots = int(np.bitwise_count(bits).sum())
        if not self._slots:
            return 0, bits[:0]
        first, last = int(held[0]), int(held[-1])
        if _SPARSE * self._slots < 64 * (last + 1 - first):
            return 64 * first, np.flatnonzero(self._owners != _NO_OWNER).astype(np.uint32)
        return 64 * first, bits[first : last + 1]

    def write(self, data: NDArray[np.uint8]) -> int:
        """Write the run to the beginning of ``max_bytes`` bytes, and say how many it has."""
        _check_room(data, self.max_bytes)
        at = self._bounds
        term_starts, posting_starts, postings = (data[at[i] : at[i + 1]].view(np.uint32) for i in (1, 2, 3))
        counts = self._module.merge(
            [run.sections for run in self._runs],
            self._owners,
            term_starts,
            data[at[4] : at[5]],
            posting_starts,
            postings,
        )
        _write_head(data, self._base, self._cover, self._slots, *counts)
        to = _sections(self._cover.nbytes, *counts)
        for i in range(1, 5):
            _move(data, at[i], to[i], to[i + 1] - to[i])
        return to[-1]


def _move(data: NDArray[np.uint8], start: int, to: int, size: int) -> None:
    """Move bytes down in place; a copy of all at once would take as much memory again."""
    if start == to:
        return
    for done in range(0, size, _MOVED_BYTES):
        step = min(_MOVED_BYTES, size - done)
        data[to + done : to + done + step] = data[start + done : start + done + step]
