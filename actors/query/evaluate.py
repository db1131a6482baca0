"""Which rows of a snapshot meet some conditions, as a bitmap over all slots.

A column is evaluated natively, 64 rows to a word, in blocks of rows with a look at the clock before each. What a bitmap
says of hidden slots means nothing before it is combined with ``Snapshot.visible``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.columns import NO_TIME
from lookalike.actors.index.ids import hashes_of_texts
from lookalike.actors.index.rows import Snapshot
from lookalike.actors.index.slots import is_visible
from lookalike.actors.index.words import words_of
from lookalike.actors.query.bitmap_cache import BitmapCache, CachedBitmap
from lookalike.actors.query.cost import estimate_s
from lookalike.actors.query.deadline import DeadlineExceeded, check
from lookalike.actors.query.filters import AnyOf, Filter, Matches, Near, Not, NumberRange, OneOf, TimeRange
from lookalike.ingest.attributes import Held, names_held
from lookalike.ingest.store.keys import keys_of
from lookalike.kernels import masks
from lookalike.kernels.masks import Bitmap
from lookalike.kernels.places import Circle

Mask = NDArray[np.bool_]

EARTH_RADIUS_KM: Final = 6371.0088  # the mean radius of WGS 84 (IUGG)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Rows between two looks at the clock, a multiple of 64: at most 4 ms.
BLOCK_ROWS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Context:
    """What every condition of a search is evaluated with."""

    snapshot: Snapshot
    cache: BitmapCache
    deadline: float | None


@dataclass(frozen=True, slots=True)
class _Slots:
    """The slots that a condition is evaluated for: all of a snapshot, or some, int64 ascending."""

    snapshot: Snapshot
    deadline: float | None
    some: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.snapshot) if self.some is None else len(self.some)

    def of(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self.some is None else column[self.some]

    def by_blocks(self, evaluate: Callable[[slice, Bitmap], None]) -> Bitmap:
        """Let a function write the bitmap of each block of slots."""
        bitmap = np.empty(masks.words_for(len(self)), np.uint64)
        for start in range(0, len(self), BLOCK_ROWS):
            check(self.deadline, "its filters were evaluated")
            part = slice(start, min(start + BLOCK_ROWS, len(self)))
            evaluate(part, bitmap[start >> 6 : (part.stop + 63) >> 6])
        return bitmap


def allowed(
    filters: Sequence[Filter], snapshot: Snapshot, cache: BitmapCache, deadline: float | None = None
) -> Bitmap | None:
    """Which visible rows meet all of the filters.

    Parameters
    ----------
    cache : BitmapCache
        What was evaluated before, for these rows; what is evaluated now is put in.
    deadline : float, optional
        On the clock of ``time.monotonic``.

    Returns
    -------
    ndarray of uint64, shape (ceil(n / 64),), or None
        Not to be changed. Bits past row n mean nothing. None: all rows.

    Raises
    ------
    DeadlineExceeded
        The deadline has passed, or would have before all is evaluated: then nothing is begun.
    """
    context = _Context(snapshot, cache, deadline)
    check(deadline, "its filters were evaluated")
    _check_cost(filters, context)
    bits = snapshot.visible
    for condition in filters:
        met = _bits(condition, context)
        bits = met if bits is None else met & bits
    return bits


def bitmap(mask: Mask) -> Bitmap:
    """Pack a mask, bool (n,), as the kernels take it: row i is bit i % 64 of word i // 64."""
    return masks.pack(mask)


def _leaves(conditions: Sequence[Filter]) -> Iterator[Filter]:
    """Conditions that have no others inside, wherever they are."""
    for condition in conditions:
        match condition:
            case Not():
                yield from _leaves([condition.condition])
            case AnyOf():
                yield from _leaves(condition.conditions)
            case _:
                yield condition


def _check_cost(filters: Sequence[Filter], context: _Context) -> None:
    """Refuse work that would not end in time, before it is begun. To bring a bitmap up to date counts as none."""
    if context.deadline is None:
        return
    new = [leaf for leaf in set(_leaves(filters)) if _known(leaf, context) is None]
    needed_s = sum(estimate_s(condition, context.snapshot) for condition in new)
    left_s = context.deadline - time.monotonic()
    if needed_s > left_s:
        raise DeadlineExceeded(
            f"its filters would take about {needed_s:.2f} s, and {max(left_s, 0):.2f} s are left; "
            "use fewer values or conditions"
        )


def _bits(condition: Filter, context: _Context) -> Bitmap:
    match condition:
        case Not():
            return ~_bits(condition.condition, context)
        case AnyOf():
            met = _bits(condition.conditions[0], context)
            for part in condition.conditions[1:]:
                met = met | _bits(part, context)
            return met
        case _:
            return _leaf(condition, context)


def _known(condition: Filter, context: _Context) -> CachedBitmap | None:
    known = context.cache.get(condition, context.snapshot)
    # Texts are looked for in all rows or in none.
    return None if known is not None and len(known.stale) and isinstance(condition, Matches) else known


