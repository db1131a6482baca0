"""The exact answers to searches of synthetic rows, by NumPy, from the rows' numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from serving_rows import (
    COLOURS,
    FIRST_LISTING,
    GROUPS,
    LISTING,
    RARE_WORDS,
    WORDS_PER_SLOT,
    Hashes,
    Mask,
    Numbers,
    SyntheticRows,
)

from lookalike.ingest.store.keys import keys_of
from lookalike.model.spec import ModelSpec

CANDIDATES_PER_HIT = 256
EARTH_RADIUS_KM = 6371.0088
_CHUNK = 1 << 19

Hits = list[tuple[str, float]]


class Oracle:
    """Answers searches as the server should.

    Parameters
    ----------
    count : int
        How many rows there are.
    spec : ModelSpec
        Of the components of the long code, and their weights.
    """

    def __init__(self, rows: SyntheticRows, count: int, spec: ModelSpec) -> None:
        self._rows, self._count, self._spec = rows, count, spec
        self._short = np.concatenate([rows.short(numbers) for numbers in self._chunks()])

    def _chunks(self) -> list[Numbers]:
        return [np.arange(start, min(start + _CHUNK, self._count)) for start in range(0, self._count, _CHUNK)]

    def by_id(self, request: Mapping[str, Any]) -> Hits:
        """The hits of a search by id, as (image id, distance in bits)."""
        image_id = request["image_id"]
        listing, _, photo = image_id.partition("/")
        number = np.array([(int(listing) - FIRST_LISTING) * LISTING + int(photo)])
        short, long = self._rows.short(number)[0], self._rows.long(number)[0]
        return self.by_codes(short, long, request["count"], request.get("filters", ()), image_id)

    def by_codes(
        self, short: Hashes, long: Hashes, count: int, filters: Sequence[Mapping[str, Any]] = (), pinned: str = ""
    ) -> Hits:
        """The hits of a search by codes; ``pinned`` is the id that comes before others at its distance."""
        distance = np.bitwise_count(self._short ^ short).sum(axis=1, dtype=np.int64)
        allowed = np.concatenate([self._meets(filters, numbers) for numbers in self._chunks()])
        within = np.cumsum(np.bincount(distance[allowed], minlength=64 * len(short) + 1))
        limit = int(np.searchsorted(within, CANDIDATES_PER_HIT * count))
        rows = np.flatnonzero(allowed & (distance <= limit))
        hundredths = self._long_distance(rows, long)
        worst = np.sort(hundredths)[min(count, len(rows)) - 1] if len(rows) else 0
        rows, hundredths = rows[hundredths <= worst], hundredths[hundredths <= worst]
        ids = self._rows.image_ids(rows)
        not_pinned = np.array([image_id != pinned for image_id in ids], bool)
        order = np.lexsort((keys_of(ids), not_pinned, hundredths))[:count]
        return [(ids[row], float(hundredths[row] / 100)) for row in order]

    def _long_distance(self, rows: Numbers, long: Hashes) -> Numbers:
        """Weighted, in hundredths of a bit."""
        bounds = np.cumsum([0, *self._spec.component_words])[:-1]
        parts = [np.empty(0, np.int64)]
        for start in range(0, len(rows), _CHUNK // 8):
            differing = np.bitwise_count(self._rows.long(rows[start : start + _CHUNK // 8]) ^ long).astype(np.int64)
            parts.append(np.add.reduceat(differing, bounds, axis=1) @ np.array(self._spec.weights))
        return np.concatenate(parts)

    def _meets(self, filters: Sequence[Mapping[str, Any]], numbers: Numbers) -> Mask:
        met = np.ones(len(numbers), bool)
        for condition in filters:
            met &= self._meets_one(condition, numbers)
        return met

    def _meets_one(self, condition: Mapping[str, Any], numbers: Numbers) -> Mask:
        rows = self._rows
        match condition["field"]:
            case "price":
                prices = rows.prices(numbers)
                return np.asarray((prices >= condition["gte"]) & (prices < condition["lt"]), bool)
            case "created_at":
                low, high = (np.datetime64(condition[name].rstrip("Z")).astype(np.int64) for name in ("gte", "lt"))
                seconds = rows.seconds(numbers)
                return np.logical_and(seconds >= low, seconds < high)
            case "group":
                return _among(rows.index("group", numbers, GROUPS), rows.groups, condition["in"])
            case "colour":
                names = [f"colour {number}" for number in range(COLOURS)]
                return _among(rows.index("colour", numbers, COLOURS), names, condition["in"])
            case "listing_id":
                listings = np.array([int(listing) - FIRST_LISTING for listing in condition["in"]])
                return np.isin(numbers // LISTING, listings)
            case "place":
                return self._near(condition, numbers)
            case "title":
                words = [self._has_word(word, numbers) for word in condition["matches"].split()]
                return np.asarray(np.logical_and.reduce(words), bool)
        raise ValueError(f"no oracle for {condition}")

    def _near(self, condition: Mapping[str, Any], numbers: Numbers) -> Mask:
        lat, lon = (np.radians(self._rows.degrees(name, numbers)) for name in ("lat", "lon"))
        lat0, lon0 = np.radians(condition["of"])
        half = np.sin((lat - lat0) / 2) ** 2 + np.cos(lat) * np.cos(lat0) * np.sin((lon - lon0) / 2) ** 2
        return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(half)) <= condition["within_km"], bool)

    def _has_word(self, beginning: str, numbers: Numbers) -> Mask:
        met = _begins(self._rows.index("rare", numbers, RARE_WORDS), self._rows.rare_words, beginning)
        for slot, words in enumerate(self._rows.common_words):
            met |= _begins(self._rows.index(f"word {slot}", numbers, WORDS_PER_SLOT), words, beginning)
        return met


def _among(index: Numbers, names: Sequence[str], values: Sequence[str]) -> Mask:
    return np.isin(index, [number for number, name in enumerate(names) if name in values])


def _begins(index: Numbers, words: Sequence[str], beginning: str) -> Mask:
    return np.isin(index, [number for number, word in enumerate(words) if word.startswith(beginning)])


def hits_of(answer: Mapping[str, Any]) -> Hits:
    """The hits of an answer of the server."""
    return [(hit["image_id"], hit["distance"]) for hit in answer["hits"]]
