"""A server beyond loopback with keys: what it lets in, what it records, what it leaves behind, and its page."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import chromium, needs_chromium, watched_page
from support.photos import small_png
from support.processes import lookalike, running
from support.stores import new_collection

pytestmark = pytest.mark.integration

OPS_KEY = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Guarded:
    """A running server with keys."""

    url: str
    pid: int
    folder: Path
    store: Path
    ids: list[str]
    keys: dict[str, str]

    def add_key(self, name: str, role: str, *options: str) -> str:
        return lookalike(
            "keys", "add", name, "--role", role, "--file", str(self.folder / "keys.json"), *options
        ).stdout.strip()

    def request(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.request(
            method, self.url + path, headers=headers | options.pop("headers", {}), timeout=60, **options
        )


@pytest.fixture(scope="module")
def guarded(store: Path, ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server on every address, with keys in a file and in the environment, and a collection that is damaged."""
    folder = tmp_path_factory.mktemp("guarded")
    own = tmp_path_factory.mktemp("secret-store")  # beside the other one, so that it finds its photos
    shutil.copytree(store, own, dirs_exist_ok=True)
    lost = new_collection(own, 2, "lost")
    (lost.folder / lost.version / "manifest.json").path.write_bytes(b"{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKALIKE_API_KEYS", f"ops:admin:{OPS_KEY}")
        patch.setenv("HOME", str(folder / "home"))
        server = Guarded("", 0, folder, own, ids, {})
        keys = {role: server.add_key(role, role) for role in ("read", "write")}
        options = ("--keys", str(folder / "keys.json"), "--audit-log", str(folder / "audit.log"))
        with running(server.store, "--host", "0.0.0.0", *options, log=folder / "log") as (url, process):
            yield Guarded(url, process.pid, folder, own, ids, keys | {"admin": OPS_KEY})


def test_guarded_server_lets_in_by_role(guarded: Guarded) -> None:
    search = {"json": {"image_id": guarded.ids[0]}}
    body = {"json": {"image": base64.b64encode(small_png(16)).decode()}}
    routes: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/v1/collections/default/search", search, "read"),
        ("GET", "/v1/collections", {}, "read"),
        ("PUT", "/v1/collections/default/images/guarded", body, "write"),
        ("DELETE", "/v1/collections/default/images/guarded", {}, "write"),
        ("GET", "/v1/status", {}, "admin"),
    ]
    for method, path, options, least in routes:
        assert guarded.request(method, path, **options).status_code == 401
        for role in {"read": [], "write": ["read"], "admin": ["read", "write"]}[least]:
            assert guarded.request(method, path, guarded.keys[role], **options).status_code == 403
        assert guarded.request(method, path, guarded.keys[least], **options).status_code == 200
    for path in ("/healthz", "/readyz"):
        assert guarded.request("GET", path, headers={"Host": "10.1.2.3:80"}).status_code == 200


