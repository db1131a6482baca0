"""Which failures of S3 are transient, how long to retry them, and messages for whoever must act on the others."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from lookalike.errors import Conflict, LookalikeError, NotFound, StorageUnavailable

from .location import Location

T = TypeVar("T")

DEADLINE_S = 30.0
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0

_TRANSIENT = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,  # half an answer, or the error page of something in between
)
_TRANSIENT_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
_REFUSED_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound)
_SECRETS = re.compile(r"(?<=://)[^/\s@\"']*@|\?[^\s\"'<>]*")


def call(verb: str, location: Location, request: Callable[[], T], *, deadline_s: float | None = None) -> T:
    """Make a request again while its failures are transient and the deadline is not over.

    The pauses are random up to a bound that doubles ("full jitter"), so that writers who failed together do not come
    back together. Another attempt is made only if it would end in time were it as slow as the last one, and the
    deadline is ``DEADLINE_S`` after the call unless another is given.

    Raises
    ------
    NotFound, Conflict
        There is no such object; a condition of the request does not hold.
    StorageUnavailable
        Anything else, at once where waiting does not help.
    """
    started = time.monotonic()
    ends = started + (DEADLINE_S if deadline_s is None else deadline_s)
    for attempt in itertools.count():
        begun = time.monotonic()
        try:
            return request()
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            if not _is_transient(error):
                raise _final(verb, location, error) from error
            pause_s = random.uniform(0, min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
            now = time.monotonic()
            if now + pause_s + (now - begun) > ends:
                raise StorageUnavailable(
                    f"cannot {verb} {location.shown}: {_plain(error)} (tried {attempt + 1} times in "
                    f"{now - started:.0f} s); see whether the server is up and reachable"
                ) from error
            time.sleep(pause_s)
    raise AssertionError("the attempts have no end")


def status_of(error: ClientError) -> int:
    """Give the HTTP status of an answer that is an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_transient(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return isinstance(error, _TRANSIENT)
    status = status_of(error)
    return (status >= 500 and status != 501) or status == 429 or _code(error) in _TRANSIENT_CODES


def _final(verb: str, location: Location, error: Exception) -> LookalikeError:
    """Say what a failure means that is not transient."""
    cannot = f"cannot {verb} {location.shown}"
    if isinstance(error, _NO_CREDENTIALS):
        return StorageUnavailable(
            f"{cannot}: no credentials ({_plain(error)}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "AWS_PROFILE, or give the machine a role"
        )
    if not isinstance(error, ClientError):
        return StorageUnavailable(f"{cannot}: {_plain(error)}")
    code, status = _code(error), status_of(error)
    if status == 412:
        return Conflict(f"{location.shown} was changed by somebody else; read it again")
    if code == "NoSuchBucket" or (status == 404 and not location.key):
        return StorageUnavailable(f"{cannot}: there is no bucket {location.host!r}; make it, or correct its name")
    if status == 404:
        return NotFound(f"{location.shown} is not there")
    if code in _REFUSED_CREDENTIALS:
        return StorageUnavailable(f"{cannot}: the server refuses the credentials ({code}); renew or correct them")
    if status in {401, 403}:
        return StorageUnavailable(
            f"{cannot}: access denied; these credentials need s3:GetObject, s3:PutObject, s3:DeleteObject and, "
            "on the bucket, s3:ListBucket"
        )
    if status == 501:
        return StorageUnavailable(f"{cannot}: the server does not support this request ({_plain(error)})")
    return StorageUnavailable(f"{cannot}: {_plain(error)}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _plain(error: Exception) -> str:
    """Give the text of an error without what a URL in it may hold of secrets."""
    return _SECRETS.sub("", str(error))
