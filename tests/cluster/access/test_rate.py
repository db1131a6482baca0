"""The token bucket, against a slow count of what was admitted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.cluster.access.rate import RateLimit, TokenBucket

limits = st.builds(RateLimit, rate=st.floats(0.01, 1000), burst=st.integers(1, 20))


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(limits, st.lists(st.floats(0, 30), max_size=60))
def test_bucket_admits_no_more_than_burst_and_rate_in_any_time(limit: RateLimit, pauses: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(limit, clock)
    admitted: list[float] = []
    for pause in pauses:
        clock.now += pause
        if bucket.take() == 0:
            admitted.append(clock.now)
    for first, begin in enumerate(admitted):
        for last, end in enumerate(admitted[first:], first):
            assert last - first + 1 <= limit.burst + limit.rate * (end - begin) + 1e-3


@given(limits, st.integers(1, 50))
def test_bucket_admits_whoever_waits_as_long_as_told(limit: RateLimit, requests: int) -> None:
    clock = Clock()
    bucket = TokenBucket(limit, clock)
    started = clock.now
    for _ in range(requests):
        wait = bucket.take()
        if wait:
            clock.now += wait
            assert bucket.take() == 0
    assert clock.now - started <= max(0, requests - limit.burst) / limit.rate * 1.001 + 1e-6


@pytest.mark.parametrize(("text", "rate", "burst"), [("50", 50, 50), ("0.2", 0.2, 1), ("1.5:40", 1.5, 40)])
def test_limit_is_read_as_it_is_shown(text: str, rate: float, burst: int) -> None:
    limit = RateLimit.parse(text)
    assert (limit.rate, limit.burst) == (rate, burst)
    assert RateLimit.parse(str(limit)) == limit


@pytest.mark.parametrize("text", ["", "0", "-1", "1:0", "nan", "inf", "1e3", "1:", ":5", "9999999", "٣", "1:2:3"])
def test_limit_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RateLimit.parse(text)
