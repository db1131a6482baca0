"""The backend of ``lookalike.storage`` for S3 and servers that speak it; what each function promises is said there.

Endpoint, region and credentials come from the usual environment and files of AWS (``AWS_ENDPOINT_URL_S3``,
``AWS_PROFILE`` and so on). The server must know conditional writes (``If-None-Match`` and ``If-Match`` of a put).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError

from lookalike.errors import Conflict, NotFound, StorageUnavailable, TooLarge

from . import s3_retry
from .backend import Info, Version
from .filesystem import buffered
from .location import Location

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
MAX_CONNECTIONS = 32
PIECE_BYTES = 8 << 20
"""A larger object is read in pieces, so that a lost connection costs one and each has a deadline of its own."""
PAGE_NAMES = 1000  # the most that S3 lists at once
MAX_RESTARTS = 3

_lock = threading.Lock()
_client: Any = None
_known_buckets: set[str] = set()


def client() -> Any:
    """Give the client of this process, made at the first use; threads share it, a fork makes its own."""
    global _client
    with _lock:
        if _client is None:
            _client = _new_client()
        return _client


def _new_client() -> Any:
    session = botocore.session.get_session()
    checksums = os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION")
    checksums = checksums or session.get_scoped_config().get("request_checksum_calculation")
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": MAX_CONNECTIONS,
        "tcp_keepalive": True,
        "retries": {"total_max_attempts": 1, "mode": "standard"},  # ours know which answers may have been lost
        # By default boto3 adds checksums that many servers other than AWS's do not know.
        "request_checksum_calculation": checksums or "when_required",
    }
    try:
        return boto3.session.Session(botocore_session=session).client("s3", config=Config(**options))
    except ValueError as error:
        raise StorageUnavailable(f"the configuration of S3 is wrong, see AWS_ENDPOINT_URL_S3: {error}") from error


def forget_client() -> None:
    """Make a new client at the next use: after a fork, or when the environment has changed."""
    global _client, _lock
    _client, _lock = None, threading.Lock()
    _known_buckets.clear()


os.register_at_fork(after_in_child=forget_client)


def call(verb: str, location: Location, request: Callable[[Any], T], *, deadline_s: float | None = None) -> T:
    """Send a request until it is answered or the deadline of ``s3_retry`` is over; its errors become ours."""
    return s3_retry.call(verb, location, lambda: request(client()), deadline_s=deadline_s)


def read(location: Location, max_bytes: int | None) -> bytes:
    found = _read(location, max_bytes=max_bytes)
    assert found is not None
    return found[0]


def read_versioned(location: Location) -> tuple[bytes, Version]:
    found = _read(location)
    assert found is not None
    return found


def read_if_changed(location: Location, version: Version | None) -> tuple[bytes, Version] | None:
    return _read(location, condition={} if version is None else {"IfNoneMatch": version})


def write(location: Location, content: bytes, *, durable: bool) -> Version:  # noqa: ARG001 - every object is
    return _put(location, content)


def create(location: Location, content: bytes) -> Version:
    return _put(location, content, IfNoneMatch="*")


def replace(location: Location, content: bytes, version: Version) -> Version:
    return _put(location, content, IfMatch=version)


def info(location: Location) -> Info:
    found = _head(location)
    return Info(found["ContentLength"], found["LastModified"], found["ETag"])


def list_names(location: Location) -> list[str]:
    prefix = f"{location.key}/" if location.key else ""
    found: set[str] = set()
    for page in _pages(location, prefix, Delimiter="/"):
        found.update(each["Key"][len(prefix) :] for each in page.get("Contents", []))
        found.update(each["Prefix"][len(prefix) : -1] for each in page.get("CommonPrefixes", []))
    return sorted(found - {""})  # some tools make an empty object to mark a folder


def list_tree(location: Location) -> list[str]:
    prefix = f"{location.key}/" if location.key else ""
    pages = _pages(location, prefix)
    keys = [each["Key"][len(prefix) :] for page in pages for each in page.get("Contents", [])]
    return sorted(key for key in keys if key and not key.endswith("/"))


def remove(location: Location) -> None:
    call("remove", location, lambda s3: s3.delete_object(**address(location)))


def remove_leftovers(location: Location, older_than_s: float) -> int:
    prefix = f"{location.key}/" if location.key else ""
    removed = 0
    for page in _upload_pages(location, prefix):
        for each in page.get("Uploads", []):
            if (datetime.now(UTC) - each["Initiated"]).total_seconds() > older_than_s:
                _abort(location.host, each["Key"], each["UploadId"])
                removed += 1
    return removed


def move(source: Location, target: Location) -> None:
    from .s3_upload import copy

    copy(source, target, _head(source))
    remove(source)


def open_random(location: Location, *, keep_blocks: bool) -> pa.NativeFile:
    from .s3_reader import open_random

    return open_random(location, keep_blocks=keep_blocks)


@contextlib.contextmanager
def create_file(location: Location) -> Iterator[BinaryIO]:
    from .s3_upload import PUT_BYTES, upload

    with tempfile.TemporaryFile(prefix="lookalike-") as spool:
        with buffered(spool.fileno(), Location.parse(tempfile.gettempdir())) as file:
            yield file
        size = os.fstat(spool.fileno()).st_size
        if size < PUT_BYTES:
            create(location, os.pread(spool.fileno(), size, 0))
        else:
            upload(location, spool.fileno(), size)


def presigned_url(location: Location, expires_s: int) -> str | None:
    def sign(s3: Any) -> str:
        return str(s3.generate_presigned_url("get_object", Params=address(location), ExpiresIn=expires_s))

    return call("sign a URL of", location, sign)


def address(location: Location) -> dict[str, str]:
    """Give the parameters that name an object."""
    if not location.key:
        raise ValueError(f"{location.shown} is a bucket, not an object in one")
    return {"Bucket": location.host, "Key": location.key}


def read_range(location: Location, version: Version, start: int, stop: int) -> bytes:
    """Read the bytes from ``start`` up to ``stop``, at most ``PIECE_BYTES``, of one version.

    Raises
    ------
    Conflict
        The object was replaced.
    NotFound, StorageUnavailable
    """

    def get(s3: Any) -> bytes:
        answer = s3.get_object(**address(location), IfMatch=version, Range=f"bytes={start}-{stop - 1}")
        return body(answer, stop - start)

    return call("read", location, get)


def body(answer: Any, size: int) -> bytes:
    """Read ``size`` bytes of an answer; fewer are an error that is retried."""
    with contextlib.closing(answer["Body"]) as stream:
        content = bytes(stream.read(size))
    if len(content) != size:
        raise IncompleteReadError(actual_bytes=len(content), expected_bytes=size)
    return content


def written_by(location: Location, write_id: str) -> Version | None:
    """Give the version of an object if this very write made it, whose answer may have been lost."""
    try:
        found = call("check", location, lambda s3: s3.head_object(**address(location)))
    except NotFound:
        return None
    return str(found["ETag"]) if found["Metadata"].get("write-id") == write_id else None


def _read(
    location: Location, *, max_bytes: int | None = None, condition: dict[str, str] | None = None
) -> tuple[bytes, Version] | None:
    """Read an object; None if it has the version of the condition."""

    def get(s3: Any) -> tuple[bytes, int, Version] | None:
        try:
            answer = s3.get_object(**address(location), **(condition or {}))
        except ClientError as error:
            if s3_retry.status_of(error) == 304:
                return None
            raise
        size = answer["ContentLength"]
        if max_bytes is not None and size > max_bytes:
            answer["Body"].close()
            raise TooLarge(f"{location.shown} has {size:,} bytes, more than {max_bytes:,}")
        return body(answer, min(size, PIECE_BYTES)), size, answer["ETag"]

    for _ in range(MAX_RESTARTS):
        first = call("read", location, get)
        if first is None:
            return None
        content, size, version = first
        starts = range(PIECE_BYTES, size, PIECE_BYTES)
        with contextlib.suppress(Conflict):  # replaced in the middle: begin again
            pieces = [read_range(location, version, start, min(start + PIECE_BYTES, size)) for start in starts]
            return b"".join([content, *pieces]) if pieces else content, version
    raise StorageUnavailable(f"cannot read {location.shown}: it is replaced faster than it can be read")


def _put(location: Location, content: bytes, **condition: str) -> Version:
    """Put an object, once, whatever is lost on the way.

    A put is sent again with the same condition when its answer was lost. Had the first one arrived, the condition
    does not hold any more: then the id that every write leaves in the metadata tells whether it was ours.
    """
    write_id = uuid.uuid4().hex
    attempts = 0
    arguments = {
        **address(location),
        "Body": content,
        "ContentMD5": base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
        "Metadata": {"write-id": write_id},
        **condition,
    }

    def put(s3: Any) -> Version:
        nonlocal attempts
        attempts += 1
        return str(s3.put_object(**arguments)["ETag"])

    try:
        return call("write", location, put)
    except (Conflict, NotFound) as error:
        if attempts > 1 and (version := written_by(location, write_id)) is not None:
            return version
        if isinstance(error, Conflict) and "IfNoneMatch" in condition:
            raise Conflict(f"{location.shown} is there already") from error.__cause__
        raise Conflict(f"{location.shown} was changed or removed by somebody else; read it again") from error.__cause__


def _head(location: Location) -> Any:
    """Send a HEAD of an object. A missing bucket gives the same empty 404, so that is looked up too, once."""
    try:
        return call("look up", location, lambda s3: s3.head_object(**address(location)))
    except NotFound:
        if location.host not in _known_buckets:
            bucket = Location("s3", location.host, "")
            call("look up", bucket, lambda s3: s3.head_bucket(Bucket=location.host))
            _known_buckets.add(location.host)
        raise


def _pages(location: Location, prefix: str, **arguments: str) -> Iterator[Any]:
    """List by pages, each retried alone."""
    arguments |= {"Bucket": location.host, "Prefix": prefix}
    while True:
        page = call("list", location, lambda s3: s3.list_objects_v2(**arguments, MaxKeys=PAGE_NAMES))
        yield page
        if not page.get("IsTruncated"):
            return
        arguments["ContinuationToken"] = page["NextContinuationToken"]


def _upload_pages(location: Location, prefix: str) -> Iterator[Any]:
    """List unfinished uploads by pages, each retried alone."""
    arguments = {"Bucket": location.host, "Prefix": prefix}
    while True:
        page = call("list uploads of", location, lambda s3: s3.list_multipart_uploads(**arguments))
        yield page
        if not page.get("IsTruncated"):
            return
        arguments.update(KeyMarker=page["NextKeyMarker"], UploadIdMarker=page["NextUploadIdMarker"])


def _abort(bucket: str, key: str, upload: str) -> None:
    at = Location("s3", bucket, key)
    with contextlib.suppress(NotFound):  # it came to an end meanwhile
        call("abort", at, lambda s3: s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload))
