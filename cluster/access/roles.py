"""Roles, and which of them a request needs. What is not listed here needs the highest."""

from __future__ import annotations

import re
from enum import IntEnum


class Role(IntEnum):
    """What a key lets its holder do; each role may do what those below it may."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3

    @property
    def title(self) -> str:
        """The name that files and options use."""
        return self.name.lower()


ROLES = tuple(role.title for role in Role if role is not Role.NONE)
"""The names of the roles that a key can have."""

_READ_BY_POST = re.compile(r"/v1/collections/[^/]+/(?:search|search/image|encode)")
_IMAGE = re.compile(r"/v1/collections/([^/]+)/images/(.+)", re.DOTALL)  # an id may hold whatever a URL can


def role_of(title: str) -> Role:
    """Find a role by its name.

    Raises
    ------
    KeyError
        There is none of this name.
    """
    return Role[title.upper()]


def required_role(method: str, path: str) -> Role:
    """Tell the role that a request needs, by method and path (percent-decoded, without the query).

    Only what is matched as a whole is let through for less than ``ADMIN``: routers match more than they say (Starlette
    takes ``/v1/status`` for the route of ``/v1/status`` with a line feed at its end), and a route that is added later
    must not be open because nobody thought of it here.
    """
    if method in ("GET", "HEAD"):
        if path in ("/openapi.json", "/v1/collections") or path.startswith("/v1/collections/"):
            return Role.READ
    elif method == "POST":
        if _READ_BY_POST.fullmatch(path):
            return Role.READ
    elif method in ("PUT", "DELETE") and _IMAGE.fullmatch(path):
        return Role.WRITE
    return Role.ADMIN


def image_of(path: str) -> tuple[str, str] | None:
    """The collection and the image id that a path names, if it names any."""
    found = _IMAGE.fullmatch(path)
    return None if found is None else (found[1], found[2])
