"""What a condition will cost a shard, before it is evaluated."""

from __future__ import annotations

from typing import Final

from lookalike.actors.index.rows import Snapshot
from lookalike.actors.index.words import words_of
from lookalike.actors.query.filters import AnyOf, Filter, Matches, Near, Not, NumberRange, OneOf, TimeRange

# ns per row that is looked at, on one core (2.6 GHz Zen 4), rounded up; of words per posting and slot.
_RANGE_NS: Final = 1
_CATEGORY_NS: Final = 1
_NEAR_NS: Final = 4
_LISTING_NS: Final = 2
_MATCH_NS: Final = 1
# Of each value of an `in`, which is looked up once.
_VALUE_S: Final = 2e-6


def estimate_s(condition: Filter, snapshot: Snapshot) -> float:
    """About how many seconds one core takes to evaluate a condition for all slots of a snapshot."""
    slots = len(snapshot)
    match condition:
        case Not():
            return estimate_s(condition.condition, snapshot)
        case AnyOf():
            return sum(estimate_s(part, snapshot) for part in condition.conditions)
        case OneOf():
            per_row = {"image_id": 0, "listing_id": _LISTING_NS}.get(condition.field, _CATEGORY_NS)
            return 1e-9 * per_row * slots + _VALUE_S * len(condition.values)
        case NumberRange() | TimeRange():
            return 1e-9 * _RANGE_NS * slots
        case Near():
            return 1e-9 * _NEAR_NS * slots
        case Matches():
            return 1e-9 * _MATCH_NS * snapshot.words(condition.field).cost(words_of(condition.words))
