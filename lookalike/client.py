"""Call a running server from Python: one method per HTTP call, with typed answers.

Only the standard library is imported, so a program that searches needs no NumPy, Ray or TensorFlow.

    >>> from lookalike.client import Client
    >>> for hit in Client("http://localhost:8000").search("220000000/1", count=5)["hits"]:
    ...     print(hit["similarity"], hit["image_id"])

Answers are the JSON objects that the server sends, so a server that is newer than this client may add fields.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, Unpack, cast
from urllib.parse import quote, urlencode, urlsplit

from lookalike.errors import LookalikeError

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 60.0


class ClientError(LookalikeError):
    """A request that failed. Arguments: message, HTTP status, code, field; the last three None without an answer."""

    def __init__(
        self, message: str, status: int | None = None, code: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message, status, code, field)  # pickling replays args
        self.message = message
        self.status = status
        self.code = code
        self.field = field

    def __str__(self) -> str:
        return self.message


class SearchOptions(TypedDict, total=False):
    """How to search; what is not given has the server's default."""

    count: int
    filters: Sequence[Mapping[str, Any]]
    weights: Mapping[str, float]
    two_phase: bool
    collapse: bool
    verbose: bool
    require_all: bool


class ImageAttributes(TypedDict, total=False):
    """What a listing says of an image; what is not given is unknown."""

    listing_id: str
    group: str
    title: str
    description: str
    price: float
    lat: float
    lon: float
    created_at: str
    colour: str
    brand: str


class Hit(TypedDict):
    """An image of the catalogue that looks like the query.

    ``distance`` is the weighted Hamming distance in bits, 0 for the same descriptor; ``similarity`` is 1 minus its
    part of the largest distance possible, from 0 to 1. ``photo`` is a path on the server. ``components``, in bits and
    not weighted, come with ``verbose``.
    """

    image_id: str
    listing_id: str
    group: str
    group_name: str
    distance: float
    similarity: float
    photo: str
    components: NotRequired[dict[str, int]]


class Answer(TypedDict):
    """Hits, nearest first. Where ``shards_answered < shards_total``, some images were not searched."""

    query_id: str
    count: int
    took_ms: float
    shards_answered: int
    shards_total: int
    hits: list[Hit]


class PhotoCodes(TypedDict):
    """The codes of a photo in hexadecimal, and the version of the model that made them."""

    model: str
    short: str
    long: str


class StoredImage(TypedDict):
    """An image as it is stored."""

    image_id: str
    listing_id: str
    group: str
    group_name: str
    title: str
    description: str
    price: float | None
    lat: float | None
    lon: float | None
    created_at: str | None
    colour: str
    brand: str
    photo: str
    short: str
    long: str


class Written(TypedDict):
    """What a write did."""

    image_id: str
    status: Literal["stored", "deleted"]


class Component(TypedDict):
    """A part of the long code: its bits, and the weight that it has unless a search says otherwise."""

    bits: int
    weight: float


class ShardStatus(TypedDict):
    """One shard: how many of its replicas answer, and what they say."""

    rows: int
    replicas_answering: int
    replicas: int
    lag_s: float | None
    kernel_variant: str | None
    threads: int | None
    last_error: str


class CollectionStatus(TypedDict):
    """One collection."""

    name: str
    model: str
    short_bits: int
    components: dict[str, Component]
    rows: int
    shards: list[ShardStatus]


class Status(TypedDict):
    """The whole server."""

    version: str
    ready: bool
    collections: list[CollectionStatus]


