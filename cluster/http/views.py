"""Answers as JSON, made of what the coordinator returns."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import NDArray

from lookalike.actors.query.query import Query, in_bits
from lookalike.cluster.coordinator.search import Answer
from lookalike.ingest.attributes import Attributes
from lookalike.model.spec import ModelSpec

# What `quote` leaves as it is; it takes four times as long to find that out.
_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*")


def answer_json(collection: str, spec: ModelSpec, query: Query, answer: Answer, took_ms: float) -> bytes:
    """Write the answer to a search as JSON: orjson takes 4 us for 20 hits, the standard library 35."""
    return orjson.dumps(answer_view(collection, spec, query, answer, took_ms))


def answer_view(collection: str, spec: ModelSpec, query: Query, answer: Answer, took_ms: float) -> dict[str, Any]:
    """Render the answer to a search."""
    names = [component.name for component in spec.components]
    largest = largest_distance(spec, query.weights)
    hits = []
    for hit in answer.hits:
        view: dict[str, Any] = {
            "image_id": hit.image_id,
            "listing_id": hit.listing_id,
            "group": hit.group,
            "group_name": group_name(hit.group),
            "distance": in_bits(hit.distance_hundredths),
            "similarity": similarity(hit.distance_hundredths, largest),
            "photo": photo_path(collection, hit.image_id),
        }
        if hit.components is not None:
            view["components"] = dict(zip(names, hit.components, strict=True))
        hits.append(view)
    return {
        "query_id": uuid.uuid4().hex,
        "count": len(hits),
        "took_ms": round(took_ms, 3),
        "shards_answered": answer.shards_answered,
        "shards_total": answer.shards_total,
        "hits": hits,
    }


def stored_view(collection: str, row: Mapping[str, object]) -> dict[str, object]:
    """Render a stored row: its attributes and codes, and not where its photo lies."""
    attributes = {name: row[name] for name in Attributes.model_fields}
    texts = {name: "" for name, field in Attributes.model_fields.items() if field.annotation is str}
    times = {name: value.isoformat() for name, value in attributes.items() if isinstance(value, datetime)}
    return {
        "image_id": row["image_id"],
        **{name: texts.get(name) if value is None else value for name, value in attributes.items()},
        **times,
        "group_name": group_name(str(row["group"] or "")),
        "photo": photo_path(collection, str(row["image_id"])),
        "short": hex_code(cast(bytes, row["short"])),
        "long": hex_code(cast(bytes, row["long"])),
    }


def largest_distance(spec: ModelSpec, weights: Sequence[int]) -> int:
    """Return the distance, in hundredths of a bit, of two photos that differ in every bit."""
    return sum(weight * component.bits for weight, component in zip(weights, spec.components, strict=True))


def similarity(distance: int, largest: int) -> float:
    """Return 1 - distance / largest, to four decimals; 1 where nothing counts.

    Rounding keeps the order: of two hits the nearer one is never less similar.
    """
    return round(1 - distance / largest, 4) if largest else 1.0


def photo_path(collection: str, image_id: str) -> str:
    """Return where a photo is, on this server."""
    quoted = image_id if _PLAIN.fullmatch(image_id) else quote(image_id)
    return f"/v1/collections/{collection}/images/{quoted}/photo"


def group_name(group: str) -> str:
    """Return the name of a group's own node: the last of its path."""
    return group.rpartition("/")[2]


def hex_code(code: bytes | NDArray[np.uint64]) -> str:
    """Write a code, as words or as the store has them, in hexadecimal: 16 digits a word, most significant first."""
    words = np.frombuffer(code, "<u8") if isinstance(code, bytes) else code
    return "".join(f"{int(word):016x}" for word in words)