def test_guarded_server_follows_its_file_of_keys(guarded: Guarded) -> None:
    key = guarded.add_key("visitor", "read", "--limit", "0.01:2")
    time.sleep(1.1)
    answers = [guarded.request("GET", "/v1/collections", key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 90 <= int(answers[2].headers["Retry-After"]) <= 100
    lookalike("keys", "remove", "visitor", "--file", str(guarded.folder / "keys.json"))
    time.sleep(1.1)
    assert guarded.request("GET", "/v1/collections", key).status_code == 401


def test_guarded_server_refuses_the_host_of_another_site(guarded: Guarded) -> None:
    answer = guarded.request("GET", "/v1/collections", guarded.keys["read"], headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")


def test_guarded_server_says_that_a_large_upload_needs_a_key(guarded: Guarded) -> None:
    """A client that sends before it reads must see the answer, and not a broken connection."""
    for content in (bytes(30_000_000), (bytes(1_000_000) for _ in range(30))):
        answer = guarded.request("PUT", "/v1/collections/default/images/x", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_key")


def test_guarded_server_records_every_write(guarded: Guarded) -> None:
    log = guarded.folder / "audit.log"
    before = len(log.read_text().splitlines())
    path = "/v1/collections/default/images/none%0A%22"
    guarded.request("DELETE", path, guarded.keys["read"])
    guarded.request("DELETE", "/v1/collections/default/images/none", guarded.keys["write"])
    guarded.request("DELETE", path)
    lines = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    assert [(line["key"], line["image_id"], line["status"]) for line in lines] == [
        ("read", 'none\n"', 403),
        ("write", "none", 404),
    ]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_guarded_server_never_says_where_its_store_is(guarded: Guarded) -> None:
    status = guarded.request("GET", "/v1/status", OPS_KEY)
    assert "manifest.json is damaged" in status.json()["unavailable"]["lost"]
    lost = guarded.request("POST", "/v1/collections/lost/search", OPS_KEY, json={"image_id": "a"})
    assert lost.json()["error"]["code"] == "collection_unavailable"
    for answer in (status, lost, guarded.request("GET", "/readyz")):
        assert str(guarded.store) not in answer.text
        assert guarded.store.name not in answer.text
    assert str(guarded.store) in (guarded.folder / "log").read_text(), "the log says it"


def test_guarded_server_leaves_no_secret_where_others_read(guarded: Guarded) -> None:
    assert not (guarded.folder / "home" / ".ray").exists(), "Ray's token, readable by everybody"
    root = psutil.Process(guarded.pid)
    children = root.children(recursive=True)
    tokens = {child.environ().get("RAY_AUTH_TOKEN") for child in children if "Ingress" in "".join(child.cmdline())}
    assert [len(token or "") for token in tokens] == [64]
    for child in children:
        assert "LOOKALIKE_API_KEYS" not in child.environ()
        assert not tokens & set(child.cmdline())
    for key in (*guarded.keys.values(), *tokens):
        assert key is not None
        assert key not in (guarded.folder / "log").read_text()
    session = next(
        Path(part.partition("=")[2])
        for child in children
        for part in child.cmdline()
        if part.startswith(("--session_dir=", "--session-dir="))
    )
    secrets = [key.encode() for key in (*guarded.keys.values(), *tokens) if key]
    for file in session.rglob("*"):
        if file.is_file() and file.stat().st_size < 2**24:
            content = file.read_bytes()
            assert not any(secret in content for secret in secrets), file


# --- the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, guarded: Guarded) -> Iterator[Page]:
    with watched_page(browser, guarded.url) as page:
        yield page


def give_key(page: Page, key: str) -> None:
    page.fill("[name=key]", key)
    page.press("[name=key]", "Enter")


@needs_chromium
def test_page_asks_for_a_key_and_works_with_it(page: Page, guarded: Guarded) -> None:
    page.goto(f"{guarded.url}/?id={guarded.ids[4]}&count=30")
    expect(page.locator("#key-reason")).to_have_text("This server wants an API key.")
    give_key(page, "schlüssel")  # which no header can carry: the browser says so
    assert page.eval_on_selector("[name=key]", "field => !field.checkValidity()")
    give_key(page, "lk_wrong")
    expect(page.locator("#key-reason")).to_have_text("this API key is not known")
    give_key(page, guarded.keys["read"])
    expect(page.locator("#catalogue")).to_have_text(f"{len(guarded.ids)} images")
    expect(page.locator("#key-form")).to_be_hidden()
    expect(page.locator(".hit")).to_have_count(30)
    expect(page.locator(".hit .id").first).to_have_text(guarded.ids[4])
    width = "image => image.complete ? image.naturalWidth : 0"
    for image in (page.locator("#query-photo"), page.locator(".hit img").first, page.locator(".hit img").last):
        image.scroll_into_view_if_needed()
        handle = image.element_handle()
        assert handle is not None
        page.wait_for_function(f"image => ({width})(image) > 0", arg=handle)
    assert guarded.keys["read"] not in page.url
    assert guarded.keys["read"] not in page.content()
    page.reload()
    expect(page.locator(".hit")).to_have_count(30)
    page.click("#request summary")
    page.click("#copy")
    expect(page.locator("#curl")).to_contain_text('-H "Authorization: Bearer $LOOKALIKE_API_KEY"')


@needs_chromium
def test_page_asks_again_when_the_key_is_revoked(page: Page, guarded: Guarded) -> None:
    key = guarded.add_key("page", "read")
    time.sleep(1.1)
    page.goto(guarded.url)
    give_key(page, key)
    expect(page.locator("#catalogue")).to_have_text(f"{len(guarded.ids)} images")
    lookalike("keys", "remove", "page", "--file", str(guarded.folder / "keys.json"))
    time.sleep(1.1)
    page.fill("[name=id]", guarded.ids[0])
    page.press("[name=id]", "Enter")
    expect(page.locator("#key-reason")).to_have_text("this API key is not known")
    give_key(page, guarded.keys["read"])
    expect(page.locator(".hit").first).to_be_visible()


@needs_chromium
def test_docs_are_shown_with_a_key_and_send_it(page: Page, guarded: Guarded) -> None:
    page.goto(f"{guarded.url}/docs")
    give_key(page, guarded.keys["read"])
    operation = page.locator("#operations-default-collections_v1_collections_get")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    with page.expect_response("**/v1/collections") as answered:
        operation.locator(".execute").click()
    assert answered.value.status == 200
    expect(operation.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
