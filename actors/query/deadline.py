"""When a search must end. Work is done in steps of a few milliseconds, with a look at the clock before each."""

from __future__ import annotations

import time

from lookalike.errors import LookalikeError


class DeadlineExceeded(LookalikeError):
    """A search could not end in time, or would not have: HTTP 503. Argument: what took, or would take, too long."""


def check(deadline: float | None, work: str) -> None:
    """Stop before more work when the time is up.

    Parameters
    ----------
    deadline : float or None
        On the clock of ``time.monotonic``; None: there is none.
    work : str
        What there still is to do, for the message.

    Raises
    ------
    DeadlineExceeded
        The deadline has passed.
    """
    if deadline is not None and time.monotonic() >= deadline:
        raise DeadlineExceeded(f"the time for this search was over before {work}; ask for less, or try again")
