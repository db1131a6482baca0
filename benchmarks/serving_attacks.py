"""Hostile clients: what they send, and a process that sends it. All of it goes to loopback, and ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import quote

import numpy as np
from serving_client import Client, run_async
from serving_requests import COLLECTION_PATH, http, random_ids, search
from serving_store import ROWS_WITH_PHOTO, BenchStore
from worker import Worker

_TIMEOUT_S = 120.0
# Between an answer and the next request of a connection: a flood of refused requests is another attack than these.
_PAUSE_S = 0.25
_SLOW_READ_BYTES = 64
_MANY = 200


class Manner(Enum):
    """How an attack treats its connections."""

    ASK = "sends whole requests, each when the last was answered"
    STALL = "sends all but the end of a request, and waits"
    DRIBBLE = "the same, and then a byte a second"
    READ_SLOWLY = "sends requests, and takes their answers a few bytes at a time"


@dataclass(frozen=True)
class Attack:
    """A hostile client.

    Attributes
    ----------
    requests : sequence of bytes
        Sent in turn by all connections; whole or, by those that stall, not.
    """

    name: str
    connections: int
    requests: Sequence[bytes]
    manner: Manner = Manner.ASK


def attacks(store: BenchStore) -> list[Attack]:
    """Those that the first version was hurt by."""
    rng = np.random.default_rng(0)
    ids = random_ids(store.rows, store.count, _MANY, 0)
    nested = b'{"image_id": "%b", "filters": [%b[]]}' % (ids[0].encode(), b"[]," * 699_999)
    path = f"{COLLECTION_PATH}/search"
    stalled = http("POST", path, b"-" * 100)[:-90]
    large = http("POST", path, b'{"image": "' + b"A" * 33_500_000)[:-1]
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    words = [" ".join(rng.choice(letters, 100)) for _ in range(_MANY)]
    patterns = [[_pattern(rng) for _ in range(9)] for _ in range(_MANY)]
    photos = store.rows.image_ids(np.arange(ROWS_WITH_PHOTO))
    return [
        Attack("2.1 MB of nested filters", 1, [http("POST", path, nested)]),
        Attack("256 sockets that sent 10 of 100 bytes", 256, [stalled], Manner.STALL),
        Attack("256 sockets that send a byte a second", 256, [stalled], Manner.DRIBBLE),
        Attack("nine stalled bodies of 33 MB", 9, [large], Manner.STALL),
        Attack("title filters of 100 words", 3, [_filtered(ids[0], "title", [text]) for text in words]),
        Attack("nine title filters of regular expressions", 3, [_filtered(ids[0], "title", few) for few in patterns]),
        Attack("128 queries of count 1,000", 128, [search(image_id=image_id, count=1000) for image_id in ids]),
        Attack("25 MB of 0xff as a photo", 2, [_photo(b"\xff\xd8" + b"\xff" * 24_999_990, "image/jpeg")]),
        Attack("a PNG of 50 megapixels", 4, [_photo(_large_png(), "image/png")]),
        Attack(
            "64 slow readers of photos",
            64,
            [http("GET", f"{COLLECTION_PATH}/images/{quote(image_id)}/photo") for image_id in photos],
            Manner.READ_SLOWLY,
        ),
    ]


def _filtered(image_id: str, field: str, texts: Sequence[str]) -> bytes:
    return search(image_id=image_id, count=20, filters=[{"field": field, "matches": text} for text in texts])


def _pattern(rng: np.random.Generator) -> str:
    word = "".join(rng.choice(list("abcdefgh"), 6))
    return f"({word}+)+$ [{word}]* .*{word[:2]}?"


def _photo(content: bytes, content_type: str) -> bytes:
    return http("POST", f"{COLLECTION_PATH}/search/image?count=20", content, content_type)


def _large_png() -> bytes:
    """Grey, and so 0.2 MB at the most: it takes 150 MB once it is decoded."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (7_070, 7_070), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()


class AttackProcess(Worker):
    """A process that attacks."""

    def __init__(self) -> None:
        super().__init__(_serve)

    def attack(self, attack: Attack, port: int, seconds: float) -> dict[str, int]:
        """Attack for so long; gives how many answers had which status. 0: the connection was closed or broke."""
        found: dict[str, int] = self.ask((attack, port, seconds))
        return found


def _serve(pipe: Connection) -> None:
    with contextlib.suppress(EOFError):
        while True:
            attack, port, seconds = pipe.recv()
            pipe.send(run_async(_attack(attack, port, seconds)))


async def _attack(attack: Attack, port: int, seconds: float) -> dict[str, int]:
    statuses: Counter[int] = Counter()
    requests = itertools.cycle(attack.requests)
    connect: dict[Manner, Any] = {
        Manner.ASK: _ask,
        Manner.STALL: _stall,
        Manner.DRIBBLE: _dribble,
        Manner.READ_SLOWLY: _read_slowly,
    }
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(
                *(connect[attack.manner](port, requests, statuses) for _ in range(attack.connections)),
            )
    return {str(status): count for status, count in statuses.items()}


async def _ask(port: int, requests: Iterator[bytes], statuses: Counter[int]) -> None:
    client = Client(port, _TIMEOUT_S)
    try:
        while True:
            status, _ = await client.ask(next(requests))
            statuses[status] += 1
            await asyncio.sleep(_PAUSE_S)
    finally:
        client.close()


async def _stall(port: int, requests: Iterator[bytes], statuses: Counter[int], dribbled: bytes = b"") -> None:
    """Begin a request, and wait until the server answers or closes; then again."""
    while True:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(next(requests))
            answer = asyncio.ensure_future(reader.read(4096))
            while dribbled and not (await asyncio.wait([answer], timeout=1.0))[0]:
                writer.write(dribbled)
            statuses[_status(await answer)] += 1
        except OSError:
            statuses[0] += 1
        finally:
            if writer is not None:
                writer.transport.abort()
        await asyncio.sleep(_PAUSE_S)


async def _dribble(port: int, requests: Iterator[bytes], statuses: Counter[int]) -> None:
    await _stall(port, requests, statuses, b"-")


async def _read_slowly(port: int, requests: Iterator[bytes], statuses: Counter[int]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.closing(socket.socket()) as connection:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with contextlib.suppress(OSError):
                await loop.sock_connect(connection, ("127.0.0.1", port))
                await loop.sock_sendall(connection, next(requests))
                received = await loop.sock_recv(connection, _SLOW_READ_BYTES)
                statuses[_status(received)] += 1
                while received:
                    await asyncio.sleep(_PAUSE_S)
                    received = await loop.sock_recv(connection, _SLOW_READ_BYTES)
        await asyncio.sleep(_PAUSE_S)


def _status(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0
