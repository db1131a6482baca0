"""Searches by photo in the real server: hostile photos, killed decoders, clients that go away."""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import psutil
import pytest
from support.photos import HOSTILE, animation, plain_png
from support.processes import Server

pytestmark = pytest.mark.integration

HTTP = httpx.Client(timeout=120, limits=httpx.Limits(max_connections=64))
JPEG = {"Content-Type": "image/jpeg"}


def by_photo(server: Server, photo: bytes) -> httpx.Response:
    return HTTP.post(f"{server.collection}/search/image?count=5", content=photo, headers=JPEG)


def hits(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["hits"]
    return found


def photos_of(server: Server, number: int) -> list[bytes]:
    urls = [f"{server.collection}/images/{quote(image_id)}/photo" for image_id in server.ids[:number]]
    return [HTTP.get(url).content for url in urls]


def other(photo: bytes, number: int) -> bytes:
    """The same pixels in other bytes, which no answer was kept for: a comment is added."""
    comment = str(number).encode()
    return photo[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + photo[2:]


def processes(server: Server, name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(name in part for part in process.cmdline()):
                found.append(process)
    return found


def decoders(server: Server) -> list[psutil.Process]:
    return processes(server, "photos.decoder")


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def is_ready(server: Server) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return HTTP.get(f"{server.url}/readyz").status_code == 200
    return False


def test_decoders_run_before_the_first_photo_comes(server: Server) -> None:
    running = {process.pid for process in decoders(server)}
    assert len(running) > 1
    hits(by_photo(server, photos_of(server, 1)[0]))
    assert {process.pid for process in decoders(server)} == running


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "nothing"])
def test_hostile_photo_is_refused_with_its_reason(server: Server, name: str) -> None:
    make, reason = HOSTILE[name]
    answer = by_photo(server, make())
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "undecodable_image")
    assert reason in answer.json()["error"]["message"]


def test_large_and_animated_photos_are_answered(server: Server) -> None:
    for photo in (plain_png(10_000, 5_000), animation("WEBP", 30), animation("PNG", 30)):
        assert len(hits(by_photo(server, photo))) == 5


def test_killed_decoders_cost_their_own_requests_alone(server: Server) -> None:
    rng = random.Random(0)
    photos = photos_of(server, 12)
    expected = [hits(by_photo(server, photo)) for photo in photos]
    stop = time.monotonic() + 6

    def ask(seed: int) -> list[int]:
        statuses: list[int] = []
        while time.monotonic() < stop:
            number = len(statuses) % len(photos)
            answer = by_photo(server, other(photos[number], 1000 * seed + len(statuses)))
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                assert hits(answer) == expected[number]
            else:
                assert answer.json()["error"]["code"] == "decoder_unavailable", answer.text
                assert answer.headers["Retry-After"]
        return statuses

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, seed) for seed in range(6)]
        kills = 0
        while time.monotonic() < stop:
            time.sleep(0.3)
            if running := decoders(server):
                with contextlib.suppress(psutil.NoSuchProcess):
                    rng.choice(running).kill()
                    kills += 1
        statuses = [status for asked in asking for status in asked.result()]
    assert statuses.count(200) > 6
    failed = len(statuses) - statuses.count(200)
    # The last kill may not have been noticed yet.
    while (last := by_photo(server, other(photos[0], 10**6 + failed))).status_code != 200:
        failed += 1
        assert failed <= kills, last.text
    assert failed <= kills
    assert hits(last) == expected[0]


def test_clients_that_go_away_fail_no_other_photo_of_their_batch(server: Server) -> None:
    photos = photos_of(server, 12)
    expected = [hits(by_photo(server, photo)) for photo in photos]
    address = urlsplit(server.url)
    answered = threading.Event()

    def vanish(seed: int) -> int:
        rng, sent = random.Random(seed), 0
        while not answered.is_set():
            photo = other(rng.choice(photos), 1000 * seed + sent)
            head = (
                f"POST /v1/collections/default/search/image HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Content-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\n\r\n"
            )
            with socket.create_connection((address.hostname, address.port)) as client:
                client.sendall(head.encode() + photo)
                time.sleep(rng.choice([0.001, 0.005, 0.01, 0.02]))
            time.sleep(0.1)  # about as many requests as the others send; more would be a flood
            sent += 1
        return sent

    def ask(seed: int) -> None:
        for asked in range(30):
            number = asked % len(photos)
            assert hits(by_photo(server, other(photos[number], 1_000_000 + 1000 * seed + asked))) == expected[number]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        vanished = [pool.submit(vanish, seed) for seed in range(3)]
        asking = [pool.submit(ask, seed) for seed in range(4)]
        concurrent.futures.wait(asking)
        answered.set()
        for task in asking:
            task.result()
        assert sum(task.result() for task in vanished) > 10


def test_decoders_end_with_the_ingress_and_start_with_the_next_one(server: Server) -> None:
    (ingress,) = processes(server, "Ingress")
    before = decoders(server)
    ingress.kill()
    until(lambda: not any(process.is_running() for process in before), 30, "decoders outlive their ingress")
    until(lambda: is_ready(server) and len(decoders(server)) >= len(before), 90, "the ingress did not come back warm")
    assert len(hits(by_photo(server, photos_of(server, 1)[0]))) == 5
