"""Access to the app: every route by every role, hosts, origins, limits, and no location in any answer."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message
from support.asgi import AsgiClient, client_of
from support.collections import Served, photo

from lookalike.cluster.access.audit import logger as audit_logger
from lookalike.cluster.access.key_ring import Caller, KeyRing
from lookalike.cluster.access.keys import keys_from_environment
from lookalike.cluster.access.rate import RateLimit, TokenBucket
from lookalike.cluster.access.roles import Role
from lookalike.cluster.http.access import Access, protected
from lookalike.cluster.http.app import create_app
from lookalike.cluster.http.errors import MEANINGS, meaning_of
from lookalike.cluster.http.state import ServerState
from lookalike.cluster.page.routes import OPEN_PATHS
from lookalike.errors import LookalikeError

KEYS = {role: f"{role.title}{'0123456789abcdef' * 3}" for role in (Role.READ, Role.WRITE, Role.ADMIN)}
ALL_KEYS = keys_from_environment(",".join(f"{role.title}:{role.title}:{key}" for role, key in KEYS.items()))
URL = "/v1/collections/default"
IMAGE = base64.b64encode(photo()).decode()
# Each route of the app: what to send to it, and the role that it needs. One that is new must be added here.
ROUTES: dict[tuple[str, str], tuple[str, dict[str, Any], Role]] = {
    ("GET", "/healthz"): ("/healthz", {}, Role.NONE),
    ("GET", "/readyz"): ("/readyz", {}, Role.NONE),
    ("GET", "/v1/status"): ("/v1/status", {}, Role.ADMIN),
    ("GET", "/v1/collections"): ("/v1/collections", {}, Role.READ),
    ("POST", "/v1/collections/{collection}/search"): (f"{URL}/search", {"json": {"image_id": "a"}}, Role.READ),
    ("POST", "/v1/collections/{collection}/search/image"): (f"{URL}/search/image", {"content": photo()}, Role.READ),
    ("POST", "/v1/collections/{collection}/encode"): (f"{URL}/encode", {"content": photo()}, Role.READ),
    ("GET", "/v1/collections/{collection}/images/{image_id}"): (f"{URL}/images/a", {}, Role.READ),
    ("GET", "/v1/collections/{collection}/images/{image_id}/photo"): (f"{URL}/images/a/photo", {}, Role.READ),
    ("PUT", "/v1/collections/{collection}/images/{image_id}"): (
        f"{URL}/images/new",
        {"json": {"image": IMAGE}},
        Role.WRITE,
    ),
    ("DELETE", "/v1/collections/{collection}/images/{image_id}"): (f"{URL}/images/new", {}, Role.WRITE),
    ("GET", "/openapi.json"): ("/openapi.json", {}, Role.READ),
    **{("GET", path): (path, {}, Role.NONE) for path in OPEN_PATHS},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("access") / "secret-folder", ["a", "b"])


@pytest.fixture(autouse=True)
def quiet_audit() -> Iterator[None]:
    yield
    for handler in list(audit_logger.handlers):
        audit_logger.removeHandler(handler)
        handler.close()
    audit_logger.propagate = True


def client(served: Served, **access: Any) -> Any:
    app = create_app(served.state)
    options = served.settings.model_copy(update={"access": served.settings.access.model_copy(update=access)})
    return client_of(app, protected(app, options), "http://localhost:8000")


@pytest.fixture
def http(served: Served) -> Iterator[AsgiClient]:
    with client(served, keys=ALL_KEYS) as connected:
        yield connected


@pytest.fixture
def open_http(served: Served) -> Iterator[AsgiClient]:
    """Of a server without keys."""
    with client(served) as connected:
        yield connected


def bearer(role: Role) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[role]}"} if role in KEYS else {}


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


# --- roles


def test_routes_table_has_every_route_of_the_app(served: Served) -> None:
    paths = create_app(served.state).openapi()["paths"]
    described = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    assert described | {("GET", path) for path in (*OPEN_PATHS, "/openapi.json")} == ROUTES.keys()


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("route", sorted(ROUTES), ids=" ".join)
def test_access_lets_in_whoever_has_the_role_that_a_route_needs(
    http: AsgiClient, route: tuple[str, str], role: Role
) -> None:
    path, options, needed = ROUTES[route]
    if route[0] == "DELETE":
        http.put(path, json={"image": IMAGE}, headers=bearer(Role.ADMIN))
    answer = http.request(route[0], path, headers=bearer(role), **options)
    if role >= needed:
        assert answer.status_code == 404 if route[1].endswith("/photo") else answer.status_code == 200, answer.text
    elif role == Role.NONE:
        assert (answer.status_code, code_of(answer)) == (401, "no_key")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="lookalike"'
    else:
        assert (answer.status_code, code_of(answer)) == (403, "role_too_low")
        assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("path", ["/v1/status%0A", "/v1/status/", "/v1%2Fstatus", "/v1/nothing", "/metrics"])
def test_access_to_what_is_not_listed_needs_the_highest_role(http: AsgiClient, path: str) -> None:
    for role in (Role.READ, Role.WRITE):
        assert http.get(path, headers=bearer(role)).status_code == 403


KEY = KEYS[Role.READ]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Authorization": f"bearer {KEY}"}, None),
        ({"Authorization": f"Bearer   {KEY}"}, None),
        ({"X-API-Key": KEY}, None),
        ({"Authorization": "Basic dTpw", "X-API-Key": KEY}, None),  # a proxy's own login beside it
        ({"Authorization": "Basic dTpw"}, "no_key"),
        ({"Authorization": KEY}, "no_key"),
        ({"Authorization": "Bearer"}, "unknown_key"),
        ({"Authorization": "Bearer "}, "unknown_key"),
        ({"Authorization": f"Bearer {KEY}x"}, "unknown_key"),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, "unknown_key"),
        ({"Authorization": "Bearer " + "x" * 10_000}, "unknown_key"),
        ({"X-API-Key": ""}, "unknown_key"),
        ({"X-API-Key": "ä"}, "unknown_key"),
        ({"Cookie": f"key={KEY}"}, "no_key"),
    ],
)
def test_access_takes_a_key_from_its_headers_alone(http: AsgiClient, headers: dict[str, str], code: str | None) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = http.get("/v1/collections", headers=encoded)
    assert answer.status_code == (401 if code else 200), answer.text
    assert code is None or code_of(answer) == code
    assert http.get(f"/v1/collections?key={KEY}").status_code == 401


def test_access_without_keys_looks_at_none(open_http: AsgiClient) -> None:
    for headers in ({}, {"Authorization": "Bearer anything"}, {"X-API-Key": "x"}):
        assert open_http.get("/v1/status", headers=headers).status_code == 200


def test_access_refuses_an_unknown_key_where_none_is_needed(served: Served) -> None:
    keys = keys_from_environment(f"ops:admin:{KEYS[Role.ADMIN]}")
    with client(served, keys=keys, anonymous="read") as http:
        assert http.get("/v1/collections").status_code == 200
        assert http.get("/v1/status").status_code == 401
        assert http.get("/v1/collections", headers={"X-API-Key": "revoked"}).status_code == 401
        assert http.get("/v1/status", headers=bearer(Role.ADMIN)).status_code == 200


def test_document_says_which_keys_are_taken(http: AsgiClient) -> None:
    document = http.get("/openapi.json", headers=bearer(Role.READ)).json()
    assert document["components"]["securitySchemes"].keys() == {"bearer", "header"}
    assert document["security"] == [{"bearer": []}, {"header": []}, {}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {"401", "403", "421", "429"} <= operation["responses"].keys()


# --- hosts and origins


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", "0.0.0.0"])
def test_access_refuses_the_name_of_another_site(open_http: AsgiClient, host: str) -> None:
    """DNS rebinding: the page's own name resolves to us, so that the browser takes us for its origin."""
    for method, path in (("GET", "/"), ("GET", f"{URL}/images/a"), ("DELETE", f"{URL}/images/a"), ("GET", "/docs")):
        answer = open_http.request(method, path, headers={"Host": host, "Origin": f"http://{host}"})
        assert (answer.status_code, code_of(answer)) == (421, "unknown_host")
    assert open_http.get(f"{URL}/images/a").status_code == 200
    for path in ("/healthz", "/readyz"):  # probes name the address of the container
        assert open_http.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("headers", [[], [("Host", "localhost"), ("Host", "localhost")], [("Host", "a b")]])
