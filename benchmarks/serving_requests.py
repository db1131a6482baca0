"""The requests of the benchmark of the server: by id, by photo, and with every kind of filter."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from serving_client import UNIQUE_CHARS, Request
from serving_rows import (
    COLOURS,
    EAST,
    FIRST_LISTING,
    FIRST_S,
    GROUPS,
    LAST_S,
    LISTING,
    MAX_PRICE,
    MIN_PRICE,
    NORTH,
    SOUTH,
    WEST,
    SyntheticRows,
)

COUNT = 20
COLLECTION_PATH = "/v1/collections/default"

Filter = dict[str, Any]


def http(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """A request as it is sent."""
    kind = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n" if body or method != "GET" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n".encode() + body


def search(**body: Any) -> bytes:
    """A search by the id of a stored image."""
    return http("POST", f"{COLLECTION_PATH}/search", json.dumps(body, ensure_ascii=False).encode())


NO_OP = http("GET", "/healthz")


def photo_request(photo: bytes) -> Request:
    """A search by a JPEG with a comment that no two requests share: the same pixels, and never the same bytes."""
    before, after = commented(photo)
    whole = len(before) + UNIQUE_CHARS + len(after)
    head = http("POST", f"{COLLECTION_PATH}/search/image?count={COUNT}", b"-" * whole, "image/jpeg")[:-whole]
    return head + before, after


def commented(jpeg: bytes) -> tuple[bytes, bytes]:
    """The parts of a JPEG around the text of a comment."""
    assert jpeg.startswith(b"\xff\xd8")
    return jpeg[:2] + b"\xff\xfe" + (UNIQUE_CHARS + 2).to_bytes(2, "big"), jpeg[2:]


def noise_photo(side_px: int, seed: int) -> bytes:
    """A JPEG of noise, the largest that its size can be: about a byte for each pixel."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


@dataclass(frozen=True)
class FilterKind:
    """A kind of filter.

    Attributes
    ----------
    allows : float
        Which part of the rows one of them allows.
    draw : callable
        One of them, not drawn before where there are enough.
    is_text : bool
    """

    name: str
    allows: float
    draw: Callable[[], list[Filter]]
    is_text: bool = False


def filter_kinds(rows: SyntheticRows, count: int, seed: int) -> list[FilterKind]:
    """Every kind, each with a stream of its own: no two draws are alike, unless ``_common`` runs out of words."""
    rng = np.random.default_rng(seed)
    numbers = itertools.count()
    rare = itertools.cycle(rng.permutation(rows.rare_words).tolist())
    common, pairs = _common(rows, rng), _pairs(rows, rng)

    def price(part: float) -> Filter:
        width = (MAX_PRICE - MIN_PRICE) * part
        low = rng.uniform(MIN_PRICE, MAX_PRICE - width)
        return {"field": "price", "gte": low, "lt": low + width}

    def time() -> Filter:
        low = int(rng.integers(FIRST_S, LAST_S - (LAST_S - FIRST_S) // 10))
        return {"field": "created_at", "gte": _iso(low), "lt": _iso(low + (LAST_S - FIRST_S) // 10)}

    def one_of(field: str, values: Sequence[str]) -> Filter:
        # With a value that nobody has, the list is one that was not sent before.
        return {"field": field, "in": [*values, f"none {seed} {next(numbers)}"]}

    def listings() -> Filter:
        chosen = FIRST_LISTING + rng.integers(0, count // LISTING, 20)
        return {"field": "listing_id", "in": [str(number) for number in chosen]}

    def place() -> Filter:
        of = [round(rng.uniform(SOUTH + 0.25, NORTH - 0.25), 4), round(rng.uniform(WEST + 0.4, EAST - 0.4), 4)]
        return {"field": "place", "within_km": 25.3 + rng.uniform(0, 0.1), "of": of}

    def colour() -> Filter:
        return one_of("colour", [f"colour {rng.integers(COLOURS)}"])

    def group() -> Filter:
        return one_of("group", [rows.groups[rng.integers(GROUPS)]])

    def title(words: Iterator[str]) -> list[Filter]:
        return [{"field": "title", "matches": next(words)}]

    return [
        FilterKind("group", 1 / GROUPS, lambda: [group()]),
        FilterKind("price, 1 in 10", 1 / 10, lambda: [price(1 / 10)]),
        FilterKind("price, 1 in 100", 1 / 100, lambda: [price(1 / 100)]),
        FilterKind("time, 1 in 10", 1 / 10, lambda: [time()]),
        FilterKind("place, 1 in 100", 1 / 100, lambda: [place()]),
        FilterKind("colour and price", 1 / 120, lambda: [colour(), price(1 / 10)]),
        FilterKind("listing, 20", 80 / count, lambda: [listings()]),
        FilterKind("title, a rare word", 1 / 10_000, lambda: title(rare), is_text=True),
        FilterKind("title, a common word", 1 / 8, lambda: title(common), is_text=True),
        FilterKind("title, two common words", 1 / 64, lambda: title(pairs), is_text=True),
    ]


def _common(rows: SyntheticRows, rng: np.random.Generator) -> Iterator[str]:
    """Words that stand in an eighth of the titles, whole or cut off: 160 of them, again and again."""
    words = [word[:length] for words in rows.common_words for word in words for length in (3, 4, 5, 6)]
    return itertools.cycle(rng.permutation(sorted(set(words))).tolist())


def _pairs(rows: SyntheticRows, rng: np.random.Generator) -> Iterator[str]:
    """Words of two slots of a title: some ten thousand."""
    slots = len(rows.common_words)
    while True:
        chosen = [rng.choice(rows.common_words[slot]) for slot in rng.permutation(slots)[:2]]
        yield " ".join(word[: rng.integers(3, 7)] for word in chosen)


def _iso(seconds: int) -> str:
    return str(np.datetime64(seconds, "s")) + "Z"


def by_id(rows: SyntheticRows, count: int, how_many: int, seed: int, **options: Any) -> list[bytes]:
    """Searches by random ids, each once where there are enough."""
    return [search(image_id=image_id, count=COUNT, **options) for image_id in random_ids(rows, count, how_many, seed)]


def random_ids(rows: SyntheticRows, count: int, how_many: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    few = count < 4 * how_many
    return rows.image_ids(rng.permutation(count)[:how_many] if few else rng.integers(0, count, how_many))


def filtered(rows: SyntheticRows, count: int, how_many: int, kind: FilterKind, *, new: bool, seed: int) -> list[bytes]:
    """Searches by random ids with one kind of filter: another in each request, or one in all."""
    same = kind.draw()
    ids = random_ids(rows, count, how_many, seed)
    return [search(image_id=image_id, count=COUNT, filters=kind.draw() if new else same) for image_id in ids]


def body_of(request: bytes) -> Mapping[str, Any]:
    """The JSON of a request."""
    found: Mapping[str, Any] = json.loads(request.partition(b"\r\n\r\n")[2])
    return found
