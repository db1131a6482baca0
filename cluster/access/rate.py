"""A token bucket: how many requests a second, and how many at once after a pause."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

# Sums of floats: without this, who waits exactly as long as told may be told to wait 1e-16 s more.
_ROUNDING = 1e-6
_LIMIT = re.compile(r"(\d+(?:\.\d+)?)(?::(\d+))?", re.ASCII)


class RateLimit(BaseModel):
    """Requests a second in the long run, and how many may come at once after a pause."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float = Field(gt=0, le=1e6, allow_inf_nan=False)
    burst: int = Field(ge=1, le=10**6)

    @classmethod
    def parse(cls, text: str) -> RateLimit:
        """Read ``RATE`` or ``RATE:BURST``; a burst that is not given is what comes in a second.

        Raises
        ------
        ValueError
            It is neither, or out of range.
        """
        found = _LIMIT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not RATE or RATE:BURST, such as 50 or 50:200 (requests a second, at once)")
        rate = float(found[1])
        return cls(rate=rate, burst=int(found[2]) if found[2] else max(1, round(rate)))

    def __str__(self) -> str:
        return f"{self.rate:g}:{self.burst}"


class TokenBucket:
    """Admits at most ``burst + rate * t`` requests in any ``t`` seconds. For one thread."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled_at = clock()

    def take(self) -> float:
        """Admit a request: 0. Or refuse it: the seconds after which one is admitted, if no other comes before it."""
        now = self._clock()
        self._tokens = min(self.limit.burst, self._tokens + (now - self._filled_at) * self.limit.rate)
        self._filled_at = now
        if self._tokens >= 1 - _ROUNDING:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.limit.rate
