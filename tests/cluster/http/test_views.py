"""Distances and similarities as clients see them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from lookalike.actors.query.query import in_bits
from lookalike.cluster.http.views import group_name, photo_path, similarity

MAX_DISTANCE = 8192 * 1000  # bits of the largest long code, at the largest weight


@given(st.integers(1, MAX_DISTANCE), st.data())
def test_similarity_is_0_to_1_and_keeps_the_order_of_distances(largest: int, data: st.DataObject) -> None:
    distances = sorted(data.draw(st.lists(st.integers(0, largest), max_size=20)))
    similarities = [similarity(distance, largest) for distance in distances]
    assert similarities == sorted(similarities, reverse=True)
    assert all(0 <= value <= 1 and round(value, 4) == value for value in similarities)
    assert (similarity(0, largest), similarity(largest, largest)) == (1, 0)


def test_similarity_is_1_where_nothing_counts() -> None:
    assert similarity(0, 0) == 1


@given(st.integers(0, MAX_DISTANCE))
def test_distance_is_written_as_exact_hundredths(hundredths: int) -> None:
    whole, _, decimals = json.dumps(in_bits(hundredths)).partition(".")
    assert len(decimals) <= 2
    assert int(whole) * 100 + int(decimals.ljust(2, "0")) == hundredths


def test_photo_path_and_group_name() -> None:
    assert photo_path("default", "new listing/7?") == "/v1/collections/default/images/new%20listing/7%3F/photo"
    assert [group_name(group) for group in ("Apparel/Tops", "Tops", "")] == ["Tops", "Tops", ""]
