"""A real Chromium for the tests of pages."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium")
MISSING = "no chromium on the PATH; on Debian: apt-get install chromium"
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "chromium" not in os.environ.get("LOOKALIKE_REQUIRE", ""), reason=MISSING
)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What Chromium itself writes to the console when a request is refused.
REFUSED = re.compile(r"Failed to load resource: (.* responded with a status of [45]\d\d|net::ERR_CONNECTION_REFUSED)")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium until the block ends."""
    assert CHROMIUM is not None, MISSING
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Browser, url: str) -> Iterator[Page]:
    """A page of a new context. At the end: no script failed, no policy was violated, no other host got a request."""
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []

    def note_foreign(request: Request) -> None:
        if not request.url.startswith((f"{url}/", f"blob:{url}/", "data:")):
            errors.append(request.url)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.on("request", note_foreign)
    yield page
    context.close()
    unexpected = [error for error in errors if not REFUSED.match(error)]
    assert not unexpected, unexpected