def test_access_refuses_none_two_and_malformed_hosts(served: Served, headers: list[tuple[str, str]]) -> None:
    app = create_app(served.state)
    status, body = _raw(protected(app, served.settings), "GET", "/v1/status", headers)
    assert (status, json.loads(body)["error"]["code"]) == (400, "malformed_host")


def test_access_without_keys_takes_no_change_from_a_page_of_another_site(
    open_http: AsgiClient, http: AsgiClient
) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for method, path in (("PUT", "images/new"), ("DELETE", "images/a"), ("POST", "search")):
            answer = open_http.request(method, f"{URL}/{path}", headers=headers, json={})
            assert (answer.status_code, code_of(answer)) == (403, "cross_origin")
        assert http.delete(f"{URL}/images/none", headers=headers | bearer(Role.WRITE)).status_code == 404
    own = {"Origin": "http://localhost:8000"}
    assert open_http.post(f"{URL}/search", headers=own, json={"image_id": "a"}).status_code == 200
    assert open_http.get(f"{URL}/images/a").status_code == 200


def test_access_has_no_cors(open_http: AsgiClient, http: AsgiClient) -> None:
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "PUT"}
    for one in (open_http, http):
        for method, path in (("OPTIONS", f"{URL}/images/a"), ("GET", "/v1/collections"), ("GET", "/healthz")):
            answer = one.request(method, path, headers=asked | bearer(Role.ADMIN))
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert method != "OPTIONS" or answer.status_code in (403, 405)


