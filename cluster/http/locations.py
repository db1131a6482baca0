"""Take the locations out of a message: clients need not know the disk or the bucket behind a server."""

from __future__ import annotations

import re

from lookalike.storage import Location

# A URL, or a path from the root. Quoted, it ends with its quote; bare, where the sentence goes on: a path may hold
# spaces, so what is not surely the sentence is left out as well.
_LOCATION = re.compile(
    r"""(["'])(?:\w+://|/)(?:(?!\1).)*\1"""
    r"""|(?:\b(?:s3|https?|file)://|(?<![\w.:/~-])/+(?=[^\s/])).*?(?=[:;,]\s|\s(?:is|has|was|holds)\s|$)""",
    re.MULTILINE,
)


def without_locations(message: str, root: Location | None = None) -> str:
    """Make locations below ``root`` relative to it, and leave out those that are elsewhere.

    What is wrong with which part of a store stays readable; the log of the server has the message as it was.
    """
    if root is not None and (shown := root.shown.rstrip("/")):
        message = re.sub(rf"{re.escape(shown)}(?:(/)|(?![\w.-]))", lambda at: "" if at[1] else "the store", message)
    return _LOCATION.sub("(a location)", message)
