"""The server over HTTP, in real processes: what it answers, what it refuses, and what it survives."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
import httpx
import psutil
import pytest
from support.contract import Contract
from support.photos import png_header, small_png
from support.processes import Server, running
from support.stores import collection_in

from lookalike import storage

pytestmark = pytest.mark.integration


@functools.cache
def contract_of(origin: str) -> Contract:
    return Contract(httpx.get(f"{origin}/openapi.json", timeout=60).json())


def check(response: httpx.Response) -> None:
    """Compare every answer with the OpenAPI document of the server that gave it."""
    url = response.request.url
    contract_of(f"{url.scheme}://{url.netloc.decode()}").check(response)


# One client: each new one would read the certificate store anew, which takes longer than a search.
HTTP = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=64), event_hooks={"response": [check]})

# A whole and valid photo, so that only the other fields are at fault.
PIXELS = base64.b64encode(small_png(8)).decode()


def search(server: Server, **request: Any) -> httpx.Response:
    return HTTP.post(f"{server.collection}/search", json=request)


def photo_of(server: Server, image_id: str) -> bytes:
    return HTTP.get(f"{server.collection}/images/{quote(image_id)}/photo").content


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def hits(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["hits"]
    return found


def test_every_stored_image_finds_itself_first(server: Server) -> None:
    for image_id in server.ids:
        first = hits(search(server, image_id=image_id, count=3))[0]
        assert (first["image_id"], first["distance"], first["similarity"]) == (image_id, 0, 1)


def test_photo_gives_the_codes_as_stored_whatever_its_batch(server: Server) -> None:
    """Many at once, so that the encoder makes batches of different sizes."""
    chosen = random.Random(0).sample(server.ids, 60)

    def encode(image_id: str) -> tuple[dict[str, str], dict[str, str]]:
        stored = HTTP.get(f"{server.collection}/images/{quote(image_id)}").json()
        made = HTTP.post(
            f"{server.collection}/encode",
            content=photo_of(server, image_id),
            headers={"Content-Type": "image/jpeg"},
            timeout=60,
        ).json()
        return {k: stored[k] for k in ("short", "long")}, {k: made[k] for k in ("short", "long")}

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for stored, made in pool.map(encode, chosen):
            assert made == stored


def test_both_ways_to_send_a_photo_agree(server: Server) -> None:
    photo = photo_of(server, server.ids[5])
    in_json = hits(search(server, image=base64.b64encode(photo).decode(), count=7))
    url = f"{server.collection}/search/image?count=7"
    as_body = hits(HTTP.post(url, content=photo, headers={"Content-Type": "image/jpeg"}))
    assert in_json == as_body
    assert len(in_json) == 7
    assert in_json[0]["distance"] == 0


def test_filters_weights_and_verbose(server: Server) -> None:
    stored = [HTTP.get(f"{server.collection}/images/{quote(i)}").json() for i in server.ids]
    group = stored[0]["group"]
    expected = {row["image_id"] for row in stored if row["group"] == group}
    only = [{"field": "group", "in": [group]}]
    found = hits(search(server, image_id=server.ids[0], count=1000, filters=only))
    assert {hit["image_id"] for hit in found} == expected
    rest = hits(search(server, image_id=server.ids[0], count=1000, filters=[{"not": only[0]}]))
    assert {hit["image_id"] for hit in rest} == set(server.ids) - expected
    components = HTTP.get(f"{server.url}/v1/status").json()["collections"][0]["components"]
    weights = dict.fromkeys(components, 0) | {"colour": 2.5}
    for hit in hits(search(server, image_id=server.ids[0], weights=weights, verbose=True)):
        assert hit["distance"] == 2.5 * hit["components"]["colour"]
        assert hit["similarity"] == round(1 - hit["components"]["colour"] / components["colour"]["bits"], 4)


def test_collapse_gives_each_listing_once(server: Server) -> None:
    found = hits(search(server, image_id=server.ids[0], count=1000, collapse=True))
    listings = [hit["listing_id"] for hit in found]
    everything = hits(search(server, image_id=server.ids[0], count=1000))
    assert len(listings) == len(set(listings))
    assert set(listings) == {hit["listing_id"] for hit in everything}
    assert len(everything) == len(server.ids)


def test_answers_of_one_two_and_five_shards_are_the_same_bytes(server: Server) -> None:
    requests: list[dict[str, Any]] = []
    for number, image_id in enumerate(random.Random(1).sample(server.ids, 12)):
        by_photo = {"image": base64.b64encode(photo_of(server, image_id)).decode()}
        request: dict[str, Any] = {"image_id": image_id} if number % 2 else by_photo
        request |= {"count": [1, 5, 50][number % 3], "verbose": number % 4 == 0, "two_phase": number % 5 > 0}
        if number % 3 == 0:
            request["filters"] = [{"field": "price", "lt": 60}]
        requests.append(request | {"collapse": number % 6 == 0})

    def answers(url: str) -> bytes:
        replies = []
        for request in requests:
            reply = HTTP.post(f"{url}/v1/collections/default/search", json=request).json()
            replies.append({key: reply[key] for key in ("count", "hits")})
        return json.dumps(replies).encode()

    of_two = answers(server.url)
    # Few candidates, so that the threshold of phase one decides: 240 images are fewer than 256 per hit.
    with running(server.store, "--shards", "1", "--candidates-per-hit", "4") as (url, process):
        assert answers(url) == of_two
        photo = base64.b64encode(photo_of(server, server.ids[0])).decode()
        put = HTTP.put(f"{url}/v1/collections/default/images/kept", json={"image": photo, "title": "kept"})
        assert put.status_code == 200
        kill_all(process)
    with running(server.store, "--shards", "5", "--candidates-per-hit", "4") as (url, _):
        kept = HTTP.get(f"{url}/v1/collections/default/images/kept")
        assert kept.json()["title"] == "kept", "a write that was answered is gone after kill -9"
        assert HTTP.delete(f"{url}/v1/collections/default/images/kept").status_code == 200
        status = HTTP.get(f"{url}/v1/status").json()["collections"][0]
        assert len(status["shards"]) == 5
        until(lambda: rows_of(url) == len(server.ids), 3, "the deleted image is still counted")
        assert min(shard["rows"] for shard in status["shards"]) > 0
        assert answers(url) == of_two


def rows_of(url: str) -> int:
    rows: int = HTTP.get(f"{url}/v1/status").json()["collections"][0]["rows"]
    return rows


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill -9 a server and all that it started, as a power cut would."""
    root = psutil.Process(process.pid)
    for victim in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait()


