"""What clients see, made of what we hold."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.coordinator.search import Answer
from lookalike.model.spec import ModelSpec

HIDDEN = ("key", "fingerprint", "short", "long", "photo")


def answer_view(collection: str, spec: ModelSpec, answer: Answer, took_ms: float) -> dict[str, Any]:
    """The answer to a search."""
    parts = [part.name for part in spec.components]
    hits = []
    for hit in answer.hits:
        view: dict[str, Any] = {
            "image_id": hit.image_id,
            "listing_id": hit.listing_id,
            "group": hit.group,
            "group_name": group_name(hit.group),
            "distance": hit.distance,
            "photo": photo_path(collection, hit.image_id),
        }
        if hit.components is not None:
            view["components"] = dict(zip(parts, hit.components, strict=True))
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
    """A stored row, without hashes and without where its file lies on this machine."""
    created_at = row["created_at"]
    return {
        **{name: value for name, value in row.items() if name not in HIDDEN},
        "group_name": group_name(str(row["group"])),
        "created_at": created_at.isoformat() if isinstance(created_at, datetime) else None,
        "photo": photo_path(collection, str(row["image_id"])),
        "short": hex_code(cast(Sequence[int], row["short"])),
        "long": hex_code(cast(Sequence[int], row["long"])),
    }


def photo_path(collection: str, image_id: str) -> str:
    """Where a photo is, on this server."""
    return f"/v1/collections/{collection}/images/{quote(image_id)}/photo"


def group_name(group: str) -> str:
    """The name of a group's own node: the last of its path."""
    return group.rpartition("/")[2]


def hex_code(words: Sequence[int] | NDArray[np.uint64]) -> str:
    """A code in hexadecimal: 16 digits a word, most significant first."""
    return "".join(f"{int(word):016x}" for word in words)
