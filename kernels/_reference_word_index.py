"""The word index in plain Python: what the native one must answer, and what runs where that was not built."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

MAX_WORD_BYTES = 256
_PIECE = re.compile(rb"[0-9A-Za-z\x80-\xff]+")
_U32 = NDArray[np.uint32]
_Sections = tuple[_U32, NDArray[np.uint8], _U32, _U32]


class Collector:
    def __init__(self, seed: int) -> None:  # noqa: ARG002 - a dict has its own
        self.clear()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """The tables alone; the words are objects beside them."""
        return sum(map(sys.getsizeof, (self._entries, self._pieces, *self._entries)))

    def clear(self) -> None:
        self._entries: list[list[bytes]] = []
        self._pieces: dict[bytes, list[bytes] | None] = {}

    def add(self, data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        text = data.tobytes()
        edges = bounds.tolist()
        for start, end in pairwise(edges):
            pieces = _PIECE.findall(text[start:end])
            self._entries.append(pieces)
            for piece in pieces:
                self._pieces.setdefault(piece, [piece.lower()[:MAX_WORD_BYTES]] if piece.isascii() else None)

    def unfolded(self) -> list[bytes]:
        return [piece for piece, words in self._pieces.items() if words is None]

    def fold(self, lines: bytes) -> int:
        folded = bytes(lines).split(b"\n")[:-1]
        for piece, line in zip(self.unfolded(), folded, strict=False):
            self._pieces[piece] = [word[:MAX_WORD_BYTES] for word in line.split(b" ") if word]
        return len(folded)

    def count(self, entries: _U32) -> tuple[int, int, int]:
        postings = self._postings(entries, entries)
        return len(postings), sum(map(len, postings)), sum(map(len, postings.values()))

    def write(
        self, entries: _U32, slots: _U32, term_starts: _U32, terms: NDArray[np.uint8], posting_starts: _U32, out: _U32
    ) -> None:
        postings = self._postings(entries, slots)
        _write(postings, term_starts, terms, posting_starts, out)

    def _postings(self, entries: _U32, slots: _U32) -> dict[bytes, list[int]]:
        postings: dict[bytes, list[int]] = defaultdict(list)
        for entry, slot in zip(entries.tolist(), slots.tolist(), strict=True):
            for word in {word for piece in self._entries[entry] for word in self._pieces[piece] or ()}:
                postings[word].append(slot)
        return postings


def _write(
    postings: dict[bytes, list[int]], term_starts: _U32, terms: NDArray[np.uint8], posting_starts: _U32, out: _U32
) -> None:
    words = sorted(postings)
    text = b"".join(words)
    slots = [slot for word in words for slot in postings[word]]
    term_starts[: len(words) + 1] = list(accumulate(map(len, words), initial=0))
    posting_starts[: len(words) + 1] = list(accumulate((len(postings[word]) for word in words), initial=0))
    terms[: len(text)] = np.frombuffer(text, np.uint8)
    out[: len(slots)] = slots


def postings_of(sections: _Sections) -> dict[bytes, list[int]]:
    """The slots of each word of a run."""
    term_starts, terms, posting_starts, postings = sections
    text, starts, firsts = terms.tobytes(), term_starts.tolist(), posting_starts.tolist()
    return {
        text[starts[i] : starts[i + 1]]: postings[firsts[i] : firsts[i + 1]].tolist() for i in range(len(starts) - 1)
    }


def find(sections: _Sections, prefix: bytes) -> tuple[int, int]:
    words = list(postings_of(sections))
    met = [i for i, word in enumerate(words) if word.startswith(prefix)]
    starts = sections[2]
    return (int(starts[met[0]]), int(starts[met[-1] + 1])) if met else (0, 0)


def select(slots: _U32, base: int, bits: NDArray[np.uint64]) -> None:
    at = slots - np.uint32(base)
    np.bitwise_or.at(bits, at >> 6, np.left_shift(np.uint64(1), (at & 63).astype(np.uint64)))


def match(postings: _U32, ranges: _U32, cover: _U32, bits: NDArray[np.uint64], marks: NDArray[np.uint64]) -> None:  # noqa: ARG001
    found = set.intersection(*(set(postings[first:last].tolist()) for first, last in ranges.reshape(-1, 2).tolist()))
    np.bitwise_and.at(bits, cover >> 6, ~np.left_shift(np.uint64(1), (cover & 63).astype(np.uint64)))
    select(np.array(sorted(found), np.uint32), 0, bits)


def own(bits: NDArray[np.uint64], base: int, inverted: bool, owner: int, owners: NDArray[np.uint8]) -> None:
    each = np.unpackbits(bits.astype("<u8", copy=False).view(np.uint8), bitorder="little") != inverted
    slots = base + np.flatnonzero(each)
    owners[slots[slots < len(owners)]] = owner


def merge(
    runs: list[_Sections],
    owners: NDArray[np.uint8],
    term_starts: _U32,
    terms: NDArray[np.uint8],
    posting_starts: _U32,
    out: _U32,
) -> tuple[int, int, int]:
    merged: dict[bytes, list[int]] = defaultdict(list)
    for number, sections in enumerate(runs):
        for word, slots in postings_of(sections).items():
            if owned := [slot for slot in slots if slot < len(owners) and owners[slot] == number]:
                merged[word].extend(owned)
    merged = {word: sorted(slots) for word, slots in merged.items()}
    _write(merged, term_starts, terms, posting_starts, out)
    return len(merged), sum(map(len, merged)), sum(map(len, merged.values()))
