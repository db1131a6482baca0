"""What the coordinator and a shard send each other: one bytes object per batch and direction.

Pickled values of a batch cost two thirds of its call; here they are arrays end to end, read where they lie. All numbers
are little-endian. Each message begins with ``uint8`` version and ``uint8`` kind, and is read to its last byte: one that
is cut, too long, of another version or kind, or whose parts contradict each other is a ``WireError``. Nothing in it is
evaluated, and no size in it is believed before the bytes are there.

Queries (kind 1): what many queries of a batch share, options and weights, travels once for each distinct value.

    uint8 version, uint8 kind, uint16 short words, uint16 long words, uint16 components
    uint32 queries n, uint32 distinct options k, uint32 queries with codes c, uint32 0
    n times   float64 seconds until the deadline, infinite: none; int64 candidates, 0: a search in one phase;
              uint32 which of the options; uint16 bytes of the image id, 0: none; uint8 1: has codes; uint8 0
    uint64[c][short + long words]   codes
    uint32[k]                       bytes of each JSON
    uint16[k][components]           weights in hundredths
    k JSONs of ``SearchOptions``, n image ids in UTF-8

Replies (kind 2): of all queries, in their order; ids and groups are blobs (``index.blobs``), each group once.

    uint8 version, uint8 kind, uint16 components, uint32 replies n, uint32 rows r, uint32 rows with components v
    uint32 histogram entries h, uint32 words of ids i, uint32 words of groups g, uint32 groups t
    n times   int32 which of its rows is the target, -1: none; uint32 rows; uint16 threshold; uint16 entries of its
              histogram; uint8 1: hits, 2: hits with components, 3: the image is not held, 4: past its deadline;
              3 bytes 0
    uint64[r]                       keys
    uint32[r]                       long distances in hundredths of a bit
    uint32[r]                       which of the groups
    uint32[h]                       histograms
    uint32[i]                       blobs of ids
    uint32[g], uint32[t]            blobs of groups, words of each
    uint16[r]                       words of each blob of ids
    uint16[r]                       short distances
    uint16[v][components]           distances per component in bits, of the replies that have them

Image ids to look up (kind 3), and their codes (kind 4):

    uint8 version, uint8 kind, uint16 0, uint32 n, uint16[n] bytes of each id, n ids in UTF-8
    uint8 version, uint8 kind, uint16 short words, uint16 long words, uint16 0, uint32 n, uint32 codes c
    uint64[c][short + long words], uint8[n] 1: held
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lookalike.actors.index.blobs import BEGINS_IMAGE_ID, Blobs, id_sizes, value_sizes
from lookalike.actors.query.merge import NotHeld, PastDeadline, Reply, ShardHits
from lookalike.actors.query.message import VERSION, Kind, Reader, WireError, check
from lookalike.actors.query.query import Descriptor, Query, SearchOptions

# Parsed options are kept for the next query that has the same. Larger ones come seldom twice, and could fill memory.
MAX_CACHED_JSON_BYTES = 4096
MAX_CACHED = 256

_QUERIES = struct.Struct("<BBHHHIIII")
_REPLIES = struct.Struct("<BBHIIIIIII")
_QUERY = struct.Struct("<dqIHBB")
_REPLY = struct.Struct("<iIHHB3x")
_LOOKUP = struct.Struct("<BBHI")
_CODES = struct.Struct("<BBHHHII")
_HITS, _HITS_WITH_COMPONENTS, _NOT_HELD, _PAST_DEADLINE = 1, 2, 3, 4


def encode_queries(queries: Sequence[Query], now: float) -> bytes:
    """Write a batch of queries of one collection.

    Parameters
    ----------
    now : float
        The time that deadlines refer to. The shard counts from when it receives them.
    """
    options: dict[tuple[bytes, tuple[int, ...]], int] = {}
    option_of = [
        options.setdefault((query.options.model_dump_json(by_alias=True).encode(), query.weights), len(options))
        for query in queries
    ]
    jsons = [json for json, _ in options]
    ids = [(query.image_id or "").encode() for query in queries]
    codes = [codes for query in queries if (codes := query.descriptor) is not None]
    words = (len(codes[0].short), len(codes[0].long)) if codes else (0, 0)
    components = len(queries[0].weights) if queries else 0
    weights = np.array([weights for _, weights in options], "<u2").reshape(len(options), components)
    counts = len(queries), len(options), len(codes), 0
    records = [
        _QUERY.pack(query.deadline - now, query.candidates or 0, which, len(image_id), query.descriptor is not None, 0)
        for query, which, image_id in zip(queries, option_of, ids, strict=True)
    ]
    return _join(
        [
            _QUERIES.pack(VERSION, Kind.QUERIES, *words, components, *counts),
            *records,
            _codes(codes),
            np.array([len(json) for json in jsons], "<u4"),
            weights,
            *jsons,
            *ids,
        ]
    )


def decode_queries(message: bytes, now: float) -> list[Query]:
    """Read a batch of queries that was received at a time ``now``, to which their deadlines refer from then on."""
    reader = Reader(message, Kind.QUERIES, _QUERIES)
    short_words, long_words, components, n, k, c, zero = reader.header
    records = reader.records(_QUERY, n)
    codes = reader.array("<u8", c, short_words + long_words)
    json_bytes, weights = reader.array("<u4", k).tolist(), reader.array("<u2", k, components).tolist()
    jsons = reader.texts(json_bytes)
    ids = reader.texts([id_bytes for _, _, _, id_bytes, _, _ in records])
    reader.end()
    check(not zero and sum(coded for *_, coded, _ in records) == c, "codes")
    shared = [(_options(json), tuple(of)) for json, of in zip(jsons, weights, strict=True)]
    descriptors = iter(_descriptors(codes, short_words))
    queries = []
    for (seconds, candidates, which, _, coded, nothing), image_id in zip(records, ids, strict=True):
        check(which < k and coded <= 1 and not nothing and candidates >= 0 and seconds == seconds, "a query")
        options, of = shared[which]
        given = next(descriptors) if coded else None
        check(bool(image_id) or given is not None, "a query has no target")
        if image_id or given is None:
            queries.append(Query(options, of, candidates or None, _text(image_id), given, now + seconds))
        else:
            queries.append(Query(options, of, candidates or None, given, None, now + seconds))
    return queries


def encode_replies(replies: Sequence[Reply]) -> bytes:
    """Write the replies to a batch."""
    hits = [reply for reply in replies if isinstance(reply, ShardHits)]
    columns = [one.components for one in hits if one.components is not None]
    components = columns[0].shape[1] if columns else 0
    histograms = [one.histogram.astype("<u4") for one in hits]
    groups, group_of = _distinct_groups(hits)
    header = _REPLIES.pack(
        VERSION,
        Kind.REPLIES,
        components,
        len(replies),
        sum(len(one.keys) for one in hits),
        sum(map(len, columns)),
        sum(map(len, histograms)),
        sum(len(one.ids.words) for one in hits),
        sum(len(one.words) for one in groups),
        sum(len(one.sizes) for one in groups),
    )
    return _join(
        [
            header,
            *map(_record, replies),
            *(_little(one.keys) for one in hits),
            *(_little(one.long) for one in hits),
            *map(_little, group_of),
            *histograms,
            *(_little(one.ids.words) for one in hits),
            *(_little(one.words) for one in groups),
            *(_little(one.sizes) for one in groups),
            *(_little(one.ids.sizes) for one in hits),
            *(_little(one.short) for one in hits),
            *map(_little, columns),
        ]
    )


def decode_replies(message: bytes) -> list[Reply]:
    """Read the replies to a batch; their arrays are parts of the message."""
    reader = Reader(message, Kind.REPLIES, _REPLIES)
    components, n, r, v, h, i, g, t = reader.header
    records = reader.records(_REPLY, n)
    keys, long = reader.array("<u8", r), reader.array("<u4", r)
    group_of, histogram = reader.array("<u4", r), reader.array("<u4", h)
    id_words, groups = reader.array("<u4", i), Blobs(reader.array("<u4", g), reader.array("<u4", t))
    ids, short = Blobs(id_words, reader.array("<u2", r)), reader.array("<u2", r)
    bits = reader.array("<u2", v, components)
    reader.end()
    check(not r or int(group_of.max()) < t, "groups")
    counts = [(rows, rows if state == _HITS_WITH_COMPONENTS else 0, entries) for _, rows, _, entries, state in records]
    bounds = [[*accumulate(column, initial=0)] for column in zip(*counts, strict=True)] or [[0]] * 3
    check([column[-1] for column in bounds] == [r, v, h], "counts")
    words = _word_bounds(ids, bounds[0], _id_sizes)
    _word_bounds(groups, [0, t], value_sizes)
    replies: list[Reply] = []
    parts = (map(slice, column, column[1:]) for column in (*bounds, words))
    for (pinned, rows, threshold, entries, state), part, of_bits, of_histogram, of_ids in zip(
        records, *parts, strict=True
    ):
        if state in (_NOT_HELD, _PAST_DEADLINE):
            check(not rows and not entries, "a reply without hits")
            replies.append(NotHeld() if state == _NOT_HELD else PastDeadline())
            continue
        check(state in (_HITS, _HITS_WITH_COMPONENTS) and -1 <= pinned < rows, "a reply")
        replies.append(
            ShardHits(
                threshold=threshold,
                histogram=histogram[of_histogram],
                keys=keys[part],
                short=short[part],
                long=long[part],
                components=bits[of_bits] if state == _HITS_WITH_COMPONENTS else None,
                ids=Blobs(id_words[of_ids], ids.sizes[part]),
                groups=groups,
                group_of=group_of[part],
                pinned=pinned,
            )
        )
    return replies


def encode_lookup(image_ids: Sequence[str]) -> bytes:
    """Write the ids of images whose codes are wanted."""
    ids = [image_id.encode() for image_id in image_ids]
    lengths = np.array([len(image_id) for image_id in ids], "<u2")
    return _join([_LOOKUP.pack(VERSION, Kind.LOOKUP, 0, len(ids)), lengths, *ids])


def decode_lookup(message: bytes) -> list[str]:
    """Read the ids of images whose codes are wanted."""
    reader = Reader(message, Kind.LOOKUP, _LOOKUP)
    zero, n = reader.header
    ids = reader.texts(reader.array("<u2", n).tolist())
    reader.end()
    check(not zero, "header")
    return [_text(image_id) for image_id in ids]


def encode_codes(found: Sequence[Descriptor | None]) -> bytes:
    """Write the codes of images that were looked up; None for one that is not held."""
    codes = [one for one in found if one is not None]
    words = (len(codes[0].short), len(codes[0].long)) if codes else (0, 0)
    header = _CODES.pack(VERSION, Kind.CODES, *words, 0, len(found), len(codes))
    return _join([header, _codes(codes), bytes(one is not None for one in found)])


def decode_codes(message: bytes) -> list[Descriptor | None]:
    """Read the codes of images that were looked up; None for one that is not held."""
    reader = Reader(message, Kind.CODES, _CODES)
    short_words, long_words, zero, n, c = reader.header
    codes, held = reader.array("<u8", c, short_words + long_words), reader.array("u1", n)
    reader.end()
    check(not zero and bool((held <= 1).all()) and int(held.sum()) == c, "codes")
    descriptors = iter(_descriptors(codes, short_words))
    return [next(descriptors) if one else None for one in held.tolist()]


def _distinct_groups(hits: Sequence[ShardHits]) -> tuple[list[Blobs], list[NDArray[np.uint32]]]:
    """The groups of a batch, which its replies mostly share, and which of all of them each row has."""
    shared = {id(one.groups): one.groups for one in hits}
    first = dict(zip(shared, accumulate((len(one.sizes) for one in shared.values()), initial=0), strict=False))
    return list(shared.values()), [one.group_of + np.uint32(first[id(one.groups)]) for one in hits]


def _join(parts: Iterable[bytes | NDArray[Any]]) -> bytes:
    return b"".join(parts)  # type: ignore[arg-type]  # arrays are buffers; their types say so from Python 3.12 on


def _codes(codes: Sequence[Descriptor]) -> bytes:
    return _join(_little(words) for descriptor in codes for words in descriptor)


def _descriptors(codes: NDArray[np.uint64], short_words: int) -> list[Descriptor]:
    return [Descriptor(row[:short_words], row[short_words:]) for row in codes]


def _little(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"an image id is not UTF-8: {error.reason}") from error


def _options(json: bytes) -> SearchOptions:
    return _cached_options(json) if len(json) <= MAX_CACHED_JSON_BYTES else _parsed_options(json)


def _parsed_options(json: bytes) -> SearchOptions:
    try:
        return SearchOptions.model_validate_json(json)
    except ValidationError as error:
        raise WireError(f"these are no search options: {error.errors()[0]['msg']}") from error


_cached_options = lru_cache(MAX_CACHED)(_parsed_options)


def _record(reply: Reply) -> bytes:
    match reply:
        case ShardHits():
            state = _HITS if reply.components is None else _HITS_WITH_COMPONENTS
            return _REPLY.pack(reply.pinned, len(reply.keys), reply.threshold, len(reply.histogram), state)
        case NotHeld():
            return _REPLY.pack(-1, 0, 0, 0, _NOT_HELD)
        case PastDeadline():
            return _REPLY.pack(-1, 0, 0, 0, _PAST_DEADLINE)


def _id_sizes(headers: NDArray[np.uint32]) -> NDArray[np.int64]:
    image, listing = headers & 0xFFFF, headers >> 16
    check(bool(((listing < BEGINS_IMAGE_ID) | (listing - BEGINS_IMAGE_ID <= image)).all()), "ids")
    return id_sizes(headers)


def _word_bounds(
    blobs: Blobs, at: Sequence[int], sizes_of: Callable[[NDArray[np.uint32]], NDArray[np.int64]]
) -> list[int]:
    """Where the blobs of each reply begin, in words, after a check that each has the size that its header says."""
    ends = np.cumsum(blobs.sizes, dtype=np.int64)
    check((int(ends[-1]) if len(ends) else 0) == len(blobs.words), "words of blobs")
    if len(ends):
        check(int(blobs.sizes.min()) > 0, "an empty blob")
        check(bool((sizes_of(blobs.words[ends - blobs.sizes]) == blobs.sizes).all()), "sizes of blobs")
    return [int(ends[row - 1]) if row else 0 for row in at]
