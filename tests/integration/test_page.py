"""The search page in a real Chromium, against the real server."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FloatRect, JSHandle, Locator, Page, Route, ViewportSize, expect
from support.browser import chromium, needs_chromium, watched_page
from support.processes import Server

pytestmark = [pytest.mark.integration, needs_chromium]

PHONE: ViewportSize = {"width": 360, "height": 740}


# Keeps what the parts of a form were: Chromium shows tests the requests, but not the files in them.
KEEP_FORMS = """() => {
    window.forms = [];
    const send = window.fetch;
    window.fetch = async (path, init) => {
        if (init?.body instanceof FormData) {
            const describe = async ([name, part]) => [name, { size: part.size, text: await part.text() }];
            const parts = [...init.body].map(describe);
            window.forms.push(Object.fromEntries(await Promise.all(parts)));
        }
        return send(path, init);
    };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, loaded."""
    with watched_page(browser, server.url) as page:
        page.goto(server.url)
        expect(page.locator("#catalogue")).to_have_text(f"{len(server.ids)} images")
        yield page


def _photo(server: Server, image_id: str) -> Path:
    with (server.photos / "catalog.csv").open(newline="") as file:
        return next(server.photos / row["file"] for row in csv.DictReader(file) if row["image_id"] == image_id)


def _first_hit(page: Page) -> Locator:
    """The first hit of a finished search."""
    return page.locator("#main:not([aria-busy]) .hit").first


def _expect_first(page: Page, image_id: str) -> None:
    """Wait for an answer whose first hit is this image, with the same descriptor."""
    expect(_first_hit(page).locator(".id")).to_have_text(image_id)
    expect(_first_hit(page).locator(".similarity")).to_have_text("100.0%")
    expect(_first_hit(page).locator(".distance")).to_have_text("0 bits")


def _box(visible: Locator) -> FloatRect:
    box = visible.bounding_box()
    assert box is not None
    return box


def _shown_request(page: Page) -> dict[str, Any]:
    return dict(json.loads(page.locator("#json").text_content() or ""))


def _dropped(page: Page, photo: Path) -> JSHandle:
    """What the system hands to a page when a file is dropped or pasted."""
    return page.evaluate_handle(
        """([bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
            return transfer;
        }""",
        [list(photo.read_bytes()), photo.name],
    )


def test_page_uploaded_photo_finds_itself_first(page: Page, server: Server) -> None:
    image_id = server.ids[7]
    page.set_input_files("#file", _photo(server, image_id))
    _expect_first(page, image_id)
    expect(page.locator(".hit")).to_have_count(20)
    expect(page.locator("#summary")).to_contain_text("20 images")
    expect(page.locator("#warning")).to_be_empty()
    expect(_first_hit(page).locator(".group")).not_to_be_empty()


def test_page_hit_leads_to_its_own_search_and_back(page: Page, server: Server) -> None:
    page.set_input_files("#file", _photo(server, server.ids[3]))
    _expect_first(page, server.ids[3])
    second = page.locator(".hit").nth(4)
    chosen = second.locator(".id").inner_text()
    second.focus()
    page.keyboard.press("Enter")
    _expect_first(page, chosen)
    expect(page.locator("#heading")).to_have_text(f"Photos like {chosen}")
    assert _shown_request(page) == {"image_id": chosen, "count": 20}

    page.go_back()
    _expect_first(page, server.ids[3])
    expect(page.locator("#heading")).to_have_text("Photos like yours")
    page.go_back()
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator(".hit")).to_have_count(0)
    page.go_forward()
    page.go_forward()
    _expect_first(page, chosen)


def test_page_address_restores_the_search(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/?id={server.ids[5]}&count=3&verbose=true&weight.colour=0")
    _expect_first(page, server.ids[5])
    expect(page.locator(".hit")).to_have_count(3)
    expect(_first_hit(page).locator(".component", has_text="colour")).to_have_text("colour0")
    assert _shown_request(page) == {"image_id": server.ids[5], "count": 3, "weights": {"colour": 0}, "verbose": True}


def test_page_count_limits_the_hits_and_is_checked(page: Page, server: Server) -> None:
    page.fill("[name=id]", server.ids[0])
    page.fill("[name=count]", "4")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(4)
    page.fill("[name=count]", "1001")
    page.click("text=Search")
    expect(page.locator("#error")).to_contain_text("count")
    expect(page.locator(".hit")).to_have_count(4)


def test_page_says_when_a_file_is_no_photo(page: Page, server: Server) -> None:
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"red shirt, size M"})
    expect(page.locator("#error")).to_contain_text("not a photo")
    expect(page.locator(".hit")).to_have_count(0)
    page.set_input_files("#file", _photo(server, server.ids[1]))
    _expect_first(page, server.ids[1])
    expect(page.locator("#error")).to_be_empty()


def test_page_says_when_an_id_is_unknown_or_filters_are_malformed(page: Page, server: Server) -> None:
    page.fill("[name=id]", "<b>nobody</b>")
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_have_text("no image has the id <b>nobody</b>")
    page.goto(f"{server.url}/?id={server.ids[0]}&filters=[oops")
    expect(page.locator("#error")).to_contain_text("filters")
    expect(page.locator(".hit")).to_have_count(0)


def test_page_does_not_send_a_photo_that_is_too_large(page: Page, tmp_path: Path) -> None:
    big = tmp_path / "big.jpg"
    with big.open("wb") as file:
        file.truncate(25_000_001)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.set_input_files("#file", big)
    expect(page.locator("#error")).to_contain_text("25 MB")
    assert sent == []


def test_page_says_when_the_server_is_gone(page: Page, server: Server) -> None:
    # One handler: for a moment between two, requests would reach the server.
    answers: list[Callable[[Route], None]] = [
        lambda route: route.fulfill(status=503, body="<html>no server</html>"),
        lambda route: route.abort("connectionrefused"),
        lambda route: route.continue_(),
    ]
    page.route("**/search", lambda route: answers.pop(0)(route))
    page.fill("[name=id]", server.ids[0])
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_contain_text("503")
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_contain_text("cannot be reached")
    page.keyboard.press("Enter")
    _expect_first(page, server.ids[0])


def test_page_says_when_an_answer_is_partial(page: Page, server: Server) -> None:
    def lose_a_shard(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "shards_answered": 1})

    page.route("**/search", lose_a_shard)
    page.fill("[name=id]", server.ids[0])
    page.keyboard.press("Enter")
    expect(page.locator("#warning")).to_have_text("Only 1 of 2 shards answered: some images were not searched.")


def test_page_shows_the_request_as_it_is_sent(page: Page, server: Server) -> None:
    page.fill("[name=count]", "6")
    page.locator("[name=group]").evaluate("field => (field.closest('details').open = true)")
    page.fill("[name=group]", "Apparel")
    page.fill("[name=filters]", '[{"field": "price", "gte": 1}]')
    page.uncheck("[name=two_phase]")
    page.check("[name=collapse]")
    page.locator("[name='weight.colour']").fill("4.5")
    before = _shown_request(page)

    page.evaluate(KEEP_FORMS)
    page.set_input_files("#file", _photo(server, server.ids[2]))
    expect(_first_hit(page)).to_be_visible()
    sent = page.evaluate("window.forms[0]")

    assert json.loads(sent["query"]["text"]) == _shown_request(page) == before
    assert before == {
        "count": 6,
        "filters": [{"field": "group", "in": ["Apparel"]}, {"field": "price", "gte": 1}],
        "weights": {"colour": 4.5},
        "two_phase": False,
        "collapse": True,
    }
    assert sent["image"]["size"] == _photo(server, server.ids[2]).stat().st_size
    expect(page.locator("#parts")).to_contain_text(f"{sent['image']['size']:,} bytes")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_page_searches_by_dropped_and_pasted_photos(page: Page, server: Server, event: str) -> None:
    image_id = server.ids[11]
    transfer = _dropped(page, _photo(server, image_id))
    if event == "drop":
        page.dispatch_event("h1", "drop", {"dataTransfer": transfer})
    else:
        paste = "transfer => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer }))"
        transfer.evaluate(paste)
    _expect_first(page, image_id)


def test_page_shows_only_the_last_of_two_searches(page: Page, server: Server) -> None:
    waiting: list[Route] = []
    page.route("**/search", lambda route: waiting.append(route) if not waiting else route.fallback())
    page.fill("[name=id]", server.ids[0])
    page.keyboard.press("Enter")
    page.fill("[name=id]", server.ids[1])
    page.keyboard.press("Enter")
    _expect_first(page, server.ids[1])
    assert waiting[0].request.failure == "net::ERR_ABORTED"


def test_page_weights_have_a_number_and_a_slider_that_agree(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/?id={server.ids[5]}&weight.colour=0.25")
    _expect_first(page, server.ids[5])
    assert _shown_request(page)["weights"] == {"colour": 0.25}
    page.locator("[name=group]").evaluate("field => (field.closest('details').open = true)")
    page.get_by_label("weight of colour").fill("3.7")
    expect(page.locator("[name='weight.colour']")).to_have_value("3.7")
    assert _shown_request(page)["weights"] == {"colour": 3.7}
    page.locator("[name='weight.colour']").fill("10.01")
    page.click("text=Search")
    expect(page.locator("#error")).to_contain_text("weight.colour")
    page.click("#defaults")
    assert "weights" not in _shown_request(page)


def test_page_never_rounds_up_to_the_same_descriptor(page: Page, server: Server) -> None:
    def nearly_the_same(route: Route) -> None:
        answer = route.fetch().json()
        answer["hits"][0] |= {"distance": 0.25, "similarity": 0.99992}
        route.fulfill(json=answer)

    page.route("**/search", nearly_the_same)
    page.fill("[name=id]", server.ids[0])
    page.keyboard.press("Enter")
    expect(_first_hit(page).locator(".similarity")).to_have_text("99.9%")
    expect(_first_hit(page).locator(".distance")).to_have_text("0.25 bits")


def test_page_example_starts_a_search(page: Page) -> None:
    page.click("#examples button >> nth=1")
    expect(page.locator(".hit")).to_have_count(20)


def test_page_fits_a_phone(page: Page, server: Server) -> None:
    def overflow() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    page.set_viewport_size(PHONE)
    assert overflow() == 0
    page.set_input_files("#file", _photo(server, server.ids[2]))
    _expect_first(page, server.ids[2])
    for summary in page.locator("summary").all():
        summary.click()
    assert overflow() == 0
    boxes = [_box(hit) for hit in page.locator(".hit").all()[:3]]
    assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]
    for control in page.locator(
        "main :is(button, summary, input:not(.visually-hidden, [type=checkbox]), select):visible"
    ).all():
        assert _box(control)["height"] >= 44, control.evaluate("node => node.outerHTML")
