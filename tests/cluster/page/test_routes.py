"""The page's routes: every file of the page is served, and every script that a script imports."""

from __future__ import annotations

import re
from pathlib import Path

from lookalike.cluster.page.routes import FILES

STATIC = Path(__file__).parents[3] / "cluster" / "page" / "static"


def test_routes_serve_every_file_of_the_page() -> None:
    assert {name for name, _ in FILES.values()} == {path.name for path in STATIC.iterdir()}


def test_routes_serve_every_file_that_the_page_names() -> None:
    for path in STATIC.iterdir():
        for name in re.findall(r'from "\.(/[\w.]+)"|(?:src|href)="(/[\w.]+)"', path.read_text()):
            assert "".join(name) in FILES
