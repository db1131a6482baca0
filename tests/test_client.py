"""The HTTP client: what it sends is what the server's own models read, and what it raises says why."""

from __future__ import annotations

import asyncio
import io
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import get_type_hints
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel
from starlette.types import Message
from support.processes import free_port
from support.replies import Received, Replies, replying

from lookalike import client as client_module
from lookalike.actors.query.query import SearchOptions as QueryOptions
from lookalike.client import Client, ClientError, SearchOptions, media_type_of
from lookalike.cluster.http import schema
from lookalike.cluster.http.body import Parts, read_parts
from lookalike.ingest.attributes import Attributes

HEAVY = {"numpy", "pyarrow", "pydantic", "ray", "tensorflow", "keras", "fastapi", "click"}
image_ids = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=40)
search_options = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(1, 1000),
        "filters": st.sampled_from([[], [{"field": "price", "lt": 50}], [{"field": "group", "in": ["Röcke & Co"]}]]),
        "weights": st.dictionaries(st.sampled_from(["conv8", "colour"]), st.integers(0, 10)),
        "two_phase": st.booleans(),
        "collapse": st.booleans(),
        "verbose": st.booleans(),
        "require_all": st.booleans(),
    },
)
one_server = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


@pytest.fixture(scope="module")
def server() -> Iterator[Replies]:
    with replying() as replies:
        yield replies


def _last(server: Replies) -> Received:
    return server.received[-1]


@one_server
@given(image_id=image_ids)
def test_client_requests_the_image_id_it_was_given(server: Replies, image_id: str) -> None:
    server.answer({})
    client = Client(server.url)
    for call, suffix in [(client.image, ""), (client.delete, ""), (client.photo, "/photo")]:
        call(image_id)
        assert unquote(urlsplit(_last(server).path).path) == f"/v1/collections/default/images/{image_id}{suffix}"
    client.put(image_id, b"a photo", group="A/B")
    assert unquote(urlsplit(_last(server).path).path) == f"/v1/collections/default/images/{image_id}"


@one_server
@given(options=search_options)
def test_client_search_by_id_and_by_photo_send_alike(server: Replies, options: SearchOptions) -> None:
    server.answer({})
    client = Client(server.url)
    client.search("220000000/1", **options)
    by_id = schema.SearchRequest.model_validate_json(_last(server).body)
    assert by_id.image_id == "220000000/1"
    client.search_photo(b"a photo", **options)
    parts = _parts(_last(server), "query")
    assert QueryOptions.model_validate_json(parts.json) == by_id.plain()
    assert (_last(server).path, parts.photo) == ("/v1/collections/default/search", b"a photo")


def _parts(received: Received, json_part: str) -> Parts:
    """What the server's own reader finds in a request."""

    async def receive() -> Message:
        return {"type": "http.request", "body": received.body}

    headers = [(b"content-type", (received.media_type or "").encode())]
    return asyncio.run(read_parts({"headers": headers}, receive, json_part))


def test_client_put_sends_the_photo_and_the_attributes(server: Replies) -> None:
    server.answer({})
    Client(server.url, "shoes").put("a/1", b"\xff\xd8 a photo", price=12.5, brand="nike")
    assert _last(server).path == "/v1/collections/shoes/images/a/1"
    parts = _parts(_last(server), "fields")
    fields = Attributes.model_validate_json(parts.json)
    assert (fields.price, fields.brand, parts.photo) == (12.5, "nike", b"\xff\xd8 a photo")


@pytest.mark.parametrize(("form", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_media_type_of_tells_every_format_that_is_taken(form: str, media_type: str) -> None:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, form)
    assert media_type_of(content.getvalue()) == media_type


def test_client_error_is_in_the_servers_words(server: Replies) -> None:
    server.answer({"error": {"code": "unknown_image", "message": "no image has the id x", "field": "image_id"}}, 404)
    with pytest.raises(ClientError, match=r"^no image has the id x$") as raised:
        Client(server.url).image("x")
    error = pickle.loads(pickle.dumps(raised.value))
    assert (error.status, error.code, error.field) == (404, "unknown_image", "image_id")
    assert str(error) == str(raised.value)


@pytest.mark.parametrize(
    "body", [b"<html>bad gateway</html>", b"", b"[]", b'{"error": "x"}', b'{"error": {}}', b"\xff"]
)
def test_client_error_of_a_proxy_gives_the_status(server: Replies, body: bytes) -> None:
    server.status, server.body, server.cut_bytes = 502, body, 0
    with pytest.raises(ClientError, match="HTTP 502") as raised:
        Client(server.url).status()
    assert raised.value.status == 502


def test_client_error_of_an_answer_that_broke_off(server: Replies) -> None:
    server.answer({"version": "1"})
    server.cut_bytes = 10
    with pytest.raises(ClientError, match="broke off"):
        Client(server.url).status()


def test_client_error_of_an_answer_that_is_no_json(server: Replies) -> None:
    server.status, server.body, server.cut_bytes = 200, b"<html>", 0
    with pytest.raises(ClientError, match="is it a lookalike server"):
        Client(server.url).status()


def test_client_error_of_a_server_that_is_gone() -> None:
    with pytest.raises(ClientError, match="start one with `lookalike serve`"):
        Client(f"http://127.0.0.1:{free_port()}").status()


def test_client_error_of_a_server_that_is_silent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ClientError, match=r"did not answer within 0\.05 s"),
    ):
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05).status()


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "ftp://host", "http://", ""])
def test_client_refuses_what_is_no_web_address(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        Client(url)


def test_client_sends_its_key_with_every_request_and_to_no_other_server(server: Replies) -> None:
    server.answer({"collections": []})
    client = Client(server.url, key="lk_secret")
    for call in (client.status, client.collections, lambda: client.put("a", b"x"), lambda: client.search_photo(b"x")):
        call()
        assert _last(server).authorization == "Bearer lk_secret"
    Client(server.url).status()
    assert _last(server).authorization is None
    with replying() as other:  # a photo may be on S3: the answer leads there
        server.status, server.location = 307, f"{other.url}/photo"
        try:
            client.photo("a")
        finally:
            server.location = ""
        assert [(one.path, one.authorization) for one in other.received] == [("/photo", None)]


@pytest.mark.parametrize("key", ["", "a b", "a\r\nHost: x", "ä", "a\0"])
def test_client_refuses_a_key_that_is_none_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="an API key has") as refused:
        Client("http://localhost", key=key)
    assert not key or key not in str(refused.value).replace("an API key", "")


def test_client_imports_the_standard_library_alone() -> None:
    code = f"import sys, lookalike.client; print({HEAVY} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_client_url_may_have_a_path(server: Replies) -> None:
    server.answer({})
    Client(f"{server.url}/shop/").status()
    assert _last(server).path == "/shop/v1/status"


@pytest.mark.parametrize(
    ("ours", "servers"),
    [
        ("Answer", schema.AnswerView),
        ("PhotoCodes", schema.CodesView),
        ("StoredImage", schema.StoredImage),
        ("Written", schema.WriteView),
        ("CollectionSummary", schema.CollectionSummaryView),
        ("SearchOptions", QueryOptions),
    ],
)
def test_client_types_have_the_fields_of_the_response_models(ours: str, servers: type[BaseModel]) -> None:
    assert set(get_type_hints(getattr(client_module, ours))) == set(servers.model_fields)
