"""Where something lies: one value for a local path, an S3 object and a photo on the web."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_COLLAPSED = re.compile(r"(s3|https|http|file|gs):/(?!/)")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
MAX_KEY_BYTES = 1024  # of S3
_ACCEPTED = "a local path, s3://bucket/prefix or https://host/path"


@dataclass(frozen=True, slots=True)
class Location:
    """A local path, ``s3://bucket/prefix`` or ``https://host/path``: a value, nothing is opened.

    Make one with ``parse``. ``str`` gives a text that ``parse`` reads back to an equal value. It may hold the query
    string of a signed URL, so messages show ``shown`` instead.
    """

    scheme: Literal["file", "s3", "https"]
    host: str
    """The bucket, or host[:port]; empty for a local path."""
    key: str
    """The absolute local path; or, without its leading slash, an object's key or a URL's path as it is sent."""
    query: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Location:
        """Read a location as a person writes it.

        A relative path is one of the current folder, and ``..`` in a path is resolved by its spelling.

        Raises
        ------
        ValueError
            Another scheme, no bucket name, a credential in a URL and the like; it says what is accepted.
        """
        given = os.fspath(text)
        if not given or "\0" in given:
            raise ValueError(f"a location is {_ACCEPTED}, not {given!r}")
        if _COLLAPSED.match(given):
            raise ValueError(f"{given!r} lost a slash, as a URL does that was made a Path; give it as text")
        scheme = _SCHEME.match(given)
        if scheme is None:
            return cls("file", "", os.path.abspath(given))  # noqa: PTH100 - Path.absolute keeps '..'
        rest = given[scheme.end() :]
        match scheme[1].lower():
            case "s3":
                return _parse_s3(rest)
            case "https":
                return _parse_https(rest)
            case "file":
                return _parse_file(rest)
            case other:
                raise ValueError(f"{other}:// is not supported; a location is {_ACCEPTED}")

    def __truediv__(self, relative: str) -> Location:
        """Give the location of a name below this one, such as ``"a/b.txt"``.

        Raises
        ------
        ValueError
            The name could leave this location (absolute, ``.`` or ``..``), has an empty part, a backslash or a NUL.
            So a name from a stranger may be joined without another check.
        """
        parts = relative.split("/")
        if "\0" in relative or "\\" in relative or any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"{relative!r} is not a name below {self.shown}: use parts joined by '/', without '..'")
        if self.query:
            raise ValueError(f"nothing can be below {self.shown}, which has a query string")
        joined = self._prefix + (quote(relative) if self.scheme == "https" else relative)
        if self.scheme == "s3":
            _check_key(joined)
        return Location(self.scheme, self.host, joined)

    def __str__(self) -> str:
        return self.shown + (f"?{self.query}" if self.query else "")

    @property
    def shown(self) -> str:
        """The text for messages: without a query string, which may be a signature."""
        if self.scheme == "file":
            return self.key
        return f"{self.scheme}://{self.host}" + (f"/{self.key}" if self.key else "")

    @property
    def _prefix(self) -> str:
        """What the keys of everything below begin with."""
        key = self.key if self.scheme == "s3" else self.key.rstrip("/")  # a key may have empty parts, a path not
        return f"{key}/" if key or self.scheme == "file" else ""

    @property
    def name(self) -> str:
        """The last part; empty for a bucket, a host and ``/``."""
        last = self.key.rpartition("/")[2]
        return unquote(last) if self.scheme == "https" else last

    @property
    def parent(self) -> Location:
        """The location one level up; of a bucket, a host and ``/`` the same one."""
        above = self.key.rpartition("/")[0]
        return Location(self.scheme, self.host, (above or "/") if self.scheme == "file" else above)

    @property
    def is_local(self) -> bool:
        return self.scheme == "file"

    @property
    def path(self) -> Path:
        """The local path.

        Raises
        ------
        ValueError
            The location is not local.
        """
        if self.scheme != "file":
            raise ValueError(f"{self.shown} is not a local path")
        return Path(self.key)


def _parse_s3(rest: str) -> Location:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _ADDRESS.fullmatch(bucket):
        raise ValueError(
            f"{bucket!r} is not the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens; "
            "give s3://bucket/prefix"
        )
    key = key.rstrip("/")
    _check_key(key)
    return Location("s3", bucket, key)


def _check_key(key: str) -> None:
    """Refuse what S3 refuses, and parts that HTTP clients and servers would resolve."""
    if any(part in {".", ".."} for part in key.split("/")):
        raise ValueError(f"the key {key!r} must not have '.' or '..' as a part")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError(f"the key {key!r} is not valid Unicode") from None
    if size > MAX_KEY_BYTES:
        raise ValueError(f"a key has at most {MAX_KEY_BYTES} bytes, and {key[:60]!r}... has {size}")


def _parse_https(rest: str) -> Location:
    try:
        parts = urlsplit(f"https://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("this https:// URL has no valid host and port") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold a user name or a password")
    if not host or not rest.isprintable() or " " in host:
        raise ValueError("a URL needs a host and no control characters: https://host/path")
    shown_host = f"[{host}]" if ":" in host else host
    return Location("https", shown_host + (f":{port}" if port else ""), parts.path[1:], parts.query)


def _parse_file(rest: str) -> Location:
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise ValueError(f"file://{host} names another machine; give a local path")
    return Location.parse(f"/{unquote(path).lstrip('/')}")
