"""Distances and similarities as clients see them."""

from __future__ import annotations

import json

from fastapi.responses import JSONResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import tiny_model

from lookalike.actors.query.merge import Hit
from lookalike.actors.query.query import Query, SearchOptions, in_bits
from lookalike.cluster.coordinator.search import Answer
from lookalike.cluster.http.views import answer_json, group_name, photo_path, similarity

MAX_DISTANCE = 8192 * 1000  # bits of the largest long code, at the largest weight
SPEC = tiny_model().spec

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | st.sampled_from(
    ["größe/7", 'a"b\\c\n\x7f\u2028']
)
hits = st.builds(Hit, texts, texts, texts, st.integers(0, 20_000), st.sampled_from([None, (3, 64)]))


@settings(deadline=None)
@given(st.integers(1, MAX_DISTANCE), st.data())
def test_similarity_is_0_to_1_and_keeps_the_order_of_distances(largest: int, data: st.DataObject) -> None:
    distances = sorted(data.draw(st.lists(st.integers(0, largest), max_size=20)))
    similarities = [similarity(distance, largest) for distance in distances]
    assert similarities == sorted(similarities, reverse=True)
    assert all(0 <= value <= 1 and round(value, 4) == value for value in similarities)
    assert (similarity(0, largest), similarity(largest, largest)) == (1, 0)


def test_similarity_is_1_where_nothing_counts() -> None:
    assert similarity(0, 0) == 1


@settings(deadline=None)
@given(st.integers(0, MAX_DISTANCE))
def test_distance_is_written_as_exact_hundredths(hundredths: int) -> None:
    whole, _, decimals = json.dumps(in_bits(hundredths)).partition(".")
    assert len(decimals) <= 2
    assert int(whole) * 100 + int(decimals.ljust(2, "0")) == hundredths


def test_photo_path_and_group_name() -> None:
    assert photo_path("default", "new listing/7?") == "/v1/collections/default/images/new%20listing/7%3F/photo"
    assert [group_name(group) for group in ("Apparel/Tops", "Tops", "")] == ["Tops", "Tops", ""]


@settings(deadline=None)
@given(st.lists(hits, max_size=5), st.floats(0.001, 1e7), st.integers(0, 9))
def test_answer_is_written_as_the_standard_library_would(found: list[Hit], took_ms: float, shards: int) -> None:
    query = Query(SearchOptions(), SPEC.weights, 5, "a")
    content = answer_json("default", SPEC, query, Answer(found, shards, shards), took_ms)
    read = json.loads(content)
    assert JSONResponse(read).body == content
    assert [hit["image_id"] for hit in read["hits"]] == [hit.image_id for hit in found]
    assert list(read) == ["query_id", "count", "took_ms", "shards_answered", "shards_total", "hits"]
    for hit, view in zip(found, read["hits"], strict=True):
        assert view.get("components") == (None if hit.components is None else {"outline": 3, "colour": 64})
