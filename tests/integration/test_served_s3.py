"""A server over a store on S3, with one collection that is broken beside one that is not."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from PIL import Image
from support.models import tiny_model
from support.processes import lookalike, running
from support.s3 import S3Server
from support.stores import collection_in, new_collection

from lookalike import storage
from lookalike.ingest.store.collection import Collection
from lookalike.model.saved_model import save

pytestmark = pytest.mark.integration

HTTP = httpx.Client(timeout=60)


@dataclass(frozen=True)
class Served:
    url: str
    store: str
    collection: Collection


def draw(folder: Path, images: int, seed: int) -> Path:
    folder.mkdir()
    for number in range(images):
        colour = ((number * 37 + seed) % 256, (number * 91) % 256, (number * 53) % 256)
        Image.new("RGB", (40, 40), colour).save(folder / f"{seed}-{number}.png")
    return folder


@pytest.fixture(scope="module")
def served(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("s3")
    save(tiny_model(), folder / "model")
    root = s3_server.new_root()
    photos = draw(folder / "photos", 20, 0)
    for path in photos.iterdir():
        storage.write(root / "photos" / path.name, path.read_bytes())
    store = str(root / "store")
    lookalike("encode", str(root / "photos"), "--store", store, "--model", str(folder / "model"), "--buckets", "2")
    broken = new_collection(root / "store", 2, "broken")
    storage.write(broken.location / "manifest.json", b"{")
    with running(store) as (url, _):
        yield Served(url, store, collection_in(store))


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def search(served: Served, image_id: str) -> httpx.Response:
    return HTTP.post(f"{served.url}/v1/collections/default/search", json={"image_id": image_id, "count": 5})


def test_server_on_s3_answers_and_shows_photos_that_are_objects(served: Served) -> None:
    found = search(served, "0-3.png").json()
    assert (found["hits"][0]["image_id"], found["hits"][0]["distance"], len(found["hits"])) == ("0-3.png", 0, 5)
    photo = HTTP.get(f"{served.url}/v1/collections/default/images/0-3.png/photo")
    assert photo.headers["Content-Type"] == "image/png"
    again = HTTP.post(
        f"{served.url}/v1/collections/default/search/image?count=1",
        content=photo.content,
        headers={"Content-Type": "image/png"},
    ).json()
    assert again["hits"] == found["hits"][:1]


def test_server_on_s3_takes_writes_and_shows_them_at_once(served: Served) -> None:
    photo = HTTP.get(f"{served.url}/v1/collections/default/images/0-7.png/photo").content
    url = f"{served.url}/v1/collections/default/images/{quote('put/1', safe='')}"
    body = {"image": base64.b64encode(photo).decode(), "title": "put"}
    assert HTTP.put(url, json=body).status_code == 200
    stored = served.collection.find(["put/1"])["put/1"]
    assert storage.read(served.collection.folder / str(stored["photo"])) == photo
    until(lambda: search(served, "put/1").status_code == 200, 10, "the shard was not told")
    assert HTTP.get(f"{url}/photo").content == photo
    assert HTTP.delete(url).status_code == 200
    until(lambda: search(served, "put/1").status_code == 404, 10, "the shard was not told of the deletion")
    assert served.collection.find(["put/1"]) == {}


def test_server_on_s3_shows_what_a_job_writes_beside_it(served: Served, tmp_path: Path) -> None:
    lookalike("encode", str(draw(tmp_path / "more", 5, 1)), "--store", served.store)
    until(lambda: search(served, "1-2.png").status_code == 200, 30, "nobody looked at the token")


def test_server_lists_a_broken_collection_with_its_reason_and_serves_the_other(served: Served) -> None:
    status = HTTP.get(f"{served.url}/v1/status").json()
    assert [collection["name"] for collection in status["collections"]] == ["default"]
    assert "manifest.json is damaged" in status["unavailable"]["broken"]
    assert HTTP.get(f"{served.url}/readyz").status_code == 200
    for method, path, body in (
        ("POST", "search", {"image_id": "a"}),
        ("GET", "images/a", None),
        ("DELETE", "images/a", None),
    ):
        answer = HTTP.request(method, f"{served.url}/v1/collections/broken/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "collection_unavailable"), answer.text
