"""The keys that a server knows: those it was started with, and those of a file that may change while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lookalike.cluster.access.keys import MAX_KEY_CHARS, ApiKey, BadKeys, check_distinct, digest_of, read_keys
from lookalike.cluster.access.rate import RateLimit, TokenBucket
from lookalike.cluster.access.roles import Role, role_of
from lookalike.errors import LookalikeError
from lookalike.storage import Location, Version

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""A key that was removed from the file is refused within so many seconds."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. ``name`` is that of the key; None: a request without one."""

    name: str | None
    role: Role
    bucket: TokenBucket | None


class KeyRing:
    """Find who sends a request by the key in it. For one thread.

    Keys are looked up by their SHA-256 in a dictionary. How long that takes may tell how much of the hash of the key in
    the request is like that of one that is known, but never lets anybody choose the next try: for a hash that is more
    alike he would have to invert SHA-256.

    Parameters
    ----------
    keys : sequence of ApiKey
    file : Location, optional
        Read at each first request of a second. One that cannot be read, or is damaged, changes nothing: the keys that
        were read last go on, and the log says so.
    clock : callable
        Seconds.
    must_read : bool
        Whether the file must be there and whole at the start. If not, and it is not, none of its keys is known yet:
        for a process that is started again while the server runs.

    Raises
    ------
    NotFound, StorageUnavailable, BadKeys
        ``must_read``, and the file could not be read.
    """

    def __init__(
        self,
        keys: Sequence[ApiKey],
        file: Location | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        must_read: bool = True,
    ) -> None:
        self._fixed = keys
        self._file = file
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._version: Version | None = None
        self._last_error = ""
        self._looked_at = clock()
        self._callers: dict[bytes, Caller] = {}
        self._take(())
        if file is not None:
            (self._read if must_read else self._look)(file)

    def find(self, key: str) -> Caller | None:
        """Who has this key; None: nobody."""
        now = self._clock()
        if self._file is not None and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look(self._file)
        return self._callers.get(digest_of(key)) if len(key) <= MAX_KEY_CHARS else None

    def _look(self, file: Location) -> None:
        try:
            self._read(file)
        except LookalikeError as error:
            if str(error) != self._last_error:
                logger.error("API keys are still those that were read last: %s", error)
            self._last_error = str(error)
        else:
            self._last_error = ""

    def _read(self, file: Location) -> None:
        keys, version = read_keys(file)
        if version != self._version:
            self._take(keys)
            self._version = version

    def _take(self, keys: Sequence[ApiKey]) -> None:
        every = [*self._fixed, *keys]
        try:
            check_distinct(every)
        except ValueError as error:
            raise BadKeys(f"of the keys of the file and of the environment, {error}") from None
        buckets = {key.name: self._bucket(key.name, key.limit) for key in every if key.limit is not None}
        self._callers = {
            bytes.fromhex(key.sha256): Caller(key.name, role_of(key.role), buckets.get(key.name)) for key in every
        }
        self._buckets = buckets

    def _bucket(self, name: str, limit: RateLimit) -> TokenBucket:
        """Keep a bucket as full as it is when something else in the file changes."""
        known = self._buckets.get(name)
        return known if known is not None and known.limit == limit else TokenBucket(limit, self._clock)
