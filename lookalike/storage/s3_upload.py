"""Objects too large for one request: sent, or copied within S3, in parts."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lookalike.errors import Conflict, LookalikeError, NotFound, StorageUnavailable

from . import s3
from .location import Location

PUT_BYTES = 16 << 20
"""A smaller file is sent in one request."""
COPY_BYTES = 256 << 20
"""A larger object is copied in parts: S3 takes 5 GB at once, but the answer must come before the read timeout."""
MAX_PARTS = 10_000
THREADS = 4

SendPart = Callable[[Any, dict[str, Any], int, int], Any]
"""Sends bytes ``start`` to ``stop`` with a client as the part that the arguments name; gives its ETag."""


def upload(location: Location, descriptor: int, size: int) -> None:
    """Send an open file as a new object.

    Raises
    ------
    Conflict
        An object of this name is there.
    StorageUnavailable
    """

    def send(client: Any, part: dict[str, Any], start: int, stop: int) -> Any:
        return client.upload_part(**part, Body=os.pread(descriptor, stop - start, start))["ETag"]

    _in_parts(location, size, PUT_BYTES, send, {"IfNoneMatch": "*"})


def copy(source: Location, target: Location, head: dict[str, Any]) -> None:
    """Copy an object of which ``head`` is known within S3, replacing what is at ``target``."""
    origin = {"CopySource": s3.address(source), "CopySourceIfMatch": head["ETag"]}
    if head["ContentLength"] <= COPY_BYTES:
        s3.call("copy to", target, lambda client: client.copy_object(**s3.address(target), **origin))
        return

    def send(client: Any, part: dict[str, Any], start: int, stop: int) -> Any:
        answer = client.upload_part_copy(**part, **origin, CopySourceRange=f"bytes={start}-{stop - 1}")
        return answer["CopyPartResult"]["ETag"]

    _in_parts(target, head["ContentLength"], COPY_BYTES, send, {})


def _in_parts(location: Location, size: int, part_bytes: int, send: SendPart, condition: dict[str, str]) -> None:
    """Make an object of parts; after an error nothing of it is left."""
    write_id = uuid.uuid4().hex
    address = s3.address(location)
    begun = s3.call(
        "write", location, lambda client: client.create_multipart_upload(**address, Metadata={"write-id": write_id})
    )
    upload = {**address, "UploadId": begun["UploadId"]}
    part_bytes = max(part_bytes, -(-size // MAX_PARTS))

    def send_part(start: int) -> dict[str, Any]:
        number = start // part_bytes + 1
        stop = min(start + part_bytes, size)
        part = {**upload, "PartNumber": number}
        return {"PartNumber": number, "ETag": s3.call("write", location, lambda each: send(each, part, start, stop))}

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(send_part, range(0, size, part_bytes)))
        _complete(location, write_id, {**upload, "MultipartUpload": {"Parts": parts}, **condition})
    except BaseException:  # raised again: whatever it is, the parts cost money until they are removed
        with contextlib.suppress(LookalikeError):  # the first error is the one to tell
            s3.call("abort", location, lambda client: client.abort_multipart_upload(**upload), deadline_s=0)
        raise


def _complete(location: Location, write_id: str, arguments: dict[str, Any]) -> None:
    try:
        s3.call("write", location, lambda client: client.complete_multipart_upload(**arguments))
    except (Conflict, NotFound) as error:
        # After a lost answer there is no such upload any more, or its own object is in the way.
        if s3.written_by(location, write_id) is not None:
            return
        if isinstance(error, Conflict):
            raise Conflict(f"{location.shown} is there already") from error.__cause__
        raise StorageUnavailable(
            f"cannot write {location.shown}: its parts were removed before it was complete; write it again"
        ) from error
