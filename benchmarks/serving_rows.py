"""Synthetic rows, each made of its number alone: a store of any size can be written, and its answers checked, without
reading it.

Rows come in families of eight near neighbours (an eighth of their bits flipped), listings of four images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.ingest.store.rows import codes_column

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

GROUPS, COLOURS, BRANDS = 230, 12, 5_000
MIN_PRICE, MAX_PRICE = 1.0, 501.0
SOUTH, NORTH, WEST, EAST = 46.0, 49.0, 9.0, 17.0
FIRST_S, LAST_S = 1_600_000_000, 1_800_000_000
FAMILY, LISTING = 8, 4
FIRST_LISTING = 220_000_000
TITLE_SLOTS, WORDS_PER_SLOT, RARE_WORDS = 5, 8, 10_000

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SALTS = {
    name: np.uint64(number + 1) << np.uint64(48)
    for number, name in enumerate(
        ["family", "noise", "group", "price", "colour", "brand", "lat", "lon", "time", "rare"]
        + [f"word {slot}" for slot in range(TITLE_SLOTS)]
    )
}


def mix(values: Hashes) -> Hashes:
    """Hash each value (the finaliser of SplitMix64)."""
    mixed = values + _GOLDEN
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _words(count: int, syllables: int, seed: int) -> list[str]:
    """Draw words of that many syllables of two letters, all different."""
    parts = [a + b for a in "bdfgklmnprstvw" for b in "aeiou"]
    rng = np.random.default_rng(seed)
    drawn = ("".join(rng.choice(parts, syllables)) for _ in range(2 * count))
    return list(dict.fromkeys(drawn))[:count]


@dataclass(frozen=True)
class SyntheticRows:
    """The rows of a store; a row is its number.

    Attributes
    ----------
    photos : mapping of int to str
        What the ``photo`` column says of the few rows that have one.
    """

    short_words: int
    long_words: int
    photos: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def common_words(self) -> list[list[str]]:
        """For each slot of a title its eight words, of six letters."""
        words = _words(TITLE_SLOTS * WORDS_PER_SLOT, 3, 1)
        return [words[slot::TITLE_SLOTS] for slot in range(TITLE_SLOTS)]

    @cached_property
    def rare_words(self) -> list[str]:
        """Of ten letters; one of them ends each title."""
        return _words(RARE_WORDS, 5, 2)

    @cached_property
    def groups(self) -> list[str]:
        return [f"Apparel/Part {number % 19}/Group {number}" for number in range(GROUPS)]

    def index(self, name: str, numbers: Numbers, values: int) -> Numbers:
        """Which of so many values each row has in a column."""
        hashes = mix(numbers.astype(np.uint64) + _SALTS[name])
        return (hashes % np.uint64(values)).astype(np.int64)

    def image_ids(self, numbers: Numbers) -> list[str]:
        """Ids of 11 characters: ``220000000/0``."""
        ids: list[str] = self._image_ids(numbers).to_pylist()
        return ids

    def _image_ids(self, numbers: Numbers) -> pa.Array:
        number = pa.array(numbers % LISTING).cast(pa.string())
        return pc.binary_join_element_wise(self._listing_ids(numbers), number, "/")

    def _listing_ids(self, numbers: Numbers) -> pa.Array:
        return pa.array(FIRST_LISTING + numbers // LISTING).cast(pa.string())

    def short(self, numbers: Numbers) -> Hashes:
        """Short codes: uint64 (n, short words)."""
        return self._codes(numbers, self.short_words, 0)

    def long(self, numbers: Numbers) -> Hashes:
        """Long codes: uint64 (n, long words)."""
        return self._codes(numbers, self.long_words, self.short_words)

    def _codes(self, numbers: Numbers, words: int, first: int) -> Hashes:
        word = mix(np.arange(first, first + words, dtype=np.uint64))
        family = mix(mix((numbers // FAMILY).astype(np.uint64) + _SALTS["family"])[:, None] ^ word)
        noise = mix(mix(numbers.astype(np.uint64) + _SALTS["noise"])[:, None] ^ word)
        noise &= (noise << np.uint64(21) | noise >> np.uint64(43)) & (noise << np.uint64(42) | noise >> np.uint64(22))
        return family ^ noise

    def prices(self, numbers: Numbers) -> NDArray[np.float64]:
        """In whole cents."""
        return MIN_PRICE + self.index("price", numbers, round(100 * (MAX_PRICE - MIN_PRICE))) / 100

    def degrees(self, name: str, numbers: Numbers) -> NDArray[np.float64]:
        """Latitudes (``lat``) or longitudes (``lon``), in whole ten-millionths."""
        low, high = (SOUTH, NORTH) if name == "lat" else (WEST, EAST)
        return (round(low * 1e7) + self.index(name, numbers, round((high - low) * 1e7))) / 1e7

    def seconds(self, numbers: Numbers) -> Numbers:
        """Times since 1970."""
        return FIRST_S + self.index("time", numbers, LAST_S - FIRST_S)

    def _titles(self, numbers: Numbers) -> pa.Array:
        first, second, *others = (
            pa.array(words).take(pa.array(self.index(f"word {slot}", numbers, WORDS_PER_SLOT)))
            for slot, words in enumerate(self.common_words)
        )
        rare = pa.array(self.rare_words).take(pa.array(self.index("rare", numbers, RARE_WORDS)))
        kind = pc.binary_join_element_wise(first, second, " ")
        return pc.binary_join_element_wise(kind, pc.binary_join_element_wise(*others, " "), rare, ", ")

    def batch(self, numbers: Numbers) -> pa.RecordBatch:
        """All columns but those that ``store_rows.rows_of`` adds."""
        n = len(numbers)
        columns = {
            "image_id": self._image_ids(numbers),
            "deleted": pa.array(np.zeros(n, bool)),
            "short": codes_column(self.short(numbers)),
            "long": codes_column(self.long(numbers)),
            "listing_id": self._listing_ids(numbers),
            "group": pa.array(self.groups).take(pa.array(self.index("group", numbers, GROUPS))),
            "title": self._titles(numbers),
            "price": pa.array(self.prices(numbers)),
            "lat": pa.array(self.degrees("lat", numbers)),
            "lon": pa.array(self.degrees("lon", numbers)),
            "created_at": pa.array(self.seconds(numbers) * 1_000_000, pa.timestamp("us", "UTC")),
            "colour": self._named("colour", numbers, COLOURS),
            "brand": self._named("brand", numbers, BRANDS),
            "photo": pa.array([self.photos.get(number) for number in numbers.tolist()], pa.string()),
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

    def _named(self, name: str, numbers: Numbers, values: int) -> pa.Array:
        words = pa.array([f"{name} {number}" for number in range(values)])
        return words.take(pa.array(self.index(name, numbers, values)))