def test_access_closes_websockets(served: Served) -> None:
    sent: list[Any] = []

    async def run() -> None:
        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        app = protected(create_app(served.state), served.settings)
        await app({"type": "websocket", "path": "/", "headers": []}, receive, send)

    asyncio.run(run())
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- limits


def test_access_limits_each_key_by_itself_and_all_without_one_together(served: Served) -> None:
    now = [0.0]
    limit = RateLimit(rate=0.5, burst=2)
    keys = [
        key.model_copy(update={"limit": limit}) for key in keys_from_environment(f"a:read:{KEY},b:read:{KEY[::-1]}")
    ]
    app = create_app(served.state)
    anonymous = Caller(None, Role.READ, TokenBucket(limit, lambda: now[0]))
    entry = Access(app, KeyRing(keys, None, lambda: now[0]), anonymous, lambda _: True, OPEN_PATHS)
    with client_of(app, entry) as http:
        for headers in ({"X-API-Key": KEY}, {"X-API-Key": KEY[::-1]}, {}):
            answers = [http.get("/v1/collections", headers=headers) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]
            assert (code_of(answers[2]), answers[2].headers["Retry-After"]) == ("rate_limited", "2")
            for path in ("/", "/healthz"):
                assert http.get(path, headers=headers).status_code == 200
        now[0] = 2.0
        assert http.get("/v1/collections").status_code == 200


def test_access_answers_a_refusal_without_waiting_for_the_body(served: Served) -> None:
    keys = keys_from_environment(f"ops:admin:{KEYS[Role.ADMIN]}")
    access = served.settings.access.model_copy(update={"keys": keys})
    entry = protected(create_app(served.state), served.settings.model_copy(update={"access": access}))
    status, _ = _raw(entry, "PUT", f"{URL}/images/new", [("Host", "localhost"), ("Content-Length", "100")])
    assert status == 401


