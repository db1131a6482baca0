"""Stored images over HTTP: written, read and removed, and which ids and fields are refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.asgi import AsgiClient, client_of
from support.collections import Served, photo
from support.stores import rows_of

from lookalike.cluster.http.app import create_app
from lookalike.ingest.attributes import Attributes, bad_id
from lookalike.ingest.store.head import Head

URL = "/v1/collections/default/images"
IMAGE = base64.b64encode(photo()).decode()
BAD_IDS = ["a/photo", "photo/photo", "a/../b", ".", "x" * 513, "a\0b", "a\n", "\n", "a\u2028b"]

texts = st.text(st.characters(codec="utf-8"), max_size=20)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "listing_id": st.sampled_from(["a", "220232453"]),
        "group": st.lists(st.sampled_from(["Apparel", " Tops ", "", "T-Shirts"]), max_size=4).map("/".join),
        "title": texts,
        "description": texts,
        "price": st.one_of(st.none(), st.floats(0, 1e15)),
        "created_at": st.one_of(st.none(), st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat())),
        "colour": texts,
        "brand": texts,
    },
).map(lambda given: given | ({"lat": 48.2, "lon": 16.4} if "price" in given else {}))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attributes)
def test_image_is_read_back_as_the_attributes_that_were_put(http: AsgiClient, given: dict[str, Any]) -> None:
    url = f"{URL}/{quote('new listing/7')}"
    put = http.put(url, json=given | {"image": IMAGE})
    if put.status_code == 422:  # a time that leaves the years 1 to 9999 in UTC
        assert put.json()["error"]["field"] == "created_at"
        return
    assert put.json() == {"image_id": "new listing/7", "status": "stored"}
    stored = http.get(url).json()
    read = Attributes.model_validate({name: stored[name] for name in Attributes.model_fields})
    assert read == Attributes.model_validate({"listing_id": "new listing/7"} | given)
    assert stored["group_name"] == stored["group"].rpartition("/")[2]
    codes = http.post("/v1/collections/default/encode", content=photo()).json()
    assert (stored["short"], stored["long"]) == (codes["short"], codes["long"])
    assert http.get(stored["photo"]).content == photo()
    assert http.delete(url).json() == {"image_id": "new listing/7", "status": "deleted"}
    for gone in (http.get(url), http.get(f"{url}/photo"), http.delete(url)):
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "unknown_image")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attributes)
def test_image_put_as_a_form_is_the_one_put_as_json(http: AsgiClient, given: dict[str, Any]) -> None:
    files = {"image": ("a.png", photo(), "image/png"), "fields": (None, json.dumps(given), "application/json")}
    as_form, as_json = http.put(f"{URL}/both", files=files), None
    stored = http.get(f"{URL}/both").json() if as_form.status_code == 200 else None
    as_json = http.put(f"{URL}/both", json=given | {"image": IMAGE})
    assert (as_form.status_code, as_form.json()) == (as_json.status_code, as_json.json())
    if stored is not None:
        assert http.get(f"{URL}/both").json() | {"photo": ""} == stored | {"photo": ""}
        http.delete(f"{URL}/both")


def test_image_is_searched_once_its_shard_follows(http: AsgiClient, served: Served) -> None:
    assert http.put(f"{URL}/fresh", json={"image": IMAGE}).status_code == 200
    served.refresh()
    answer = http.post("/v1/collections/default/search", json={"image": IMAGE, "count": 1}).json()
    assert [(hit["image_id"], hit["distance"], hit["similarity"]) for hit in answer["hits"]] == [("fresh", 0, 1)]
    assert http.delete(f"{URL}/fresh").status_code == 200
    served.refresh()
    assert http.post("/v1/collections/default/search", json={"image_id": "fresh"}).status_code == 404


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.sampled_from(["a/photo", "photo/photo", "a/../b", ".", "x" * 513, "a\0b", "a\n", "\n", "a\u2028b"]), texts
    )
)
def test_bad_ids_are_refused_on_every_route(http: AsgiClient, image_id: str) -> None:
    reason = bad_id(image_id)
    if not reason:
        return
    assert http.post("/v1/collections/default/search", json={"image_id": image_id}).status_code == 422
    if not image_id or "between slashes" in reason:  # no client can request the path of such an id
        return
    url = f"{URL}/{quote(image_id, safe='')}"
    assert http.put(url, json={"image": IMAGE}).status_code == 422
    assert http.delete(url).status_code == 422
    assert http.get(f"{url}/photo").status_code == 422
    assert http.get(url).status_code in (404, 422)  # 404: the path of the photo of another image


def heads(served: Served) -> list[Head]:
    return [bucket.head() for bucket in served.store.buckets]


BAD_PUTS: list[tuple[dict[str, Any], str | None]] = [
    ({}, "image"),
    ({"image": base64.b64encode(b"this is text").decode()}, "image"),
    ({"image": ""}, "image"),
    ({"image": "?"}, "image"),
    ({"image": IMAGE, "photo": "/etc/passwd"}, "photo"),
    ({"image": IMAGE, "image_id": "b"}, "image_id"),
    ({"image": IMAGE, "price": -1}, "price"),
    ({"image": IMAGE, "price": "ten"}, "price"),
    ({"image": IMAGE, "lat": 48.2}, None),
    ({"image": IMAGE, "listing_id": "a/photo"}, "listing_id"),
    ({"image": IMAGE, "created_at": "0001-01-01T00:00:00+14:00"}, "created_at"),
]


@pytest.mark.parametrize(("body", "field"), BAD_PUTS)
def test_put_refuses_bad_fields_and_changes_nothing(
    http: AsgiClient, served: Served, body: dict[str, Any], field: str | None
) -> None:
    before = heads(served)
    answer = http.put(f"{URL}/a", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field), answer.text
    assert heads(served) == before


def test_photo_that_is_gone_is_404(http: AsgiClient) -> None:
    answer = http.get(f"{URL}/{quote('listing 1/1')}/photo")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_photo")


def test_photo_redirects_to_its_own_url_only_where_that_is_set(tmp_path: Path) -> None:
    url = "https://photos.example/1.jpg"
    for redirects, status in ((True, 307), (False, 404)):
        served = Served(tmp_path / str(redirects), ["b"], photo_redirects=redirects)
        served.store.put(rows_of(["a"], photos=[url]))
        with client_of(create_app(served.state)) as http:
            answer = http.get(f"{URL}/a/photo")
            assert (answer.status_code, answer.headers.get("location")) == (status, url if redirects else None)
            assert http.get(f"{URL}/b/photo").status_code == 404, "no URL: it is read and sent, and there is none"


@pytest.mark.parametrize("path", ["caf%E9", "a%ED%A0%80", "%ff/1"])
def test_path_that_is_not_utf8_is_refused_by_every_method(http: AsgiClient, path: str) -> None:
    """Two ids of a client that writes Latin-1 must not become one image."""
    url = f"{URL}/{path}"
    answers = [http.put(url, json={"image": IMAGE}), http.get(url), http.get(f"{url}/photo"), http.delete(url)]
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["field"]) == (422, "invalid_field", "image_id")
        assert "not UTF-8" in error["message"]


def test_replacement_character_that_is_part_of_an_id_is_kept(http: AsgiClient) -> None:
    url = f"{URL}/caf%EF%BF%BD"
    assert http.put(url, json={"image": IMAGE}).json() == {"image_id": "caf\ufffd", "status": "stored"}
    assert http.delete(url).status_code == 200
