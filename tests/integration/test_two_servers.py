"""Two servers on one machine, each over a store of its own."""

from __future__ import annotations

import base64
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from support.photos import small_png
from support.processes import Server, running

from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location

pytestmark = pytest.mark.integration

WRITERS = 4
WRITE_FOR_S = 8.0
"""Longer than Serve takes to start the replica again."""


def kill_ingress(server: Server) -> None:
    processes = psutil.Process(server.process.pid).children(recursive=True)
    (ingress,) = [process for process in processes if "ServeReplica:lookalike:Ingress" in "".join(process.cmdline())]
    ingress.kill()


def acknowledged(server: Server, writer: int) -> list[str]:
    """Put images for a while. Returns the ids of those that the server said are stored."""
    body = {"image": base64.b64encode(small_png(8 + writer)).decode()}
    answered: list[str] = []
    end = time.monotonic() + WRITE_FOR_S
    with httpx.Client(timeout=60) as client:
        while time.monotonic() < end:
            image_id = f"two-{writer}-{len(answered)}"
            try:
                if client.put(f"{server.collection}/images/{image_id}", json=body).status_code == 200:
                    answered.append(image_id)
            except httpx.TransportError:  # those in flight at the kill
                time.sleep(0.1)
    return answered


@pytest.mark.timeout(600)
def test_write_is_in_the_store_of_the_server_that_acknowledged_it_after_its_ingress_was_killed(
    server: Server, store: Path, tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "other")
    with running(tmp_path / "other"), ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(acknowledged, server, writer) for writer in range(WRITERS)]
        time.sleep(1)
        kill_ingress(server)
        image_ids = [image_id for writer in writers for image_id in writer.result()]
    assert image_ids
    own = Collection.open(Location.parse(store), "default")
    other = Collection.open(Location.parse(tmp_path / "other"), "default")
    assert [image_id for image_id in image_ids if image_id not in own.find(image_ids, ["title"])] == []
    assert other.find(image_ids, ["title"]) == {}
    for image_id in image_ids:
        assert httpx.delete(f"{server.collection}/images/{image_id}", timeout=60).status_code == 200