# --- the record of writes


def test_access_records_writes_that_came_in_and_those_of_keys_whose_role_is_too_low(
    served: Served, tmp_path: Path
) -> None:
    with client(served, keys=ALL_KEYS, audit_log=str(tmp_path / "log")) as http:
        http.put(f"{URL}/images/x", json={"image": IMAGE}, headers=bearer(Role.WRITE))
        http.delete(f"{URL}/images/x", headers=bearer(Role.READ))
        http.delete(f"{URL}/images/x", headers=bearer(Role.ADMIN))
        http.delete(f"{URL}/images/x", headers={"X-API-Key": "unknown"})
        http.delete(f"{URL}/images/x")
        http.get(f"{URL}/images/x", headers=bearer(Role.WRITE))
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["key"], line["method"], line["status"]) for line in lines] == [
        ("write", "PUT", 200),
        ("read", "DELETE", 403),
        ("admin", "DELETE", 200),
    ]
    assert lines[0]["bytes"] > len(IMAGE)


# --- no location in an answer


def _instances(served: Served) -> Iterator[LookalikeError]:
    """An error of every class that an answer can be made of, with a location in its message."""
    place = f"{served.store.root.shown}/default/x"
    for cls in MEANINGS:
        if issubclass(cls, LookalikeError):
            yield (
                cls("lost", f"cannot read {place}: gone")
                if cls.__str__ is not Exception.__str__
                else cls(f"cannot read {place}: gone")
            )
    yield LookalikeError(f"cannot read {place}")


def test_no_answer_names_the_store(served: Served, tmp_path: Path) -> None:
    state = ServerState(served.state.collections, served.state.shard_statuses, {"lost": "alias is damaged"})
    app = create_app(state)
    errors = [error for error in _instances(served) if _may_hold_a_location(error)]
    for number, error in enumerate(errors):
        app.add_route(f"/fails/{number}", _failing(error))
    app.add_route("/fails/os", _failing(OSError(2, "No such file", str(served.store.root))))
    head = served.store.buckets[0].head_location.path
    whole = head.read_bytes()
    with client_of(app) as http:
        answers = [http.get(f"/fails/{number}") for number in (*range(len(errors)), "os")]
        head.write_bytes(b"{")
        try:
            served.refresh()
            answers += [http.get(path) for path in ("/v1/status", "/readyz", "/v1/collections")]
            last_errors = [shard["last_error"] for shard in answers[-3].json()["collections"][0]["shards"]]
            assert any("default/" in error for error in last_errors), "it still says which file is at fault"
            for n in range(8):
                answers.append(http.get(f"{URL}/images/{n}"))
                answers.append(http.delete(f"{URL}/images/{n}"))
                answers.append(http.put(f"{URL}/images/{n}", json={"image": IMAGE}))
        finally:
            head.write_bytes(whole)
        answers += [http.get("/v1/collections/lost/images/a"), http.put(f"{URL}/images/a", json={"image": "?"})]
    assert {answer.status_code for answer in answers} >= {200, 404, 409, 422, 500, 503, 507}
    for answer in answers:
        assert "secret-folder" not in answer.text
        assert str(tmp_path.parent) not in answer.text


def _may_hold_a_location(error: LookalikeError) -> bool:
    """Whether an error is made of other than what the client sent."""
    return not meaning_of(error).echoes


def _failing(error: Exception) -> Callable[[Any], Any]:
    async def fail(_: object) -> None:
        raise error

    return fail


def _raw(app: Any, method: str, path: str, headers: list[tuple[str, str]]) -> tuple[int, bytes]:
    """Send a request as no client would, whose body never comes."""
    sent: list[Message] = []

    async def run() -> None:
        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        await asyncio.wait_for(app(scope | {"headers": encoded}, receive, send), 5)

    asyncio.run(run())
    return sent[0]["status"], sent[1]["body"]
