"""Conditions on a row's fields: the values of the contract. ``evaluate`` finds the rows that meet them.

    {"field": "group", "in": ["Shirts"]}            a leaf of the category tree, or any node above it
    {"field": "price", "gte": 10, "lt": 50}         also `created_at`, with ISO times
    {"field": "place", "within_km": 25, "of": [48.2, 16.4]}
    {"field": "title", "matches": "rote jacke"}     every word begins a word of the title
    {"not": {...}}, {"any": [...]}

A row without a value meets no condition on it, and so it meets the `not` of one. Which fields take which condition is
said where they are declared, in ``ingest.attributes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from lookalike.ingest.attributes import MAX_ID_CHARS, FilterKind, Held, Moment, max_chars, names_filtered, names_held

MAX_VALUES: Final = 1000
MAX_CONDITIONS: Final = 32
MAX_DEPTH: Final = 4

_RANGE_FIELDS = names_filtered(FilterKind.RANGE)
_TIME_FIELDS = tuple(name for name in _RANGE_FIELDS if name in names_held(Held.TIME))
_NUMBER_FIELDS = tuple(name for name in _RANGE_FIELDS if name not in _TIME_FIELDS)


def _field_of(names: tuple[str, ...]) -> Any:
    """The type of a field name that is one of some: a ``Literal`` whose values are known when the program runs."""
    expected = " or ".join(filter(None, (", ".join(map(repr, names[:-1])), repr(names[-1]))))

    def check(name: str) -> str:
        if name not in names:
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return name

    return Annotated[str, AfterValidator(check), Field(json_schema_extra={"enum": list(names)})]


class _Condition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_VALUE_FIELDS = names_filtered(FilterKind.VALUES, FilterKind.TREE)
Value = Annotated[str, Field(max_length=max(MAX_ID_CHARS, max_chars(_VALUE_FIELDS)))]


class OneOf(_Condition):
    """The field has one of these values; a group also lies below one of these nodes."""

    field: _field_of(("image_id", *_VALUE_FIELDS))  # type: ignore[valid-type]
    values: Annotated[tuple[Value, ...], Field(alias="in", min_length=1, max_length=MAX_VALUES)]


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Range(_Condition):
    @model_validator(mode="after")
    def _some_bound(self) -> Self:
        if not self.model_dump(exclude={"field"}, exclude_none=True):
            raise ValueError("give at least one of gte, gt, lte, lt")
        return self


class NumberRange(_Range):
    """The number lies between the bounds given."""

    field: _field_of(_NUMBER_FIELDS)  # type: ignore[valid-type]
    gte: Number | None = None
    gt: Number | None = None
    lte: Number | None = None
    lt: Number | None = None


class TimeRange(_Range):
    """The time lies between the times given."""

    field: _field_of(_TIME_FIELDS)  # type: ignore[valid-type]
    gte: Moment | None = None
    gt: Moment | None = None
    lte: Moment | None = None
    lt: Moment | None = None


class Near(_Condition):
    """The place lies within a distance of a point (latitude, longitude in degrees), along the surface."""

    field: Literal["place"]
    within_km: Annotated[float, Field(gt=0, le=20_100, allow_inf_nan=False)]
    of: tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-180, le=180)]]


class Matches(_Condition):
    """Every word given begins a word of the text; case does not matter."""

    field: _field_of(names_filtered(FilterKind.WORDS))  # type: ignore[valid-type]
    words: Annotated[str, Field(alias="matches", min_length=1, max_length=200, pattern=r"\w")]


class Not(_Condition):
    """The condition is not met; a row without a value meets this."""

    condition: Annotated[Filter, Field(alias="not")]


class AnyOf(_Condition):
    """At least one of the conditions is met."""

    conditions: Annotated[tuple[Filter, ...], Field(alias="any", min_length=1, max_length=MAX_CONDITIONS)]


def _kind(condition: Any) -> str | None:
    if isinstance(condition, _Condition):  # one that is written as JSON
        return _KINDS[type(condition)]
    given = set(condition) if isinstance(condition, Mapping) else set()
    if given & {"gte", "gt", "lte", "lt"}:
        return "time" if condition.get("field") in _TIME_FIELDS else "number"
    for operators, kind in (
        ({"in"}, "in"),
        ({"within_km", "of"}, "near"),
        ({"matches"}, "matches"),
        ({"not"}, "not"),
        ({"any"}, "any"),
    ):
        if given & operators:
            return kind
    return None


_KINDS: dict[type[_Condition], str] = {
    OneOf: "in",
    NumberRange: "number",
    TimeRange: "time",
    Near: "near",
    Matches: "matches",
    Not: "not",
    AnyOf: "any",
}
Filter = Annotated[
    Annotated[OneOf, Tag("in")]
    | Annotated[NumberRange, Tag("number")]
    | Annotated[TimeRange, Tag("time")]
    | Annotated[Near, Tag("near")]
    | Annotated[Matches, Tag("matches")]
    | Annotated[Not, Tag("not")]
    | Annotated[AnyOf, Tag("any")],
    Discriminator(
        _kind,
        custom_error_type="unknown_condition",
        custom_error_message="a filter has one of: in; gte, gt, lte, lt; within_km and of; matches; not; any",
    ),
]
Not.model_rebuild()
AnyOf.model_rebuild()


def check_size(filters: Sequence[Filter], depth: int = 1) -> int:
    """Count conditions, those inside others too; each is a pass over a shard's rows.

    Raises
    ------
    ValueError
        There are more than ``MAX_CONDITIONS``, or they are nested deeper than ``MAX_DEPTH``.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"filters may be nested {MAX_DEPTH} deep")
    inner = [part for f in filters for part in ((f.condition,) if isinstance(f, Not) else getattr(f, "conditions", ()))]
    total = len(filters) + (check_size(inner, depth + 1) if inner else 0)
    if total > MAX_CONDITIONS:
        raise ValueError(f"there may be at most {MAX_CONDITIONS} conditions in all")
    return total


def _not_too_many(filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
    check_size(filters)
    return filters


Filters = Annotated[
    tuple[Filter, ...],
    AfterValidator(_not_too_many),
    Field(max_length=MAX_CONDITIONS, description="Conditions on the hits; all must hold, before phase one."),
]
