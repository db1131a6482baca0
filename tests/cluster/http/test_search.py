"""Searching over HTTP: the distances, the two ways to send options, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.asgi import AsgiClient, client_of
from support.collections import Served, photo

from lookalike.cluster.http.app import create_app

IDS = [f"listing {n}/{m}" for n in range(10) for m in range(3)]
URL = "/v1/collections/default/search"
BITS = {"conv1": 64, "colour": 64}

weights = st.integers(0, 1000).map(lambda hundredths: hundredths / 100)
options = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(1, 40),
        "weights": st.fixed_dictionaries({}, optional={"conv1": weights, "colour": weights}),
        "filters": st.sampled_from(
            [[], [{"field": "image_id", "in": IDS[:7]}], [{"not": {"field": "listing_id", "in": IDS[3:9]}}]]
        ),
        "two_phase": st.booleans(),
        "collapse": st.booleans(),
        "require_all": st.booleans(),
    },
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(IDS), options)
def test_search_distances_are_the_weighted_bits_of_the_components(
    http: AsgiClient, image_id: str, options: dict[str, Any]
) -> None:
    components = http.get("/v1/status").json()["collections"][0]["components"]
    used = {name: components[name]["weight"] for name in BITS} | options.get("weights", {})
    largest = sum(used[name] * bits for name, bits in BITS.items())
    hits = http.post(URL, json={"image_id": image_id, "verbose": True, **options}).json()["hits"]
    for hit in hits:
        assert hit["distance"] == pytest.approx(sum(used[name] * hit["components"][name] for name in BITS), abs=1e-9)
        assert float(f"{hit['distance']:.2f}") == hit["distance"], "a distance has at most two decimals"
        assert hit["similarity"] == pytest.approx(1 - hit["distance"] / largest if largest else 1, abs=5.1e-5)
    assert [hit["distance"] for hit in hits] == sorted(hit["distance"] for hit in hits)
    similarities = [hit["similarity"] for hit in hits]
    assert similarities == sorted(similarities, reverse=True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options)
def test_search_by_photo_takes_the_same_options_as_query_parameters(http: AsgiClient, options: dict[str, Any]) -> None:
    in_json = http.post(URL, json={"image": base64.b64encode(photo()).decode(), **options}).json()
    params = {name: json.dumps(value) for name, value in options.items()}
    as_body = http.post(f"{URL}/image", params=params, content=photo(), headers={"Content-Type": "image/png"}).json()
    assert in_json["hits"] == as_body["hits"]
    assert in_json["count"] == as_body["count"] == len(as_body["hits"])


def test_search_says_when_a_shard_did_not_answer_and_fails_where_all_are_required(
    http: AsgiClient, served: Served
) -> None:
    by_photo = {"image": base64.b64encode(photo()).decode()}
    served.lost.add(1)
    try:
        partial = http.post(URL, json=by_photo).json()
        assert (partial["shards_answered"], partial["shards_total"]) == (1, 2)
        refused = http.post(URL, json=by_photo | {"require_all": True})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shard_unavailable")
        assert refused.headers["retry-after"] == "1"
    finally:
        served.lost.clear()
    assert http.post(URL, json=by_photo | {"require_all": True}).json()["shards_answered"] == 2


def test_search_that_waited_too_long_is_dropped_with_503(tmp_path: Path) -> None:
    served = Served(tmp_path, IDS[:3], search_timeout_s=1e-9)
    with client_of(create_app(served.state)) as client:
        answer = client.post(URL, json={"image_id": IDS[0]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deadline_exceeded")
    assert answer.headers["retry-after"] == "1"


BAD_SEARCHES: list[tuple[Any, str, str | None]] = [
    ({}, "invalid_field", None),
    ({"image_id": "a", "image": "aGVsbG8="}, "invalid_field", None),
    ({"image_id": ""}, "invalid_field", "image_id"),
    ({"image_id": 5}, "invalid_field", "image_id"),
    ({"image_id": "a/photo"}, "invalid_field", "image_id"),
    ({"image": "not base64!"}, "undecodable_image", "image"),
    ({"image": base64.b64encode(b"this is text").decode()}, "undecodable_image", "image"),
    ({"image_id": "x", "count": 0}, "invalid_field", "count"),
    ({"image_id": "x", "count": 1001}, "invalid_field", "count"),
    ({"image_id": "x", "count": "ten"}, "invalid_field", "count"),
    ({"image_id": "x", "count": "10"}, "invalid_field", "count"),
    ({"image_id": "x", "count": True}, "invalid_field", "count"),
    ({"image_id": "x", "cuont": 3}, "unknown_field", "cuont"),
    ({"image_id": "x", "weights": {"smell": 3}}, "unknown_component", "weights"),
    ({"image_id": "x", "weights": {"colour": 10.01}}, "invalid_field", "weights.colour"),
    ({"image_id": "x", "weights": {"colour": 0.125}}, "invalid_field", "weights.colour"),
    ({"image_id": "x", "filters": [{"field": "group", "is": "a"}]}, "invalid_field", "filters.0"),
    ({"image_id": "x", "filters": [{"field": "group", "in": []}]}, "invalid_field", "filters.0.in.in"),
    ({"image_id": "x", "filters": [{"field": "shoe", "in": ["a"]}]}, "invalid_field", "filters.0.in.field"),
    ([1, 2], "invalid_field", None),
]


@pytest.mark.parametrize(("body", "code", "field"), BAD_SEARCHES)
def test_search_refuses_bad_bodies_and_names_the_field(
    http: AsgiClient, body: Any, code: str, field: str | None
) -> None:
    answer = http.post(URL, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (422, code, field), answer.text


def test_search_says_that_a_weight_has_two_decimals(http: AsgiClient) -> None:
    for answer in (
        http.post(URL, json={"image_id": IDS[0], "weights": {"colour": 0.125}}),
        http.post(f"{URL}/image", params={"weights": '{"colour": 0.125}'}, content=photo()),
    ):
        assert answer.status_code == 422
        assert "at most two decimals" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "query", ["count=0", "count=ten", "count=", "count=1001", "counts=3", "filters=[", "weights=3"]
)
def test_search_by_photo_refuses_bad_parameters(http: AsgiClient, query: str) -> None:
    answer = http.post(f"{URL}/image?{query}", content=photo(), headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, query.partition("=")[0])


def test_search_of_an_unknown_id_is_404(http: AsgiClient) -> None:
    answer = http.post(URL, json={"image_id": "no such image"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_image")
