"""When a search must end."""

from __future__ import annotations

from lookalike.errors import LookalikeError


class DeadlineExceeded(LookalikeError):
    """A search could not end in time, or would not have: HTTP 503. Argument: what took, or would take, too long."""
