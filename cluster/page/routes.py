"""The search page: a few files of our own, and nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

# The page may load nothing from other hosts and run no script but its own; photos may be previewed from memory.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/page.js": ("page.js", "text/javascript"),
    "/photo.js": ("photo.js", "text/javascript"),
    "/request.js": ("request.js", "text/javascript"),
    "/server.js": ("server.js", "text/javascript"),
    "/examples.js": ("examples.js", "text/javascript"),
    "/view.js": ("view.js", "text/javascript"),
}

router = APIRouter(include_in_schema=False)


def _add(path: str, name: str, media_type: str) -> None:
    content = (files("lookalike.cluster.page") / "static" / name).read_bytes()

    @router.get(path)
    async def send() -> Response:
        return Response(content, media_type=f"{media_type}; charset=utf-8", headers=HEADERS)


for _path, (_name, _media_type) in FILES.items():
    _add(_path, _name, _media_type)
