"""Messages come back as they were written, and nothing but a whole message of ours is read."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.hits import shard_hits

from lookalike.actors.query import wire
from lookalike.actors.query.merge import NotHeld, PastDeadline, Reply, ShardHits
from lookalike.actors.query.message import WireError, kind_of
from lookalike.actors.query.query import Descriptor, Query, SearchOptions

SHORT_WORDS, LONG_WORDS, COMPONENTS = 2, 3, 2
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda time: time.replace(tzinfo=UTC).isoformat())

leaves = st.one_of(
    st.builds(lambda values: {"field": "group", "in": values}, st.lists(TEXTS, min_size=1, max_size=3)),
    st.builds(lambda low, high: {"field": "price", "gte": low, "lt": high}, FLOATS, FLOATS),
    st.builds(lambda moment: {"field": "created_at", "gt": moment}, TIMES),
    st.builds(
        lambda km, lat, lon: {"field": "place", "within_km": km, "of": [lat, lon]},
        st.floats(0.001, 20_000),
        st.floats(-90, 90),
        st.floats(-180, 180),
    ),
    st.builds(lambda words: {"field": "title", "matches": f"a{words}"}, TEXTS),
)
filters = st.lists(
    leaves | st.builds(lambda f: {"not": f}, leaves) | st.builds(lambda f: {"any": f}, st.lists(leaves, min_size=1)),
    max_size=3,
)
options = st.fixed_dictionaries(
    {"count": st.integers(1, 1000), "filters": filters},
    optional={
        "weights": st.dictionaries(TEXTS, st.integers(0, 1000).map(lambda hundredths: hundredths / 100), max_size=2),
        "collapse": st.booleans(),
        "verbose": st.booleans(),
        "require_all": st.booleans(),
        "two_phase": st.booleans(),
    },
).map(SearchOptions.model_validate)


def words(count: int) -> st.SearchStrategy[NDArray[np.uint64]]:
    return st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count).map(lambda w: np.array(w, np.uint64))


descriptors = st.builds(Descriptor, words(SHORT_WORDS), words(LONG_WORDS))


@st.composite
def queries(draw: st.DrawFn) -> Query:
    target = draw(TEXTS | descriptors)
    return Query(
        draw(options),
        tuple(draw(st.lists(st.integers(0, 1000), min_size=COMPONENTS, max_size=COMPONENTS))),
        draw(st.none() | st.integers(1, 2**40)),
        target,
        draw(st.none() | descriptors) if isinstance(target, str) else None,
        draw(st.just(math.inf) | st.integers(-100, 100).map(float)),
    )


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    if draw(st.booleans()):
        return NotHeld() if draw(st.booleans()) else PastDeadline()
    ids = draw(st.lists(st.tuples(TEXTS, st.just("") | TEXTS), max_size=4))
    n = len(ids)

    def numbers(largest: int, count: int = n) -> list[int]:
        return draw(st.lists(st.integers(0, largest), min_size=count, max_size=count))

    return shard_hits(
        ids,
        keys=numbers(2**64 - 1),
        short=numbers(8),
        long=numbers(2**32 - 1),
        groups=[draw(st.just("") | TEXTS) for _ in ids],
        components=[numbers(2**16 - 1, COMPONENTS) for _ in ids] if draw(st.booleans()) and ids else None,
        pinned=draw(st.integers(-1, n - 1)),
        threshold=draw(st.integers(0, 2**16 - 1)),
    )


found = st.none() | descriptors
MESSAGES: list[tuple[st.SearchStrategy[bytes], Callable[[bytes], Any]]] = [
    (st.lists(queries(), max_size=4).map(lambda q: wire.encode_queries(q, 0)), lambda m: wire.decode_queries(m, 0)),
    (st.lists(replies(), max_size=4).map(wire.encode_replies), wire.decode_replies),
    (st.lists(TEXTS, max_size=4).map(wire.encode_lookup), wire.decode_lookup),
    (st.lists(found, max_size=4).map(wire.encode_codes), wire.decode_codes),
]
messages = st.one_of([st.tuples(encoded, st.just(decode)) for encoded, decode in MESSAGES])


def plain(value: object) -> object:
    """A value that can be compared: arrays as their type, shape and content."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tolist()
    if isinstance(value, Descriptor):
        return tuple(map(plain, value))
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        return type(value).__name__, fields
    return value


@settings(deadline=None)
@given(st.lists(queries(), max_size=5))
def test_wire_gives_queries_back_as_they_were(batch: list[Query]) -> None:
    read = wire.decode_queries(wire.encode_queries(batch, now=1000.0), now=1000.0)
    assert list(map(plain, read)) == list(map(plain, batch))


