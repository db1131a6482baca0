"""The search page and the documentation of the HTTP interface: nothing from elsewhere, and open to all.

They say nothing of the catalogue. What they show of it they ask for with the key that their user gives them.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

_EVERYWHERE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_NOTHING_ELSE = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# The page may load nothing from other hosts and run no script but its own; photos may be shown from memory.
HEADERS = _EVERYWHERE | {
    "Content-Security-Policy": f"default-src 'self'; img-src 'self' blob:; object-src 'none'; {_NOTHING_ELSE}",
    "Cache-Control": "no-cache",
}
# Swagger UI sets styles on elements, and has its icons in its style sheet.
DOCS_HEADERS = _EVERYWHERE | {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    f"style-src 'self' 'unsafe-inline'; {_NOTHING_ELSE}",
    "Cache-Control": "no-cache",
}
ASSET_HEADERS = _EVERYWHERE | {"Cache-Control": "public, max-age=86400"}
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/page.js": ("page.js", "text/javascript"),
    "/key.js": ("key.js", "text/javascript"),
    "/photo.js": ("photo.js", "text/javascript"),
    "/request.js": ("request.js", "text/javascript"),
    "/server.js": ("server.js", "text/javascript"),
    "/examples.js": ("examples.js", "text/javascript"),
    "/view.js": ("view.js", "text/javascript"),
    "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}
SWAGGER_UI_FILES = {
    "/docs/swagger-ui.css": ("swagger-ui.css", "text/css"),
    "/docs/swagger-ui-bundle.js": ("swagger-ui-bundle.js", "text/javascript"),
}
OPEN_PATHS = frozenset({*FILES, *SWAGGER_UI_FILES})

router = APIRouter(include_in_schema=False)


def _add(path: str, content: bytes, media_type: str, headers: dict[str, str]) -> None:
    @router.get(path)
    async def send() -> Response:
        return Response(content, media_type=f"{media_type}; charset=utf-8", headers=headers)


for _path, (_name, _media_type) in FILES.items():
    _content = (files("lookalike.cluster.page") / "static" / _name).read_bytes()
    _add(_path, _content, _media_type, DOCS_HEADERS if _path == "/docs" else HEADERS)
for _path, (_name, _media_type) in SWAGGER_UI_FILES.items():
    _add(_path, (files("fastapi_offline") / "static" / _name).read_bytes(), _media_type, ASSET_HEADERS)
