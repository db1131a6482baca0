"""API keys: how they are made, and what is kept of them.

A key is 256 random bits in text. What is kept is its SHA-256: from that nobody gets back to the key, since there are
too many keys to try. A slow hash (scrypt, Argon2) is for passwords, of which there are few enough; here it would add
CPU to every request and nothing else.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lookalike.cluster.access.rate import RateLimit
from lookalike.cluster.access.roles import ROLES
from lookalike.errors import Conflict, LookalikeError, NotFound
from lookalike.storage import Location, Version, private

ENVIRONMENT = "LOOKALIKE_API_KEYS"
PREFIX = "lk_"
# A key that an operator brings along must be as hard to guess as one of ours; of that only its length can be checked.
MIN_KEY_CHARS, MAX_KEY_CHARS = 32, 256
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]+", re.ASCII)  # what `Authorization: Bearer` takes (RFC 6750)
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class BadKeys(LookalikeError):
    """Keys that cannot be used, or a change of them that cannot be made. Argument: the reason, without any key."""


class ApiKey(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Of its holder; it is in the log of writes.")
    role: Literal["read", "write", "admin"]
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of the key, in hexadecimal.")
    limit: RateLimit | None = None


class KeyFile(BaseModel):
    """The content of a file of keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_distinct(self.keys)
        return self


def check_distinct(keys: Sequence[ApiKey]) -> None:
    """Raise ``ValueError`` where two keys have one name, or are the same key."""
    for values in ([key.name for key in keys], [key.sha256 for key in keys]):
        value, count = Counter(values).most_common(1)[0] if values else ("", 0)
        if count > 1:
            raise ValueError(f"{value!r} is there {count} times")


def new_key() -> str:
    """Draw a key."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def read_keys(file: Location) -> tuple[tuple[ApiKey, ...], Version]:
    """Read a file of keys, and its version. An empty file holds none.

    Raises
    ------
    NotFound, StorageUnavailable
    BadKeys
        It is damaged.
    """
    content, version = private.read_versioned(file)
    if not content.strip():
        return (), version
    try:
        return KeyFile.model_validate_json(content).keys, version
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadKeys(f"{file.shown} is no file of keys: {where and f'{where}: '}{first['msg']}") from None


def add_key(file: Location, name: str, role: Literal["read", "write", "admin"], limit: RateLimit | None) -> str:
    """Draw a key, add it to a file, which is made if it is not there, and return the key: it is kept nowhere else.

    Raises
    ------
    BadKeys
        There is a key of this name, or the name is none.
    StorageUnavailable
    """
    key = new_key()
    try:
        added = ApiKey(name=name, role=role, sha256=digest_of(key).hex(), limit=limit)
    except ValidationError:
        raise BadKeys(
            f"{name!r} is no name: 1 to 64 letters, digits, '.', '_' and '-', the first none of these"
        ) from None
    while True:
        keys, version = _present(file)
        if any(known.name == name for known in keys):
            raise BadKeys(f"{file.shown} has a key {name!r} already; remove it first, or choose another name")
        if _changed(file, [*keys, added], version):
            return key


def remove_key(file: Location, name: str) -> None:
    """Take a key out of a file. Servers that read the file refuse it within a second.

    Raises
    ------
    BadKeys
        There is none of this name.
    NotFound, StorageUnavailable
    """
    while True:
        keys, version = read_keys(file)
        rest = [key for key in keys if key.name != name]
        if len(rest) == len(keys):
            raise BadKeys(f"{file.shown} has no key {name!r}")
        if _changed(file, rest, version):
            return


def keys_from_environment(text: str) -> tuple[ApiKey, ...]:
    """Read ``name:role:key,...``, as a container gets them. No message holds any part of it but names and roles.

    Raises
    ------
    BadKeys
    """
    keys = []
    for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        name, _, rest = entry.partition(":")
        role, colon, key = rest.partition(":")
        if not colon:
            raise BadKeys(f"{ENVIRONMENT}: entry {number} is not name:role:key")
        if role not in ROLES:
            raise BadKeys(f"{ENVIRONMENT}: entry {number} needs a role of {', '.join(ROLES)}")
        if not (MIN_KEY_CHARS <= len(key) <= MAX_KEY_CHARS and _KEY.fullmatch(key)):
            raise BadKeys(
                f"{ENVIRONMENT}: the key of entry {number} must have {MIN_KEY_CHARS} to {MAX_KEY_CHARS} letters, "
                "digits and -._~+/= and be random, as `openssl rand -hex 32` makes them"
            )
        try:
            keys.append(ApiKey.model_validate({"name": name, "role": role, "sha256": digest_of(key).hex()}))
        except ValidationError:
            raise BadKeys(f"{ENVIRONMENT}: the name of entry {number} has other than letters, digits, . _ -") from None
    try:
        check_distinct(keys)
    except ValueError as error:
        raise BadKeys(f"{ENVIRONMENT}: {error}") from None
    return tuple(keys)


def _present(file: Location) -> tuple[tuple[ApiKey, ...], Version | None]:
    try:
        return read_keys(file)
    except NotFound:
        return (), None


def _changed(file: Location, keys: Sequence[ApiKey], version: Version | None) -> bool:
    """Write keys in place of those of ``version``; False if somebody else was faster."""
    content = (KeyFile(keys=tuple(keys)).model_dump_json(indent=2, exclude_none=True) + "\n").encode()
    try:
        if version is None:
            private.create(file, content)
        else:
            private.replace(file, content, version)
    except Conflict:
        return False
    return True
