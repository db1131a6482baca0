"""A collection holds what its oracle holds, whatever is done to it, on a disk and on S3 that fails now and then."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from support.s3 import Fault, Faults, S3Server
from support.store_machine import CollectionMachine

from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.storage import s3_retry

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]


def test_collection_equals_its_oracle_on_a_disk() -> None:
    run_state_machine_as_test(
        CollectionMachine,
        settings=settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=QUIET),
    )


def test_collection_equals_its_oracle_on_s3(
    s3_server: S3Server, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing lost and nothing doubled, though one request in eight fails, half of these after it was carried out."""
    monkeypatch.setattr(s3_retry, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(s3_retry, "MAX_PAUSE_S", 0.01)
    for fault in (Fault.UNAVAILABLE, Fault.DROPPED_BEFORE, Fault.DROPPED_AFTER, Fault.BROKEN, Fault.TRUNCATED):
        faults.add(fault, None, probability=0.025)
    faults.add(Fault.BUSY, None, probability=0.05, methods={"PUT"})
    faults.add(Fault.SLOW, None, probability=0.01, delay_s=0.05)

    class OnS3(CollectionMachine):
        where = [s3_server.new_root()]  # noqa: RUF012 - this class is used once

    run_state_machine_as_test(
        OnS3, settings=settings(max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=QUIET)
    )


@given(st.lists(st.text(max_size=20), max_size=50), st.integers(1, 100))
def test_bucket_of_cuts_the_keys_into_equal_ranges(ids: list[str], buckets: int) -> None:
    place = bucket_of(keys_of(ids), buckets)
    assert ((place >= 0) & (place < buckets)).all()
    assert place.tolist() == [int(key) // 2**32 * buckets // 2**32 for key in keys_of(ids)]