class Client:
    """Calls for one collection of one server.

    Parameters
    ----------
    url : str
        Where the server listens: ``http://host:port``, or ``https://`` behind a proxy, with a path if it has one.
    collection : str
    timeout_s : float
        How long to wait for the server between two parts of its answer.

    Raises
    ------
    ValueError
        The URL is not one of a web server.
    ClientError
        By every method: the server refused, failed, or cannot be reached. The message is the server's own.
    """

    def __init__(
        self, url: str = DEFAULT_URL, collection: str = "default", timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"a server's URL is http://host:port, not {url!r}")
        self.url = url.rstrip("/")
        self.collection = collection
        self.timeout_s = timeout_s

    def search(self, image_id: str, **options: Unpack[SearchOptions]) -> Answer:
        """Find the images most like a stored one."""
        return cast(Answer, self._json("POST", self._path("search"), {"image_id": image_id, **options}))

    def search_photo(self, photo: bytes, **options: Unpack[SearchOptions]) -> Answer:
        """Find the images most like a photo: the bytes of a JPEG, PNG or WebP."""
        params = {name: json.dumps(value) for name, value in options.items()}
        path = f"{self._path('search/image')}?{urlencode(params)}"
        return cast(Answer, self._json("POST", path, photo))

    def encode(self, photo: bytes) -> PhotoCodes:
        """Turn a photo into its codes."""
        return cast(PhotoCodes, self._json("POST", self._path("encode"), photo))

    def image(self, image_id: str) -> StoredImage:
        """Read a stored image."""
        return cast(StoredImage, self._json("GET", self._image_path(image_id)))

    def photo(self, image_id: str) -> bytes:
        """Read the photo of a stored image."""
        return self._send("GET", f"{self._image_path(image_id)}/photo")

    def put(self, image_id: str, photo: bytes, **attributes: Unpack[ImageAttributes]) -> Written:
        """Add an image or replace it: durable when this returns, searchable within a second."""
        fields = {"image": base64.b64encode(photo).decode(), **attributes}
        return cast(Written, self._json("PUT", self._image_path(image_id), fields))

    def delete(self, image_id: str) -> Written:
        """Remove an image."""
        return cast(Written, self._json("DELETE", self._image_path(image_id)))

    def status(self) -> Status:
        """Show what the server holds: all its collections."""
        return cast(Status, self._json("GET", "/v1/status"))

    def _path(self, rest: str) -> str:
        return f"/v1/collections/{quote(self.collection, safe='')}/{rest}"

    def _image_path(self, image_id: str) -> str:
        return self._path(f"images/{quote(image_id)}")  # slashes stay: ids are like 220232453/1

    def _json(self, method: str, path: str, body: bytes | Mapping[str, Any] | None = None) -> object:
        content = self._send(method, path, body)
        try:
            return json.loads(content)
        except ValueError as error:
            raise ClientError(
                f"{self.url} answered with something other than JSON; is it a lookalike server?"
            ) from error

    def _send(self, method: str, path: str, body: bytes | Mapping[str, Any] | None = None) -> bytes:
        headers = {"Accept": "application/json"}
        if isinstance(body, bytes):
            headers["Content-Type"] = media_type_of(body)
        elif body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 - see __init__
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise _refusal(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(self._why(error)) from error

    def _why(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)  # urllib wraps what goes wrong before the answer begins
        if isinstance(reason, TimeoutError):
            return f"{self.url} did not answer within {self.timeout_s:g} s"
        if isinstance(reason, http.client.HTTPException):
            return f"the answer of {self.url} broke off, or is not HTTP ({reason!r})"
        return f"no server answers at {self.url} ({reason}); start one with `lookalike serve`"


def media_type_of(photo: bytes) -> str:
    """Tell a photo's media type from its first bytes; what is neither PNG nor WebP is taken for a JPEG."""
    if photo.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if photo.startswith(b"RIFF") and photo[8:12] == b"WEBP":
        return "image/webp"
    return "image/jpeg"


def _refusal(error: urllib.error.HTTPError) -> ClientError:
    """The server's own words, or the bare status where a proxy answered instead of the server."""
    try:
        body = json.loads(error.read())["error"]
        return ClientError(body["message"], error.code, body["code"], body.get("field"))
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        return ClientError(f"{error.url}: HTTP {error.code} {error.reason}", error.code)