@pytest.mark.timeout(300)
def test_server_whose_ray_was_killed_ends_with_a_sentence(server: Server, tmp_path: Path) -> None:
    shutil.copytree(server.store, tmp_path / "store")
    log = tmp_path / "log"
    with running(tmp_path / "store", log=log) as (_, process):
        children = psutil.Process(process.pid).children()
        (raylet,) = [child for child in children if child.name() == "raylet"]
        raylet.kill()
        assert process.wait(90) == 1
    assert "Error: Ray has stopped, and nothing is served any more" in log.read_text()


def test_put_is_searchable_within_a_second_and_delete_takes_it_away(server: Server) -> None:
    photo = base64.b64encode(photo_of(server, server.ids[3])).decode()
    url = f"{server.collection}/images/{quote('new listing/7')}"
    body = {"image": photo, "group": "Tests / New", "title": "a new one", "price": 12.5, "colour": "red"}
    assert HTTP.put(url, json=body).json() == {"image_id": "new listing/7", "status": "stored"}
    until(lambda: search(server, image_id="new listing/7").status_code == 200, 1.5, "not searchable within a second")
    assert hits(search(server, image_id="new listing/7"))[0]["image_id"] == "new listing/7"
    stored = HTTP.get(url).json()
    assert (stored["group"], stored["title"], stored["price"]) == ("Tests/New", "a new one", 12.5)
    assert HTTP.get(f"{url}/photo").content == base64.b64decode(photo)
    assert HTTP.put(url, json=body | {"title": "changed"}).status_code == 200
    assert HTTP.get(url).json()["title"] == "changed"
    assert HTTP.delete(url).json() == {"image_id": "new listing/7", "status": "deleted"}
    until(lambda: search(server, image_id="new listing/7").status_code == 404, 1.5, "still found after a second")
    assert HTTP.get(url).status_code == 404
    assert HTTP.delete(url).status_code == 404


def test_writes_at_once_are_all_kept(server: Server) -> None:
    photo = base64.b64encode(photo_of(server, server.ids[8])).decode()
    urls = [f"{server.collection}/images/many%2F{n}" for n in range(24)]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert {r.status_code for r in pool.map(lambda u: HTTP.put(u, json={"image": photo}), urls)} == {200}
        store = collection_in(server.store)
        assert store.count() == len(server.ids) + 24
        assert {r.status_code for r in pool.map(lambda u: HTTP.delete(u), urls)} == {200}
    assert store.count() == len(server.ids)