def _leaf(condition: Filter, context: _Context) -> Bitmap:
    """By the cache, brought up to date, or anew."""
    snapshot, deadline = context.snapshot, context.deadline
    if isinstance(condition, OneOf) and condition.field == "image_id":  # as cheap as a look into the cache
        return _images(condition.values, snapshot)
    known = _known(condition, context)
    if known is None:
        met = _evaluate(condition, _Slots(snapshot, deadline))
    elif not len(known.stale):
        met = known.bitmap
    else:
        again = _evaluate(condition, _Slots(snapshot, deadline, known.stale))
        met = _refreshed(known.bitmap, known.stale, again, len(snapshot))
    context.cache.put(condition, snapshot, met)
    return met


def _refreshed(bits: Bitmap, slots: NDArray[np.int64], met: Bitmap, count: int) -> Bitmap:
    """A copy of a bitmap, for ``count`` slots, with new bits for some slots."""
    refreshed = np.zeros(masks.words_for(count), np.uint64)
    refreshed[: len(bits)] = bits
    masks.remove_rows(refreshed, slots)
    masks.add_rows(refreshed, slots[masks.unpack(met, len(slots))])
    return refreshed


def _evaluate(condition: Filter, slots: _Slots) -> Bitmap:
    match condition:
        case OneOf():
            return _one_of(condition, slots)
        case NumberRange():
            return _number_range(condition, slots)
        case TimeRange():
            return _time_range(condition, slots)
        case Near():
            return _near(condition, slots)
        case Matches():
            return _matches(condition, slots)
        case _:
            raise TypeError(f"{type(condition).__name__} is evaluated by its parts")


def _one_of(condition: OneOf, slots: _Slots) -> Bitmap:
    if condition.field not in names_held(Held.CATEGORY):
        return _listings(condition.values, slots)
    categories = slots.snapshot.categories(condition.field)
    numbers, wanted = slots.of(categories.numbers), categories.numbers_of(condition.values)
    return slots.by_blocks(lambda part, out: masks.members(numbers[part], wanted, out))


def _images(values: Sequence[str], snapshot: Snapshot) -> Bitmap:
    wanted = sorted(set(values) - {""})
    rows = snapshot.find(keys_of(wanted))
    held = np.flatnonzero(rows >= 0)
    # Two ids can share a key: the id decides.
    same = [wanted[i] == image_id for i, image_id in zip(held, snapshot.image_ids(rows[held]), strict=True)]
    bits = np.zeros(masks.words_for(len(snapshot)), np.uint64)
    masks.add_rows(bits, rows[held][np.array(same, bool)])
    return bits


def _listings(values: Sequence[str], slots: _Slots) -> Bitmap:
    """By 16 bits of a hash, then by the ids of the visible rows that have it: those of others may be gone."""
    wanted, snapshot = sorted(set(values) - {""}), slots.snapshot
    if slots.some is not None:
        met = is_visible(snapshot.visible, len(snapshot), slots.some)
        met[met] = snapshot.have_listings(wanted, slots.some[met])
        return bitmap(met)
    table = np.zeros(1 << 16, bool)
    table[hashes_of_texts(wanted)] = True

    def evaluate(part: slice, out: Bitmap) -> None:
        where = np.empty_like(out)
        masks.members(snapshot.listing_hashes[part], table, where)
        if snapshot.visible is not None:
            where &= snapshot.visible[part.start >> 6 : (part.stop + 63) >> 6]
        snapshot.find_listings(wanted, part, where, out)

    return slots.by_blocks(evaluate)


def _number_range(condition: NumberRange, slots: _Slots) -> Bitmap:
    """Between bounds that are made inclusive: above x is from the next number on."""
    above = None if condition.gt is None else np.nextafter(condition.gt, np.inf)
    below = None if condition.lt is None else np.nextafter(condition.lt, -np.inf)
    lower = max((float(bound) for bound in (condition.gte, above) if bound is not None), default=-np.inf)
    upper = min((float(bound) for bound in (condition.lte, below) if bound is not None), default=np.inf)
    return _range(slots.snapshot.numbers(condition.field), lower, upper, slots)


def _time_range(condition: TimeRange, slots: _Slots) -> Bitmap:
    gte, gt, lte, lt = (
        None if moment is None else _microseconds(moment)
        for moment in (condition.gte, condition.gt, condition.lte, condition.lt)
    )
    # The smallest integer says that a time is not known.
    lower = max([NO_TIME + 1, *(bound for bound in (gte, None if gt is None else gt + 1) if bound is not None)])
    upper = min(
        [np.iinfo(np.int64).max, *(bound for bound in (lte, None if lt is None else lt - 1) if bound is not None)]
    )
    return _range(slots.snapshot.times(condition.field), lower, upper, slots)


def _range(column: NDArray[Any], lower: float, upper: float, slots: _Slots) -> Bitmap:
    values = slots.of(column)
    return slots.by_blocks(lambda part, out: masks.within(values[part], lower, upper, out))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _near(condition: Near, slots: _Slots) -> Bitmap:
    circle = Circle(*condition.of, min(condition.within_km / EARTH_RADIUS_KM, np.pi))
    lat, lon = slots.of(slots.snapshot.degrees("lat")), slots.of(slots.snapshot.degrees("lon"))
    return slots.by_blocks(lambda part, out: masks.near(lat[part], lon[part], circle, out))


def _matches(condition: Matches, slots: _Slots) -> Bitmap:
    def look_at_the_clock() -> None:
        check(slots.deadline, "its words were looked up")

    return slots.snapshot.words(condition.field).matching(words_of(condition.words), look_at_the_clock)
