"""The app over a small collection, in this process; every answer is compared with the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.asgi import AsgiClient, client_of
from support.collections import Served

from lookalike.cluster.http.app import create_app

IDS = [f"listing {n}/{m}" for n in range(10) for m in range(3)]


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Thirty images in two shards. A test that writes puts back what it found."""
    return Served(tmp_path_factory.mktemp("served"), IDS)


@pytest.fixture(scope="package")
def http(served: Served) -> Iterator[AsgiClient]:
    """A client of the app."""
    with client_of(create_app(served.state)) as client:
        yield client
