"""Bodies: forms are read as they were written, however they are cut into pieces, and what is no form is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.types import Message

from lookalike import client
from lookalike.cluster.http.body import Parts, read_parts
from lookalike.ingest.photos.header import MAX_BYTES

photos = st.one_of(st.binary(min_size=1, max_size=200), st.text("\r\n-x", min_size=1, max_size=200).map(str.encode))
fields = st.dictionaries(st.text(max_size=9), st.one_of(st.integers(), st.text(max_size=9)), max_size=3)


def read(content_type: str, *pieces: bytes, gone: bool = False) -> Parts:
    """Read a body that comes in these pieces."""
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.disconnect"} if gone else {"type": "http.request", "body": b"", "more_body": False})
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    return asyncio.run(read_parts({"headers": [(b"content-type", content_type.encode())]}, receive, "query"))


def by_our_client(photo: bytes, json_value: Any) -> tuple[str, bytes]:
    return client._multipart(client._Form(photo, "query", json_value))


def by_httpx(photo: bytes, json_value: Any) -> tuple[str, bytes]:
    files: dict[str, tuple[str | None, bytes, str]] = {
        "image": ("a.jpg", photo, "image/jpeg"),
        "query": (None, json.dumps(json_value).encode(), "application/json"),
    }
    request = httpx.Request("POST", "http://a", files=files)
    return request.headers["content-type"], request.read()


@pytest.mark.parametrize("write", [by_our_client, by_httpx])
@given(photo=photos, json_value=fields, cuts=st.lists(st.integers(0, 700), max_size=9))
def test_read_parts_gives_what_was_sent_in_any_pieces(
    write: Any, photo: bytes, json_value: Any, cuts: list[int]
) -> None:
    content_type, body = write(photo, json_value)
    edges = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    parts = read(content_type, *(body[first:last] for first, last in itertools.pairwise(edges)))
    assert parts.photo == photo
    assert json.loads(parts.json) == json_value


def form(*parts: tuple[str, bytes], boundary: str = "b", end: str = "--b--\r\n") -> bytes:
    written = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in parts
    ]
    return b"".join(written) + end.encode()


FORM = "multipart/form-data; boundary=b"
BAD_FORMS: list[tuple[str, bytes, str]] = [
    (FORM, b"", "multipart/form-data"),
    (FORM, form(("image", b"x"), end=""), "multipart/form-data"),
    (FORM, form(("image", b"x"))[:-20], "multipart/form-data"),
    (FORM, form(("query", b"{}")), "Field required"),
    (FORM, form(("image", b"")), "Field required"),
    (FORM, form(("image", b"x"), ("image", b"y")), "twice"),
    (FORM, form(("image", b"x"), ("photo", b"y")), "photo"),
    (FORM, form(("image", b"x"), ("query", b"y"), ("query", b"y")), "twice"),
    (FORM, b"--b\r\n\r\nx\r\n--b--\r\n", "multipart/form-data"),
    (FORM, b"--b\r\n" + b"X-Long: " + b"x" * 5000 + b"\r\n\r\nx\r\n--b--\r\n", "multipart/form-data"),
    (FORM, b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\nx\r\n--b--\r\n", "multipart/form-data"),
    (FORM, b'--b\r\nContent-Disposition: form-data; name="' + b"\\\\" * 400 + b"\r\n\r\nx\r\n--b--\r\n", "no part"),
    ("multipart/form-data", form(("image", b"x")), "boundary"),
    ("multipart/form-data; boundary=" + "b" * 71, form(("image", b"x"), boundary="b" * 71), "boundary"),
    ('multipart/form-data; boundary="' + "\\\\" * 4000, b"x", "boundary"),
    ("multipart/mixed; boundary=b", form(("image", b"x")), "Content-Type"),
    ("text/plain", b"{}", "Content-Type"),
    ("", b"{}", "Content-Type"),
]


@pytest.mark.parametrize(("content_type", "body", "word"), BAD_FORMS, ids=range(len(BAD_FORMS)))
def test_read_parts_refuses_what_is_no_form(content_type: str, body: bytes, word: str) -> None:
    with pytest.raises(RequestValidationError) as refused:
        read(content_type, body)
    (error,) = refused.value.errors()
    assert word in error["msg"]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"])
def test_read_parts_takes_json_of_every_name(content_type: str) -> None:
    assert read(content_type, b"{", b"}") == Parts(b"{}", None)


@pytest.mark.parametrize("filling", [b"\r\n", b"\r\n--b", b"\r", b"-", b"\r\n--"])
def test_read_parts_takes_a_photo_that_is_full_of_what_looks_like_a_boundary(filling: bytes) -> None:
    photo = (filling * (MAX_BYTES // len(filling) + 1))[: MAX_BYTES - 1] + b"."
    boundary = "b" * 40
    body = form(("image", photo), boundary=boundary, end=f"--{boundary}--\r\n")
    pieces = [body[first : first + 2**16] for first in range(0, len(body), 2**16)]
    assert read(f"multipart/form-data; boundary={boundary}", *pieces).photo == photo


def test_read_parts_of_a_client_that_goes_away_is_no_body() -> None:
    for content_type in ("application/json", FORM):
        with pytest.raises(ClientDisconnect):
            read(content_type, b"--b", gone=True)
