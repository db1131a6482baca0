"""Image and listing ids of every slot, in one arena of bytes: about 22 bytes a row for ids of 11 and 9 characters.

A slot has a blob of its ids (``blobs``). A listing id that begins the image id (`220232453` of `220232453/1`, or the
same id) is not stored again. A blob lives as long as its slot; freed ones serve blobs of the same size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.actors.index.blobs import BEGINS_IMAGE_ID, HEADER_BYTES, Blobs, id_layout, id_sizes, words_of
from lookalike.actors.index.ragged import Bytes, binary_of, gather, parts_of, texts_of
from lookalike.actors.index.slots import FreeList, write
from lookalike.kernels import masks
from lookalike.kernels.masks import Bitmap
from lookalike.kernels.memory import GrowableRows

MAX_ID_BYTES: Final = BEGINS_IMAGE_ID - 1


class Ids:
    """Ids of the slots as a snapshot sees them; only those of visible slots mean anything.

    ``words`` uint32 is the arena, ``offsets`` uint32 (n,) where each slot's blob begins in it, in words. Two listing
    ids of different ``listing_hashes``, uint16 (n,), are not the same.
    """

    def __init__(
        self, words: NDArray[np.uint32], offsets: NDArray[np.uint32], listing_hashes: NDArray[np.uint16]
    ) -> None:
        self._words = words
        self._bytes = words.view(np.uint8)
        self._offsets = offsets
        self.listing_hashes = listing_hashes

    def image_ids(self, rows: NDArray[np.int64]) -> list[str]:
        starts, image, _, _ = self._layout(rows)
        ids: list[str] = texts_of(self._bytes, starts, image).to_pylist()
        return ids

    def listings(self, rows: NDArray[np.int64]) -> pa.LargeStringArray:
        """Listing ids of some rows as a column, for many rows at once."""
        _, _, starts, lengths = self._layout(rows)
        return texts_of(self._bytes, starts, lengths)

    def find_listings(self, listing_ids: Sequence[str], part: slice, where: Bitmap, out: Bitmap) -> None:
        """Write the bitmap of those visible slots of a part, given as another bitmap, that have one of some ids."""
        masks.second_ids(self._words, self._offsets[part], listing_ids, out, where=where)

    def have_listings(self, listing_ids: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether some visible rows have one of some listing ids: bool, shape of ``rows``."""
        same: NDArray[np.bool_] = pc.is_in(self.listings(rows), pa.array(listing_ids, pa.large_string())).to_numpy(
            zero_copy_only=False
        )
        return same

    def hash_listings(self, rows: NDArray[np.int64]) -> NDArray[np.uint16]:
        """Hash the listing ids of some rows."""
        _, _, starts, lengths = self._layout(rows)
        return masks.hash_texts(self._bytes, starts, lengths)

    def blobs(self, rows: NDArray[np.int64]) -> Blobs:
        """Copy the blobs of some rows, for a reply."""
        offsets = self._offsets[rows].astype(np.int64)
        sizes = id_sizes(self._words[offsets])
        return Blobs(gather(self._words, offsets, sizes), sizes.astype(np.uint16))

    def _layout(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Start and length in bytes of the image id and of the listing id of each row."""
        return id_layout(self._words, self._offsets[rows].astype(np.int64))


def hashes_of_texts(texts: Sequence[str]) -> NDArray[np.uint16]:
    """Hash each text to 16 bits, as listing ids are hashed."""
    encoded = [text.encode() for text in texts]
    lengths = np.array([len(text) for text in encoded], np.int64)
    return masks.hash_texts(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths) - lengths, lengths)


class IdColumn:
    """The ids of all slots. One thread writes."""

    def __init__(self) -> None:
        self._words = GrowableRows(1, np.uint32)
        self._words.append(np.zeros((1, 1), np.uint32))  # offset 0: the slot has no blob
        self._offsets = GrowableRows(1, np.uint32)
        self._listing_hashes = GrowableRows(1, np.uint16, reserve_bytes=1 << 33)
        self._free: defaultdict[int, FreeList] = defaultdict(FreeList)

    @property
    def held_bytes(self) -> int:
        rows = self._words.held_bytes + self._offsets.held_bytes + self._listing_hashes.held_bytes
        return rows + sum(free.held_bytes for free in self._free.values())

    def view(self, slots: int) -> Ids:
        return Ids(self._words.view()[:, 0], self._offsets.view()[:slots, 0], self._listing_hashes.view()[:slots, 0])

    def put(self, slots: NDArray[np.int64], image_ids: pa.Array, listing_ids: pa.Array) -> None:
        """Give free slots their ids.

        Parameters
        ----------
        slots : ndarray of int64, shape (n,)
        image_ids : text column
            None null, each of at most ``MAX_ID_BYTES`` in UTF-8.
        listing_ids : text column
            Likewise; null or empty: the image is its own listing.

        Raises
        ------
        MemoryError
            The arena is full (16 GB). The slots have no ids.
        """
        blobs, starts, sizes = _blobs(image_ids, listing_ids)
        if len(self._words) + int(sizes.sum()) > np.iinfo(np.uint32).max:
            raise MemoryError("the ids of a shard fill 16 GB: use more shards")
        offsets = np.empty((len(slots), 1), np.uint32)
        for size in np.flatnonzero(np.bincount(sizes)).tolist():
            of_size = np.flatnonzero(sizes == size)
            within = np.arange(size)
            taken = self._allocate(size, len(of_size))
            write(self._words, (taken[:, None] + within).ravel(), blobs[starts[of_size, None] + within].reshape(-1, 1))
            offsets[of_size, 0] = taken
        write(self._offsets, slots, offsets)
        hashes = self.view(len(self._offsets)).hash_listings(slots)
        write(self._listing_hashes, slots, hashes.reshape(-1, 1))

    def free(self, slots: NDArray[np.int64]) -> None:
        """Take the blobs of slots that nobody reads any more; slots without one may be among them."""
        slots = slots[slots < len(self._offsets)]
        offsets = self._offsets.view()[slots, 0].astype(np.int64)
        write(self._offsets, slots, np.zeros((len(slots), 1), np.uint32))
        offsets = offsets[offsets > 0]
        sizes = id_sizes(self._words.view()[offsets, 0])
        for size in np.flatnonzero(np.bincount(sizes)).tolist():
            self._free[size].push(offsets[sizes == size])

    def _allocate(self, size: int, count: int) -> NDArray[np.int64]:
        reused = self._free[size].pop(count) if size in self._free else np.empty(0, np.int64)
        return np.concatenate([reused, len(self._words) + size * np.arange(count - len(reused))])


def _blobs(
    image_ids: pa.Array, listing_ids: pa.Array
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """The blobs of some rows end to end: words uint32, and the start and the size of each in words, int64 (n,)."""
    image_data, image_bounds = parts_of(image_ids)
    listings = pc.fill_null(listing_ids, "")
    listing_data, listing_bounds = parts_of(listings)
    image, listing = np.diff(image_bounds), np.diff(listing_bounds)
    own = ~_begins(listing_data, listing_bounds, image_data, image_bounds)
    header = np.empty((len(image), 2), "<u2")
    header[:, 0] = image
    header[:, 1] = np.where(own, listing, np.where(listing, listing, image) | BEGINS_IMAGE_ID)
    stored = image + np.where(own, listing, 0)
    sizes = words_of(stored)
    joined = pc.binary_join_element_wise(
        binary_of(header.view(np.uint8).ravel(), np.full(len(image), HEADER_BYTES)),
        pc.cast(image_ids, pa.binary()),
        binary_of(gather(listing_data, listing_bounds[:-1][own], listing[own]), np.where(own, listing, 0)),
        binary_of(np.zeros(3 * len(image), np.uint8), sizes * 4 - HEADER_BYTES - stored),
        b"",
    )
    data, bounds = parts_of(joined)
    words = data[bounds[0] : bounds[-1]].view(np.uint32)
    return words, (bounds[:-1] - bounds[0]) >> 2, sizes


def _begins(
    parts: Bytes, part_bounds: NDArray[np.int64], wholes: Bytes, whole_bounds: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each part is where its whole begins: bool, shape (n,)."""
    lengths = np.diff(part_bounds)
    begins: NDArray[np.bool_] = lengths <= np.diff(whole_bounds)
    fitting = np.flatnonzero(begins)
    lengths = lengths[fitting]
    differing = gather(parts, part_bounds[:-1][fitting], lengths) != gather(wholes, whole_bounds[:-1][fitting], lengths)
    begins[np.repeat(fitting, lengths)[differing]] = False
    return begins
