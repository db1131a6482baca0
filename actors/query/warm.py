"""Searches that make the first one of a client as fast as the next: one of each kind, for a photo that is grey.

What they set up is lazy imports, the kernel's threads and scratch memory, and the columns that filters read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lookalike.actors.query.query import Descriptor, Query, SearchOptions
from lookalike.model.spec import ModelSpec

# Each kind of filter; that on a single id leaves the exhaustive search few rows.
_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"collapse": True, "verbose": True},
    {"two_phase": False, "filters": [{"field": "image_id", "in": ["-"]}]},
    {"filters": [{"field": "group", "in": ["-"]}, {"field": "colour", "in": ["-"]}]},
    {"filters": [{"field": "price", "gte": 0}, {"field": "created_at", "gte": "2000-01-01"}]},
    {"filters": [{"field": "place", "within_km": 1, "of": [0, 0]}]},
    {"filters": [{"field": "title", "matches": "a"}]},
)


def warm_queries(spec: ModelSpec, candidates_per_hit: int = 256) -> list[Query]:
    """Make one query of each kind for a collection of this model."""
    grey = Descriptor(np.zeros(spec.short_words, np.uint64), np.zeros(spec.long_words, np.uint64))
    return [
        Query(
            options=options,
            weights=spec.weights,
            candidates=candidates_per_hit * options.count if options.two_phase else None,
            target=grey,
        )
        for options in map(SearchOptions.model_validate, _OPTIONS)
    ]
