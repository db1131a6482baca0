"""The app as a whole: every route answers as its OpenAPI document promises."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator
from support.asgi import AsgiClient, client_of
from support.collections import Served, photo

from lookalike.cluster.http.app import create_app

COLLECTION = "/v1/collections/default"
IMAGE = base64.b64encode(photo()).decode()


def test_every_route_answers_with_what_its_document_promises(tmp_path: Path) -> None:
    served = Served(tmp_path, ["a/1", "b/1"])
    with client_of(create_app(served.state)) as http:
        http.put(f"{COLLECTION}/images/c", json={"image": IMAGE, "price": 3, "created_at": "2026-01-31"})
        http.get(f"{COLLECTION}/images/c")
        http.get(f"{COLLECTION}/images/c/photo")
        http.delete(f"{COLLECTION}/images/c")
        http.post(f"{COLLECTION}/encode", content=photo())
        for verbose in (False, True):
            http.post(f"{COLLECTION}/search", json={"image_id": "a/1", "verbose": verbose})
            http.post(f"{COLLECTION}/search/image", content=photo(), params={"verbose": verbose})
        for path in ("/v1/status", "/v1/collections", "/healthz", "/readyz"):
            http.get(path)
        assert http.contract.promised <= http.contract.answered


def test_errors_quote_no_more_than_a_page_of_what_was_sent(http: AsgiClient) -> None:
    for body in ({"a" * 900_000: 1}, {"image_id": "x", "weights": {"b" * 900_000: 1}}):
        answer = http.post(f"{COLLECTION}/search", json=body)
        assert (answer.status_code, len(answer.content) < 8000) == (422, True)
    answer = http.post(f"/v1/collections/{'c' * 60_000}/search", json={"image_id": "x"})
    assert (answer.status_code, len(answer.content) < 8000) == (404, True)


def test_document_describes_both_kinds_of_body_and_every_model(http: AsgiClient) -> None:
    document = http.get("/openapi.json").json()
    for path, method, models in (
        ("/v1/collections/{collection}/search", "post", ("SearchRequest", "query", "SearchOptions")),
        ("/v1/collections/{collection}/images/{image_id}", "put", ("ImageFields", "fields", "Attributes")),
    ):
        content = document["paths"][path][method]["requestBody"]["content"]
        form = content["multipart/form-data"]["schema"]
        assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{models[0]}"}
        assert form["required"] == ["image"]
        assert form["properties"][models[1]] == {"$ref": f"#/components/schemas/{models[2]}"}
    for path in ("search/image", "encode"):
        assert (
            "image/*" in document["paths"][f"/v1/collections/{{collection}}/{path}"]["post"]["requestBody"]["content"]
        )
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= document["components"]["schemas"].keys()
    Draft202012Validator({"$ref": "#/components/schemas/SearchRequest", "components": document["components"]}).validate(
        {"image_id": "a", "filters": [{"not": {"field": "price", "lt": 5}}], "weights": {"colour": 1.5}}
    )


def test_contract_notices_a_field_too_many_or_too_few(http: AsgiClient) -> None:
    request = httpx.Request("GET", "http://app/healthz")
    for body in ({}, {"status": "alive", "more": 1}, {"status": 1}):
        with pytest.raises(AssertionError, match="healthz"):
            http.contract.check(httpx.Response(200, json=body, request=request))
    with pytest.raises(AssertionError, match="not promised"):
        http.contract.check(httpx.Response(201, json={}, request=request))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/collections/shoes/search", 404, "unknown_collection"),
        ("GET", "/v1/nothing", 404, "unknown_path"),
        ("PATCH", "/v1/status", 405, "wrong_method"),
        ("GET", f"{COLLECTION}/images/no%2Fsuch", 404, "unknown_image"),
    ],
)
def test_unknown_paths_collections_and_methods_are_refused(
    http: AsgiClient, method: str, path: str, status: int, code: str
) -> None:
    answer = http.request(method, path, json={"image_id": "x"} if method == "POST" else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"", 422, "invalid_field"),
        (b"\xff\xfe", 400, "malformed_json"),
        (b'{"image_id": "x"', 400, "malformed_json"),
        (b"9" * 10_000, 400, "malformed_json"),
        (b"[" * 100_000, 422, "invalid_field"),
        (b'{"image_id": "\\ud800"}', 422, "invalid_field"),
        (b'{"image_id": "x", "count": NaN}', 422, "invalid_field"),
        (b" " * 2**20 + b"{}", 413, "too_large"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "search"), ("PUT", "images/a")])
def test_malformed_json_is_refused(
    http: AsgiClient, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = http.request(method, f"{COLLECTION}/{path}", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]
