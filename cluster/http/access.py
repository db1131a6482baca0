"""The first thing that a request meets: may it come in, and who sends it? ASGI middleware around the whole app.

In this order: the host that it names, its key, the role that it needs, its origin if it has no key, its rate limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from lookalike.cluster.access.audit import audited, start_audit
from lookalike.cluster.access.hosts import host_policy, is_cross_origin
from lookalike.cluster.access.key_ring import Caller, KeyRing
from lookalike.cluster.access.roles import Role, required_role
from lookalike.cluster.http.errors import error_response
from lookalike.cluster.page.routes import OPEN_PATHS
from lookalike.cluster.settings import Settings

HEALTH = frozenset({"/healthz", "/readyz"})
"""For probes, which name a host that they choose: open to all, and without a word that is worth reading."""

_READ_METHODS = frozenset({"GET", "HEAD"})
_HEADERS = frozenset({b"host", b"authorization", b"x-api-key", b"origin", b"sec-fetch-site"})
_CHALLENGE = 'Bearer realm="lookalike"'
SECURITY_SCHEMES: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, beside another login."},
}


class Refusal(NamedTuple):
    """Why a request may not come in."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = {}
    caller: Caller | None = None


_MALFORMED_HOST = Refusal(400, "malformed_host", "a request has one Host header, with a name or an address")
# 421 rather than 400: the request is well-formed, and this server is not the one it is meant for (RFC 9110, 15.5.20).
_OTHER_HOST = Refusal(
    421, "unknown_host", "this server does not answer for that host; whoever runs it can name it with --allowed-host"
)
_NO_KEY = Refusal(
    401,
    "no_key",
    "this needs an API key: send the header `Authorization: Bearer KEY`, or set LOOKALIKE_API_KEY for the command line",
    {"WWW-Authenticate": _CHALLENGE},
)
_UNKNOWN_KEY = Refusal(
    401, "unknown_key", "this API key is not known", {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}
)
_CROSS_ORIGIN = Refusal(403, "cross_origin", "a page of another site may not send this without a key")


class Access:
    """Refuse what may not come in; record the writes that may.

    Parameters
    ----------
    app : ASGI app
    keys : KeyRing, optional
        None: there are no keys, and those that requests carry are not looked at.
    anonymous : Caller
        What requests without a key may do.
    is_allowed_host : callable
        See ``host_policy``.
    open_paths : collection of str
        May be read by all: they say nothing of the catalogue, and a browser opens them without a key.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing | None,
        anonymous: Caller,
        is_allowed_host: Callable[[str], bool | None],
        open_paths: Collection[str],
    ) -> None:
        self._app = app
        self._keys = keys
        self._anonymous = anonymous
        self._is_allowed_host = is_allowed_host
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] == "websocket":  # there are none; a page of any site may open one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or (scope["path"] in HEALTH and scope["method"] in _READ_METHODS):
            await self._app(scope, receive, send)
            return
        found = self._admit(scope)
        caller = found.caller if isinstance(found, Refusal) else found
        forward = _refusing(found) if isinstance(found, Refusal) else self._app
        if caller is not None and required_role(scope["method"], scope["path"]) == Role.WRITE:
            await audited(forward, scope, receive, send, caller.name)
        else:
            await forward(scope, receive, send)

    def _admit(self, scope: Scope) -> Caller | Refusal:
        headers: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in _HEADERS:
                if name == b"host" and name in headers:
                    return _MALFORMED_HOST
                headers[name] = value.decode("latin-1")
        host = headers.get(b"host", "")
        allowed = self._is_allowed_host(host)
        if not allowed:
            return _MALFORMED_HOST if allowed is None else _OTHER_HOST
        method = scope["method"]
        if method in _READ_METHODS and scope["path"] in self._open_paths:
            return self._anonymous
        caller = self._caller(headers)
        if isinstance(caller, Refusal):
            return caller
        needed = required_role(method, scope["path"])
        if caller.role < needed:
            return _NO_KEY if caller.name is None else _role_refusal(caller, needed)
        if (
            caller.name is None
            and method not in _READ_METHODS
            and is_cross_origin(host, headers.get(b"origin"), headers.get(b"sec-fetch-site"))
        ):
            return _CROSS_ORIGIN
        wait_s = caller.bucket.take() if caller.bucket is not None else 0.0
        return _too_many(wait_s) if wait_s else caller

    def _caller(self, headers: Mapping[bytes, str]) -> Caller | Refusal:
        """Who sends it. A key that is not known is refused even where one is not needed: it may have been revoked."""
        if self._keys is None:
            return self._anonymous
        key = headers.get(b"x-api-key")
        if key is None:
            scheme, _, value = headers.get(b"authorization", "").partition(" ")
            key = value.strip() if scheme.lower() == "bearer" else None
        if key is None:
            return self._anonymous
        return self._keys.find(key) or _UNKNOWN_KEY


def protected(app: ASGIApp, settings: Settings) -> Access:
    """Put access control around an app, and begin to record writes, by settings that were checked.

    Serve starts the process of the app again where it ended. A file of keys or a log that is broken by then must not
    keep it from starting: it refuses keys that it cannot know, and reports lines that it cannot write.
    """
    access = settings.access
    start_audit(access.audit_file)
    return Access(
        app,
        access.key_ring(must_read=False),
        access.anonymous_caller(settings.host),
        host_policy(settings.host, access.allowed_hosts),
        OPEN_PATHS,
    )


def describe_access(document: dict[str, Any]) -> None:
    """Say in the OpenAPI document which keys requests take; a server without keys wants none."""
    document.setdefault("components", {})["securitySchemes"] = dict(SECURITY_SCHEMES)
    document["security"] = [*({name: []} for name in SECURITY_SCHEMES), {}]
    for path in HEALTH & document["paths"].keys():
        for operation in document["paths"][path].values():
            operation["security"] = []


def _role_refusal(caller: Caller, needed: Role) -> Refusal:
    message = f"the key {caller.name!r} has the role {caller.role.title}, and this needs {needed.title}"
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{needed.title}"'
    return Refusal(403, "role_too_low", message, {"WWW-Authenticate": challenge}, caller)


def _too_many(wait_s: float) -> Refusal:
    headers = {"Retry-After": str(math.ceil(wait_s))}
    return Refusal(429, "rate_limited", "too many requests; see Retry-After", headers)


def _refusing(refusal: Refusal) -> ASGIApp:
    """Answer at once: a body that is not read costs nothing, and whoever sends one slowly must not be waited for."""
    return error_response(refusal.status, refusal.code, refusal.message, headers=refusal.headers)
