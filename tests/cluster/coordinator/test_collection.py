"""What a collection makes of a client's options."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.collections import Served

from lookalike.actors.query.query import SearchOptions
from lookalike.cluster.coordinator.collection import UnknownComponentError
from lookalike.cluster.http.schema import SearchRequest


def test_collection_query_resolves_weights_and_candidates(tmp_path: Path) -> None:
    collection = Served(tmp_path, ["a"]).collection
    assert collection.query(SearchOptions(), "a").weights == collection.spec.weights
    query = collection.query(SearchOptions(count=3, weights={"colour": 1.15}), "a")
    assert query.weights == (collection.spec.weights[0], 115)
    assert query.candidates == 3 * collection.candidates_per_hit
    assert collection.query(SearchOptions(two_phase=False), "a").candidates is None
    with pytest.raises(UnknownComponentError, match="conv1, colour"):
        collection.query(SearchOptions(weights={"smell": 1}), "a")


def test_collection_query_takes_only_the_options_along(tmp_path: Path) -> None:
    collection = Served(tmp_path, ["a"]).collection
    query = collection.query(SearchRequest(image="a large photo", count=7, collapse=True), "a")
    assert type(query.options) is SearchOptions
    assert query.options == SearchOptions(count=7, collapse=True)