BAD_SEARCHES: list[tuple[Any, int, str, str | None]] = [
    ({}, 422, "invalid_field", None),
    ({"image_id": "no such image"}, 404, "unknown_image", "image_id"),
    ({"image": base64.b64encode(b"this is text").decode()}, 422, "undecodable_image", "image"),
    ({"image_id": "x", "count": 10**9}, 422, "invalid_field", "count"),
    ({"image_id": "x", "weights": {"smell": 3}}, 422, "unknown_component", "weights"),
    ({"image_id": "x", "weights": {"colour": 0.125}}, 422, "invalid_field", "weights.colour"),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), BAD_SEARCHES)
def test_bad_searches_are_refused(server: Server, body: Any, status: int, code: str, field: str | None) -> None:
    answer = HTTP.post(f"{server.collection}/search", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (status, code, field), answer.text
    assert error["message"]
    assert "Traceback" not in answer.text


BAD_PUTS: list[tuple[str, dict[str, Any], int]] = [
    ("a", {}, 422),
    ("a", {"image": base64.b64encode(b"this is text").decode()}, 422),
    ("a", {"image": PIXELS, "price": -1}, 422),
    ("x" * 513, {"image": PIXELS}, 422),
    ("", {"image": PIXELS}, 422),
    ("a%00b", {"image": PIXELS}, 422),
    ("a%0A", {"image": PIXELS}, 422),
    ("a%2Fphoto", {"image": PIXELS}, 422),
]


@pytest.mark.parametrize(("image_id", "body", "status"), BAD_PUTS)
def test_bad_puts_are_refused_and_change_nothing(
    server: Server, image_id: str, body: dict[str, Any], status: int
) -> None:
    token = storage.read(collection_in(server.store).token_location)
    answer = HTTP.put(f"{server.collection}/images/{image_id}", json=body)
    assert (answer.status_code, bool(answer.json()["error"]["message"])) == (status, True), answer.text
    assert storage.read(collection_in(server.store).token_location) == token


def test_bad_photos_are_refused_and_cost_nothing(server: Server) -> None:
    whole = photo_of(server, server.ids[0])
    replica = psutil.Process(_ingress(server).pid)
    before = replica.memory_info().rss
    for body, word in (
        (b"", ""),
        (b"a text file\n" * 100, "photo"),
        (whole[: len(whole) // 2], "trunc"),
        (png_header(30_000, 30_000), "pixels"),
    ):
        url = f"{server.collection}/search/image"
        answer = HTTP.post(url, content=body, headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 422, answer.text
        assert word in answer.json()["error"]["message"]
    assert replica.memory_info().rss - before < 200_000_000


def test_an_upload_of_60_mb_is_refused(server: Server) -> None:
    url = f"{server.collection}/search/image"
    answer = HTTP.post(url, content=bytes(60_000_000), headers={"Content-Type": "image/jpeg"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")

    def chunks() -> Any:
        for _ in range(60):
            yield bytes(1_000_000)

    answer = HTTP.post(url, content=chunks(), headers={"Content-Type": "image/jpeg"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_unknown_paths_collections_and_methods(server: Server) -> None:
    for method, path, status, code in (
        ("POST", "/v1/collections/shoes/search", 404, "unknown_collection"),
        ("GET", "/v1/nothing", 404, "unknown_path"),
        ("PATCH", "/v1/status", 405, "wrong_method"),
        ("GET", "/v1/collections/default/images/no%2Fsuch", 404, "unknown_image"),
        ("GET", "/v1/collections/default/images/..%2F..%2Fetc%2Fpasswd/photo", 422, "invalid_field"),
    ):
        body = {"image_id": "x"} if method == "POST" else None
        answer = HTTP.request(method, server.url + path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path


def test_clients_that_disconnect_disturb_nobody(server: Server) -> None:
    """Half of the clients close in the middle of a request, under load; every other one gets its right answer."""
    expected = {i: hits(search(server, image_id=i, count=5)) for i in server.ids[:20]}
    photo = base64.b64encode(photo_of(server, server.ids[1])).decode()
    ingress = _ingress(server)
    files = len(ingress.open_files()) + len(ingress.net_connections())
    stop = time.monotonic() + 8
    address = urlsplit(server.url)

    def vanish(seed: int) -> int:
        rng = random.Random(seed)
        done = 0
        while time.monotonic() < stop:
            target = {"image_id": rng.choice(server.ids)} if rng.random() < 0.7 else {"image": photo}
            body = json.dumps(target | {"count": 5}).encode()
            head = (
                f"POST /v1/collections/default/search HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            message = head + body
            with socket.create_connection((address.hostname, address.port)) as client:
                client.sendall(message[: rng.choice([len(message), len(message), len(message) - 5, len(head) - 3])])
                time.sleep(rng.choice([0, 0.001, 0.003, 0.01]))
            time.sleep(0.05)  # about as many requests as the others send; more would be a flood
            done += 1
        return done

    def search_on(seed: int) -> int:
        rng = random.Random(seed)
        done = 0
        with httpx.Client(timeout=30) as client:
            while time.monotonic() < stop:
                image_id = rng.choice(list(expected))
                reply = client.post(f"{server.collection}/search", json={"image_id": image_id, "count": 5})
                assert hits(reply) == expected[image_id]
                done += 1
        return done

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        vanished = [pool.submit(vanish, n) for n in range(8)]
        answered = [pool.submit(search_on, n) for n in range(8)]
        assert sum(f.result() for f in vanished) > 80
        assert sum(f.result() for f in answered) > 80
    assert hits(search(server, image_id=server.ids[0], count=5)) == expected[server.ids[0]]
    until(
        lambda: len(ingress.open_files()) + len(ingress.net_connections()) <= files + 10,
        20,
        "connections of clients that went away are still open",
    )


def test_killed_shard_comes_back_by_itself(server: Server) -> None:
    expected = hits(search(server, image_id=server.ids[0]))
    whole = {image_id: hits(search(server, image_id=image_id)) for image_id in server.ids[:10]}
    shards = HTTP.get(f"{server.url}/v1/status").json()["collections"][0]["shards"]
    os.kill(shards[0]["pids"][0], signal.SIGKILL)
    answers = [search(server, image_id=image_id) for image_id in server.ids[:10]]
    for image_id, answer in zip(server.ids[:10], answers, strict=True):
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 200 and answer.json()["shards_answered"] == 2:
            assert hits(answer) == whole[image_id], "a partial answer looks whole"
    until(lambda: HTTP.get(f"{server.url}/readyz").status_code == 200, 60, "the shard did not come back")
    answer = search(server, image_id=server.ids[0], require_all=True)
    assert hits(answer) == expected
    after = HTTP.get(f"{server.url}/v1/status").json()["collections"][0]["shards"]
    assert after[0]["pids"] != shards[0]["pids"]


def test_tensorflow_is_in_the_encoder_alone(server: Server) -> None:
    with_tensorflow = []
    for process in _processes(server):
        maps = Path(f"/proc/{process.pid}/maps")
        if maps.exists() and "tensorflow" in maps.read_text():
            with_tensorflow.append(process.cmdline()[0])
    assert with_tensorflow, "the encoder runs TensorFlow"
    assert all("encoder" in name for name in with_tensorflow), with_tensorflow


def test_every_port_is_on_loopback_or_asks_for_the_token(server: Server) -> None:
    """Ray Serve binds its port between replicas to every interface; without the token it answers nobody."""
    beyond = {
        connection.laddr.port
        for process in _processes(server)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    }
    for port in beyond:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest", bytes, bytes)(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_health_and_readiness(server: Server) -> None:
    assert HTTP.get(f"{server.url}/healthz").json() == {"status": "alive"}
    assert HTTP.get(f"{server.url}/readyz").status_code == 200
    shards = HTTP.get(f"{server.url}/v1/status").json()["collections"][0]["shards"]
    assert "numpy" not in [shard["kernel_variant"] for shard in shards]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert all(1 <= shard["threads"] <= max(1, cores // len(shards)) for shard in shards)
    assert all(rss > shard["held_bytes"] for shard in shards for rss in shard["rss_bytes"])
    assert HTTP.get(f"{server.url}/openapi.json").status_code == 200


def _processes(server: Server) -> list[psutil.Process]:
    """The server, and all that it started."""
    root = psutil.Process(server.process.pid)
    return [root, *root.children(recursive=True)]


def _ingress(server: Server) -> psutil.Process:
    return next(p for p in _processes(server) if any("Ingress" in part for part in p.cmdline()))
