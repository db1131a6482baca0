"""Which rows of a snapshot meet some conditions.

A mask covers all slots. What it says of hidden slots means nothing: the search combines it with ``Snapshot.visible``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.columns import DEGREE, NO_DEGREES, NO_TIME
from lookalike.actors.index.rows import Snapshot
from lookalike.actors.index.words import words_of
from lookalike.actors.query.filters import AnyOf, Filter, Matches, Near, Not, NumberRange, OneOf, TimeRange
from lookalike.ingest.attributes import FilterKind, Held, names_filtered, names_held
from lookalike.ingest.store.keys import keys_of

Mask = NDArray[np.bool_]

EARTH_RADIUS_KM: Final = 6371.0088  # the mean radius of WGS 84 (IUGG)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK = 1 << 16  # rows whose distance is computed at a time: its terms are six arrays of float64


def allowed(filters: Sequence[Filter], snapshot: Snapshot) -> Mask:
    """Which rows meet all of the filters: bool (n,)."""
    met = np.ones(len(snapshot), bool)
    for condition in filters:
        met &= _mask(condition, snapshot)
    return met


def bitmap(mask: Mask) -> NDArray[np.uint64]:
    """Pack a mask, bool (n,), as the kernels take it: row i is bit i % 64 of word i // 64."""
    packed = np.packbits(mask, bitorder="little")
    words = np.zeros(-(-len(mask) // 64) * 8, np.uint8)
    words[: len(packed)] = packed
    return words.view("<u8").astype(np.uint64, copy=False)


def _mask(condition: Filter, snapshot: Snapshot) -> Mask:
    match condition:
        case OneOf():
            return _one_of(condition, snapshot)
        case NumberRange():
            bounds = (condition.gte, condition.gt, condition.lte, condition.lt)
            return _between(snapshot.numbers(condition.field), bounds)
        case TimeRange():
            moments = (condition.gte, condition.gt, condition.lte, condition.lt)
            times = snapshot.times(condition.field)
            between = _between(times, [None if moment is None else _microseconds(moment) for moment in moments])
            known: Mask = times != NO_TIME
            return between & known
        case Near():
            return _near(condition, snapshot)
        case Matches():
            return _matches(condition, snapshot)
        case Not():
            return ~_mask(condition.condition, snapshot)
        case AnyOf():
            met: Mask = np.logical_or.reduce([_mask(part, snapshot) for part in condition.conditions])
            return met


def _one_of(condition: OneOf, snapshot: Snapshot) -> Mask:
    values = set(condition.values) - {""}
    if condition.field in names_held(Held.CATEGORY):
        categories = snapshot.categories(condition.field)
        if condition.field in names_filtered(FilterKind.TREE):
            return categories.rows_where(lambda group: _is_below_any(values, group))
        return categories.rows_with(values)
    met = np.zeros(len(snapshot), bool)
    wanted = sorted(values)
    if condition.field == "image_id":
        rows = snapshot.find(keys_of(wanted))
        held = np.flatnonzero(rows >= 0)
        # Two ids can share a key: the id decides.
        same = [wanted[i] == image_id for i, image_id in zip(held, snapshot.image_ids(rows[held]), strict=True)]
        met[rows[held][np.array(same, bool)]] = True
    else:
        met[snapshot.rows_of_listings(wanted)] = True
    return met


def _is_below_any(nodes: set[str], group: str) -> bool:
    """Whether a group (``Apparel/Topwear/Shirts``) is one of the nodes or below it, by path or by a bare name."""
    names = group.split("/")
    paths = {"/".join(names[: depth + 1]) for depth in range(len(names))}
    return bool(nodes & paths or nodes & set(names))


def _between(values: NDArray[np.generic], bounds: Sequence[float | None]) -> Mask:
    """Which values lie within the bounds (gte, gt, lte, lt), of which there is one at least; NaN never does."""
    met = np.ones(len(values), bool)
    compare = (np.greater_equal, np.greater, np.less_equal, np.less)
    for bound, comparison in zip(bounds, compare, strict=True):
        if bound is not None:
            met &= comparison(values, bound)
    return met


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _near(condition: Near, snapshot: Snapshot) -> Mask:
    """By the haversine formula, for those rows that are not already too far to the north or south."""
    lat, lon = snapshot.degrees("lat"), snapshot.degrees("lon")
    lat0, lon0 = np.radians(condition.of)
    angle = min(condition.within_km / EARTH_RADIUS_KM, np.pi)
    reach = np.degrees(angle) * DEGREE + 1
    south, north = np.degrees(lat0) * DEGREE - reach, np.degrees(lat0) * DEGREE + reach
    met = np.zeros(len(snapshot), bool)
    for start in range(0, len(met), _BLOCK):
        part_lat, part_lon = lat[start : start + _BLOCK], lon[start : start + _BLOCK]
        known = (part_lat != NO_DEGREES) & (part_lon != NO_DEGREES)
        rows = np.flatnonzero(known & (part_lat >= south) & (part_lat <= north))
        lat1, lon1 = np.radians(part_lat[rows] / DEGREE), np.radians(part_lon[rows] / DEGREE)
        half_chord = np.sin((lat1 - lat0) / 2) ** 2 + np.cos(lat1) * np.cos(lat0) * np.sin((lon1 - lon0) / 2) ** 2
        met[start + rows] = half_chord <= np.sin(angle / 2) ** 2
    return met


def _matches(condition: Matches, snapshot: Snapshot) -> Mask:
    words = snapshot.words(condition.field).matching(words_of(condition.words))
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=len(snapshot), bitorder="little")
    return bits.view(np.bool_)
