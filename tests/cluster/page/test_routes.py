"""The page: every file of it is served, every script that a script imports, and its limits are the server's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from support.asgi import AsgiClient, client_of

from lookalike.actors.query.query import DEFAULT_COUNT, MAX_COUNT, MAX_WEIGHT
from lookalike.cluster.page.routes import FILES, OPEN_PATHS, router
from lookalike.ingest.attributes import MAX_ID_CHARS, max_chars
from lookalike.ingest.photos.header import MAX_BYTES

STATIC = Path(__file__).parents[3] / "cluster" / "page" / "static"


@pytest.fixture
def http() -> Iterator[AsgiClient]:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(router)
    with client_of(app) as client:
        yield client


def test_routes_serve_every_file_of_the_page() -> None:
    assert {name for name, _ in FILES.values()} == {path.name for path in STATIC.iterdir()}


def test_routes_serve_every_file_that_the_page_names() -> None:
    for path in STATIC.iterdir():
        for name in re.findall(r'from "\.(/[\w.]+)"|(?:src|href)="(/[\w./-]+)"', path.read_text()):
            assert "".join(name) in OPEN_PATHS


def test_page_has_the_limits_of_the_server() -> None:
    page = (STATIC / "index.html").read_text()
    inputs = {
        name: field for field in re.findall(r"<input [^>]*>", page) for name in re.findall(r'name="(\w+)"', field)
    }
    assert f'maxlength="{MAX_ID_CHARS}"' in inputs["id"]
    assert f'maxlength="{max_chars(["group"])}"' in inputs["group"]
    assert f'min="1" max="{MAX_COUNT}" step="1" value="{DEFAULT_COUNT}"' in inputs["count"]
    assert f"const MAX_WEIGHT = {MAX_WEIGHT};" in (STATIC / "view.js").read_text()
    max_photo_bytes = re.search(r"const MAX_PHOTO_BYTES = (\w+);", (STATIC / "photo.js").read_text())
    assert max_photo_bytes is not None
    assert float(max_photo_bytes[1]) == MAX_BYTES


def test_page_and_docs_load_nothing_from_elsewhere(http: AsgiClient) -> None:
    for path in OPEN_PATHS:
        answer = http.get(path)
        assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")
        assert answer.headers["Referrer-Policy"] == "same-origin"
        if answer.headers["Content-Type"].startswith("text/html"):
            policy = answer.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in policy
            assert "script-src 'self'" in policy or "default-src 'self'" in policy
            assert not re.findall(r"(?:src|href)=\"(?!/[^/])", answer.text)
            assert not re.findall(r"<script>|\bon\w+=", answer.text), "the policy allows no script within the page"
    assert "SwaggerUIBundle" in http.get("/docs/swagger-ui-bundle.js").text[:4000]
    assert http.get("/redoc").status_code == 404