@settings(deadline=None)
@given(queries())
def test_wire_keeps_the_seconds_until_a_deadline_though_clocks_differ(query: Query) -> None:
    (read,) = wire.decode_queries(wire.encode_queries([query], now=20.0), now=500_000.0)
    assert read.deadline - 500_000 == query.deadline - 20


@settings(deadline=None)
@given(st.lists(replies(), max_size=5))
def test_wire_gives_replies_back_as_they_were(batch: list[Reply]) -> None:
    read = wire.decode_replies(wire.encode_replies(batch))
    for one, other in zip(read, batch, strict=True):
        assert type(one) is type(other)
        if isinstance(one, ShardHits) and isinstance(other, ShardHits):
            assert one.histogram.tolist() == other.histogram.tolist()
            assert one.groups.values(one.group_of) == other.groups.values(other.group_of)
            for name in ("threshold", "pinned", "keys", "short", "long", "components", "ids"):
                assert plain(getattr(one, name)) == plain(getattr(other, name)), name


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=5), st.lists(found, max_size=5))
def test_wire_gives_lookups_and_codes_back_as_they_were(ids: list[str], codes: list[Descriptor | None]) -> None:
    assert wire.decode_lookup(wire.encode_lookup(ids)) == ids
    assert list(map(plain, wire.decode_codes(wire.encode_codes(codes)))) == list(map(plain, codes))


@settings(deadline=None, max_examples=200)
@given(messages, st.data())
def test_wire_refuses_a_message_that_is_cut_or_has_a_byte_too_many(
    message: tuple[bytes, Callable[[bytes], Any]], data: st.DataObject
) -> None:
    content, decode = message
    for wrong in (content[: data.draw(st.integers(0, len(content) - 1))], content + data.draw(st.binary(min_size=1))):
        with pytest.raises(WireError):
            decode(wrong)


@settings(deadline=None, max_examples=400)
@given(messages, st.data())
def test_wire_refuses_a_damaged_message_or_reads_other_values_and_does_nothing_else(
    message: tuple[bytes, Callable[[bytes], Any]], data: st.DataObject
) -> None:
    content, decode = message
    damaged = bytearray(content)
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(damaged))
    except WireError:
        return
    for reply in read:
        if isinstance(reply, ShardHits):
            assert len(reply.keys) == len(reply.short) == len(reply.long) == len(reply.ids.sizes)
            assert -1 <= reply.pinned < len(reply.keys)
            rows = np.arange(len(reply.keys))
            assert sum(map(len, reply.ids.listings(rows))) <= 2 * reply.ids.words.nbytes


@settings(deadline=None)
@given(st.binary(max_size=60) | st.sampled_from([pickle.dumps([1, "a"]), b"{}", b""]))
def test_wire_refuses_what_is_no_message(content: bytes) -> None:
    for _, decode in MESSAGES:
        with pytest.raises(WireError):
            decode(content if content[:1] != b"\x01" else b"\x02" + content)
    with pytest.raises(WireError):
        kind_of(b"\x01\x07")


@pytest.mark.parametrize(("encoded", "decode"), MESSAGES)
def test_wire_believes_no_size_before_the_bytes_are_there(encoded: object, decode: Callable[[bytes], Any]) -> None:
    for kind in range(1, 5):
        with pytest.raises(WireError):
            decode(bytes([1, kind]) + b"\xff" * 40)


def test_wire_sends_and_parses_options_once() -> None:
    def batch(count: int, value: str) -> Sequence[Query]:
        given = {"filters": [{"field": "group", "in": [value]}]}
        return [Query(SearchOptions.model_validate(given), (1, 2), 256, "id") for _ in range(count)]

    one, many = wire.encode_queries(batch(1, "g" * 900), 0), wire.encode_queries(batch(50, "g" * 900), 0)
    assert len(many) < len(one) + 50 * 40
    first, second = (wire.decode_queries(message, 0)[0].options for message in (one, many))
    assert first is second


def test_wire_keeps_no_options_that_would_fill_memory() -> None:
    given = {"filters": [{"field": "group", "in": [f"{number:0500}" for number in range(20)]}]}
    message = wire.encode_queries([Query(SearchOptions.model_validate(given), (1,), 256, "id")], 0)
    first, second = (wire.decode_queries(message, 0)[0].options for _ in range(2))
    assert first == second
    assert first is not second


def test_wire_refuses_options_that_nobody_may_give() -> None:
    message = wire.encode_queries([Query(SearchOptions(count=7), (1,), 256, "id")], 0)
    with pytest.raises(WireError, match="no search options"):
        wire.decode_queries(message.replace(b'"count":7', b'"count":0'), 0)
